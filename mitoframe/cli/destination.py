"""A file that is to be written: its name says what it becomes, and it is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePath

import click


class Destination(click.Path):
    """A path in a folder that is there, with one of some endings."""

    def __init__(self, suffixes: Collection[str]) -> None:
        """Take the endings, such as ``.png``."""
        super().__init__(dir_okay=False)
        self.suffixes = suffixes

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path, or refuse it before anything is read."""
        path = os.fsdecode(super().convert(value, param, ctx))
        if suffix_of(path) not in self.suffixes:
            self.fail(f"{path} ends in none of {', '.join(self.suffixes)}.", param, ctx)
        if not os.path.isdir(os.path.dirname(path) or os.curdir):
            self.fail(f"{path} would be in a folder that is not there.", param, ctx)
        return path


def suffix_of(path: str) -> str:
    """Return the ending of a file's name, in small letters."""
    return PurePath(path).suffix.lower()


@contextmanager
def whole_or_not(path: str) -> Iterator[str]:
    """Yield a name of the same ending to write to, which becomes ``path`` if nothing is raised."""
    folder, name = os.path.split(path)
    part = os.path.join(folder, f".part.{name}")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise
