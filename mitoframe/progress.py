"""A bar for what takes longer than a second, where somebody looks: in a terminal or a notebook.

    a write as large as a backfill      table.write, append, df.to_mito
    a merge that was asked for          table.compact
    deletion, indexes, a look at all    table.vacuum, table.build_index, table.coverage(tag), db.verify
    rows that are in the log only       whatever asks for a table first

Bars are tqdm's, and so is the switch: with ``TQDM_DISABLE=1`` in the environment there is none. It is looked up each
time, so that ``os.environ["TQDM_DISABLE"] = "1"`` in a cell counts from there on.

What a store does by itself shows none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm.auto import tqdm

_SECONDS_WITHOUT = 1.0
_SWITCH = "TQDM_DISABLE"


@contextmanager
def progress(what: str, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function to be called with how much is done so far. It shows a bar after the first second.

    Nothing is shown where nobody looks.
    """
    if not _is_watched():
        yield lambda _: None
        return
    from tqdm.auto import tqdm  # It looks for a notebook when imported, which takes its time.

    with tqdm(desc=what, unit=f" {unit}", unit_scale=True, delay=_SECONDS_WITHOUT, leave=False) as bar:
        yield lambda done: _advance(bar, done)


def _advance(bar: tqdm[None], done: int) -> None:
    bar.update(done - bar.n)


def _is_watched() -> bool:
    # As tqdm has it: whatever it is set to. By itself it asks once only, when it is imported.
    return not os.environ.get(_SWITCH) and (sys.stderr.isatty() or in_notebook())


def in_notebook() -> bool:
    """Tell whether this runs in IPython, where cells are run again."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
