"""Compaction: forget what keys were before a revision, and keys that were gone by then.

That a compaction is scheduled is durable before anything is dropped, and refuses older revisions from then on; so it
makes no difference to anybody how much of it is done. It walks through the index in batches, each a transaction of its
own, with a pause in which others may write. Where it has come is not remembered: a store that is opened with a
compaction unfinished begins it anew, and finds nothing to do where it has been. Any number of processes may do so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from mitoframe.kv.txn import Changing

BATCH_ROWS = 1_000
PAUSE_S = 0.002


def finish(begin: Callable[[], AbstractContextManager[Changing]], revision: int) -> None:
    """Drop what is scheduled to be.

    Args:
        begin: begins a transaction.
        revision: below which things are forgotten.

    """
    start: bytes | None = b""
    while start is not None:
        with begin() as changing:
            start = changing.drop_batch(start, revision, BATCH_ROWS)
            if start is None:
                changing.finish_compaction(revision)
        if start is not None:
            time.sleep(PAUSE_S)
