"""`mito`: the verbs of a store for a shell. Each is a call of the same name, and prints what that returns.

    0    done, and nothing is wrong
    1    something is: findings of `doctor`, flaws of `verify`, damage that was met on the way
    2    the command line cannot be carried out as it is: no such verb, option, store, table, column, moment
    3    the store cannot do it now: somebody else writes to it, the disk is full, storage does not answer
    130  interrupted
    141  whoever read the output has gone

What only looks opens the store for reading, also while another process writes to it. Only `ingest` makes a store.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import polars as pl

from mitoframe.cli import changing, checking, looking, trying
from mitoframe.cli.options import FINE, FOUND, INTERRUPTED, NOT_NOW, UNREAD, USAGE
from mitoframe.cli.showing import say
from mitoframe.model.errors import (
    CorruptionError,
    InvalidInputError,
    LimitExceededError,
    MitoError,
    ReadOnlyError,
    SnapshotExpiredError,
    TableExistsError,
    TableNotFoundError,
)

_USAGE_ERRORS = (
    InvalidInputError,
    LimitExceededError,
    ReadOnlyError,
    SnapshotExpiredError,
    TableExistsError,
    TableNotFoundError,
)


class _Program(click.Group):
    """Ends with the exit codes above, and lists its verbs in the order in which they were added."""

    def main(self, *arguments: Any, standalone_mode: bool = True, **more: Any) -> Any:
        code = _exit_code(partial(super().main, *arguments, standalone_mode=False, **more))
        if not standalone_mode:
            return code
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is left in the buffer would be written once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return UNREAD
        return code

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - so it is asked
        return list(self.commands)


def _exit_code(run: Callable[[], Any]) -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = run()
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip(), is_error=True)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except MitoError as error:
        say(": ".join(["mito", *getattr(error, "__notes__", ()), str(error)]), is_error=True)
        return _code_of(error)
    except pl.exceptions.PolarsError as error:
        say(f"mito: {error}", is_error=True)
        return USAGE
    except OSError as error:
        say(f"mito: {error}", is_error=True)
        return NOT_NOW
    return code if isinstance(code, int) else FINE


def _code_of(error: MitoError) -> int:
    if isinstance(error, CorruptionError):
        return FOUND
    return USAGE if isinstance(error, _USAGE_ERRORS) else NOT_NOW


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"mito: {message}", is_error=True)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mitoframe")
def mito() -> None:
    """Look at a store of time series, check it and change it.

    STORE is a folder. Exit codes: 0 done and nothing is wrong, 1 findings or damage, 2 the command line cannot be
    carried out, 3 the store cannot do it now, 130 interrupted.
    """


for verb in (*looking.VERBS, *checking.VERBS, *trying.VERBS, *changing.VERBS):
    mito.add_command(verb)
