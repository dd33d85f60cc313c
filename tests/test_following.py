from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import polars as pl
import pytest
from builders import REGION, Row, batch_of, create, delete, metadata_of, open_engine, put

from mitoframe import following, verbs
from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.model.errors import ClosedError, InvalidInputError, SnapshotExpiredError
from mitoframe.scan import Scan

METADATA = metadata_of()


@dataclass
class Store:
    """A store that one engine writes and another, as in a process of its own, reads."""

    objects: MemoryObjectStore = field(default_factory=lambda: MemoryObjectStore(ManualClock()))
    log: MemoryLog = field(default_factory=MemoryLog)
    steps: list[Callable[[], object]] = field(default_factory=list)
    waited: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer = open_engine(self.objects, self.log)
        create(self.writer, METADATA)
        self.reader = open_engine(self.objects, self.log, read_only=True)

    def write(self, *rows: Row) -> None:
        self.writer.write(REGION, batch_of(METADATA, list(rows)))

    def scan(self, where: pl.Expr | None = None, columns: tuple[str, ...] | None = None) -> Scan:
        return scan_of(self.reader, where, columns)

    def wait(self, interval_ms: int) -> None:
        """Let the writer do its next step instead of letting time pass."""
        self.waited.append(interval_ms)
        self.steps.pop(0)()


def scan_of(engine: MitoEngine, where: pl.Expr | None = None, columns: tuple[str, ...] | None = None) -> Scan:
    return Scan(
        table="cpu",
        engine=engine,
        check_open=engine._check_open,
        region_id=REGION,
        metadata=METADATA,
        where=where,
        columns=columns,
    )


@pytest.fixture
def store() -> Store:
    return Store()


def cpus(frames: Iterator[pl.DataFrame], count: int) -> list[list[int]]:
    return [frame["cpu"].to_list() for frame in islice(frames, count)]


def test_the_tail_is_the_last_rows_by_time(store):
    store.write(*(put(0, time, host, time) for time in range(8) for host in "ab"))

    assert following.tail(store.scan(), 3).select("ts", "host", "cpu").to_dict(as_series=False)["cpu"] == [6, 7, 7]
    assert following.tail(store.scan())["cpu"].to_list() == [3, 3, 4, 4, 5, 5, 6, 6, 7, 7]


def test_rows_come_as_another_process_writes_them(store):
    store.write(put(0, 1, cpu=1))
    frames = following.follow(store.scan(), wait=store.wait)
    store.write(put(0, 2, cpu=2), put(0, 0, cpu=3))
    store.steps = [lambda: None, lambda: store.write(put(0, 5, cpu=4)), lambda: store.write(put(0, 4, cpu=5))]

    assert cpus(frames, 3) == [[3, 2], [4], [5]]
    assert store.waited == [1000] * 3


def test_the_last_rows_may_come_first(store):
    store.write(*(put(0, time, cpu=time) for time in range(5)))
    frames = following.follow(store.scan(), 2, interval="5s", wait=store.wait)
    store.steps = [lambda: store.write(put(0, 9, cpu=9))]

    assert cpus(frames, 2) == [[3, 4], [9]]
    assert store.waited == [5000]


def test_no_row_is_lost_or_seen_twice_when_it_moves_to_a_file_and_on(store):
    frames = following.follow(store.scan(), wait=store.wait)

    def flushed(time: int) -> None:
        store.write(put(0, time, cpu=time))
        store.writer.flush(REGION)

    def compacted(time: int) -> None:
        store.write(put(0, time, cpu=time))
        store.writer.flush(REGION)
        store.writer.compact(REGION)
        store.writer.vacuum(REGION, grace_ms=0)

    store.steps = [
        lambda: flushed(1),
        lambda: store.write(put(0, 2, cpu=2)),
        lambda: compacted(3),
        lambda: store.writer.flush(REGION),
        lambda: flushed(4),
    ]

    assert cpus(frames, 4) == [[1], [2], [3], [4]]


def test_a_row_that_is_written_again_comes_again_and_one_that_is_deleted_does_not(store):
    store.write(put(0, 1, cpu=1), put(0, 2, cpu=2))
    frames = following.follow(store.scan(), wait=store.wait)
    store.steps = [
        lambda: store.write(put(0, 1, cpu=7)),
        lambda: store.write(delete(0, 2)),
        lambda: store.write(put(0, 3, cpu=3)),
    ]

    assert cpus(frames, 2) == [[7], [3]]


def test_conditions_and_columns_of_the_scan_hold_for_what_comes(store):
    frames = following.follow(store.scan(pl.col("cpu") > 5, ("cpu",)), wait=store.wait)
    store.steps = [lambda: store.write(put(0, 1, cpu=5)), lambda: store.write(put(0, 2, cpu=6), put(0, 3, cpu=1))]

    [frame] = islice(frames, 1)

    assert frame.to_dict(as_series=False) == {"cpu": [6]}


def replace_files(store: Store, cpu: int) -> None:
    store.write(put(0, 1, cpu=cpu))
    store.writer.flush(REGION)
    store.writer.compact(REGION)
    store.writer.vacuum(REGION, grace_ms=0)


@pytest.mark.parametrize("times", [1, following.LOOKS_MAX])
def test_files_that_vanish_while_they_are_read_are_looked_for_again(store, monkeypatch, times):
    frames = following.follow(store.scan(), wait=store.wait)
    store.write(put(0, 1, cpu=0))
    store.writer.flush(REGION)
    reads, left = verbs.reads, list(range(1, times + 1))

    def late(*arguments):
        if left:
            replace_files(store, left.pop(0))
        return reads(*arguments)

    monkeypatch.setattr(verbs, "reads", late)

    if times < following.LOOKS_MAX:
        assert cpus(frames, 1) == [[times]]
    else:
        with pytest.raises(SnapshotExpiredError):
            next(frames)


def test_following_ends_when_the_generator_or_the_store_is_closed(store):
    first = following.follow(store.scan(), wait=store.wait)
    second = following.follow(store.scan(), wait=store.wait)
    first.close()
    store.reader.close()

    assert list(first) == []
    with pytest.raises(ClosedError):
        next(second)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"interval": "soon"}, {"interval": "0s"}], ids=str)
def test_what_cannot_be_followed_is_refused_at_once(store, arguments):
    with pytest.raises(InvalidInputError):
        following.follow(store.scan(), wait=store.wait, **arguments)


def test_a_condition_on_several_rows_cannot_be_followed(store):
    with pytest.raises(InvalidInputError, match="several rows"):
        following.follow(store.scan(pl.col("cpu") > pl.col("cpu").mean()), wait=store.wait)
