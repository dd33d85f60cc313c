"""A file that is damaged is told of and left out of merges, others are merged, and nothing is lost by it (faults.md S1,
S2): whoever puts the file back has every row again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from expected import EMPTY, shown
from judge import check_files, observed, opened
from operations import Create, Delete, Flush, LastingMeta, Place, Session, Write
from scenarios import CONFIG, HOURS, Scenario

import mitoframe as mito
from mitoframe.model.errors import CorruptionError
from mitoframe.model.file import FileMeta
from mitoframe.model.options import MitoConfig
from mitoframe.model.timerange import TimeRange
from mitoframe.storage import sst_bytes, sst_writer
from mitoframe.storage.paths import sst_key
from mitoframe.testing.vfs_memory import MemoryVfs

NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))
DAY_MS = 86_400_000
FILES_A_DAY, DAYS, DAMAGED_DAY = 3, 3, 1
MANUAL = replace(CONFIG, compaction_mode="manual")
AUTOMATIC = replace(CONFIG, compaction_settle_ms=0)
SCENARIO = Scenario(
    operations=(),
    prepared=(
        Create("cpu", HOURS),
        *(step for number in range(6) for step in (Write(number, day=number // 2), Flush())),
        *(step for day in range(DAYS) for step in (Delete(7 + day, day=day), Write(6 + day, day=day), Flush())),
    ),
    settings={"compaction_mode": "manual"},
)

Damage = Callable[[bytes], bytes | None]
"""Given a file, what is there instead; None is nothing."""


def flipped(at: float) -> Damage:
    """Flip a bit there: 0 is the first byte of a file, 1 the last."""

    def damage(content: bytes) -> bytes:
        place = round(at * (len(content) - 1))
        return content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]

    return damage


PLACES = [place / (400 if NIGHTLY else 10) for place in range(401 if NIGHTLY else 11)]
WHOLE: dict[str, Damage] = {
    "gone": lambda _: None,
    "empty": lambda _: b"",
    "cut short": lambda content: content[:-100],
    "too long": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "reversed": lambda content: content[::-1],
}
DAMAGES = {f"a bit at {place:.4g}": flipped(place) for place in PLACES} | WHOLE


class Damaged:
    """A store of three days with three files each. One file of the second day is damaged, and can be put back."""

    def __init__(self, damage: Damage) -> None:
        self.disk, self.meta = MemoryVfs(), LastingMeta()
        SCENARIO.prepare(Place(self.disk, self.meta))
        with opened(self.place, MANUAL) as session:
            self.rows = observed(session)
            of_day = [file for file in files(session) if file.min_time // DAY_MS == DAMAGED_DAY]
            self.file = sorted(of_day, key=lambda file: file.min_sequence)[1]
            self.key = sst_key(session.region("cpu"), self.file.file_id)
        self.content = self.disk.read(self.key)
        self.store(damage(self.content))

    @property
    def place(self) -> Place:
        return Place(self.disk, self.meta)

    def store(self, content: bytes | None) -> None:
        if self.key.rpartition("/")[2] in self.disk.list(self.key.rpartition("/")[0]):
            self.disk.unlink(self.key)
        if content is not None:
            file = self.disk.create(self.key)
            file.write(content)
            file.close()

    def repair(self) -> None:
        self.store(self.content if self.is_listed() else None)

    def is_listed(self) -> bool:
        with opened(self.place, MANUAL) as session:
            return self.file in files(session)


def files(session: Session) -> list[FileMeta]:
    return list(session.engine.region(session.region("cpu")).state.files.values())


def failures(session: Session) -> dict[str, BaseException]:
    return dict(session.engine.health().regions[0].failures)


def refusal_of(session: Session) -> CorruptionError | None:
    """Return what is said of damage when everything is to be merged."""
    try:
        session.table("cpu").compact()
    except CorruptionError as error:
        return error
    return None


def files_of_days(session: Session) -> list[int]:
    days = [file.min_time // DAY_MS for file in files(session)]
    return [days.count(day) for day in range(DAYS)]


def test_what_was_prepared_is_what_brute_force_says() -> None:
    damaged = Damaged(lambda content: content)
    state = EMPTY
    for operation in SCENARIO.prepared:
        state = operation.outcomes(state)[-1]

    assert damaged.rows == shown(state)
    with opened(damaged.place, MANUAL) as session:
        assert files_of_days(session) == [FILES_A_DAY] * DAYS


@pytest.mark.parametrize("how", DAMAGES)
def test_who_asks_is_told_the_path_and_everything_else_is_merged(how: str) -> None:
    damaged = Damaged(DAMAGES[how])
    with opened(damaged.place, MANUAL) as session:
        with pytest.raises(CorruptionError) as told:
            session.table("cpu").compact()

        assert damaged.file.file_id in told.value.path
        assert damaged.file in files(session)
        assert files_of_days(session) == [1, 2, 1]  # Of the damaged day, the two others are one file now.
        assert isinstance(failures(session)[f"damaged file {damaged.file.file_id}"], CorruptionError)
        assert session.table("cpu").compact().removed == ()  # It is not tried again.

    with opened(damaged.place, MANUAL) as session:
        assert files_of_days(session) == [1, 2, 1]
        assert failures(session) == {}
        with pytest.raises(CorruptionError, match=damaged.file.file_id):  # The next process finds it again.
            session.table("cpu").compact()
        assert files_of_days(session) == [1, 2, 1]

    damaged.repair()
    with opened(damaged.place, MANUAL) as session:
        assert observed(session) == damaged.rows
        assert session.table("cpu").compact().merges == 1
        assert files_of_days(session) == [1, 1, 1]
        assert observed(session) == damaged.rows
        check_files(session)


def test_a_bit_in_any_block_of_a_file_is_told_or_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sst_writer, sst_bytes):
        monkeypatch.setattr(module, "BLOCK_BYTES", 512)  # So that it is met in the middle of a merge.
    told = 0

    for place in PLACES:
        damaged = Damaged(flipped(place))
        with opened(damaged.place, replace(MANUAL, sst_size_bytes=4_000)) as session:
            assert damaged.file.blocks
            error = refusal_of(session)
            if error is not None:
                assert damaged.file.file_id in error.path
                assert damaged.file in files(session)
                told += 1
            else:  # The names of the tags are not read from there.
                assert observed(session) == damaged.rows
            check_files(session)
        damaged.repair()
        with opened(damaged.place, MANUAL) as session:
            assert observed(session) == damaged.rows

    assert told > len(PLACES) / 2


@pytest.mark.parametrize("how", list(DAMAGES)[:: 1 if NIGHTLY else 4])
def test_what_is_merged_by_itself_leaves_a_damaged_file_out_and_says_so(how: str) -> None:
    damaged = Damaged(DAMAGES[how])
    with opened(damaged.place, AUTOMATIC) as session:
        assert files_of_days(session) == [3, 3, 3]
        for _ in range(3):
            session.scheduler.tick()

        assert files_of_days(session) == [1, 2, 1]
        assert isinstance(failures(session)[f"damaged file {damaged.file.file_id}"], CorruptionError)
        Write(8, day=2).run(session)
        Flush().run(session)  # Nobody who writes is troubled by it.
        session.scheduler.tick()
        assert files_of_days(session) == [1, 2, 1]

    damaged.repair()
    with opened(damaged.place, AUTOMATIC) as session:
        assert files_of_days(session)[DAMAGED_DAY] == 2
        session.scheduler.tick()
        assert (files_of_days(session), failures(session)) == ([1, 1, 1], {})


@pytest.mark.parametrize("how", ["a bit at 0.5", "gone"])
def test_rows_beside_a_damaged_file_are_read_and_never_fewer_than_there_are(how: str) -> None:
    damaged = Damaged(DAMAGES[how])
    with opened(damaged.place, MANUAL) as session:
        with pytest.raises(CorruptionError, match=damaged.file.file_id):
            session.table("cpu").compact()

        day = TimeRange(DAY_MS * DAMAGED_DAY, DAY_MS * (DAMAGED_DAY + 1))
        others = session.table("cpu").scan(end="1970-01-02").collect()
        with pytest.raises(CorruptionError, match=damaged.file.file_id):
            session.table("cpu").scan().collect()

        assert others.height == sum(row[1] < day.start for row in damaged.rows["cpu"][1])


def test_a_truncated_table_forgets_what_was_damaged() -> None:
    damaged = Damaged(DAMAGES["zeros"])
    with opened(damaged.place, MANUAL) as session:
        with pytest.raises(CorruptionError):
            session.table("cpu").compact()

        session.table("cpu").truncate(start="1970-01-02", end="1970-01-03")

        assert f"damaged file {damaged.file.file_id}" not in failures(session)
        assert files_of_days(session) == [1, 0, 1]


def test_a_damaged_file_is_told_through_the_door(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ts": [0, 1, 2], "host": ["a", "b", "c"], "load": [0.5, 1.5, 2.5]})
    frame = frame.with_columns(pl.col("ts").cast(pl.Datetime("ms")))
    with mito.open(tmp_path, config=MitoConfig(compaction_mode="manual")) as db:
        for _ in range(3):
            db.write(frame, "cpu", time="ts", tags=["host"])
            db["cpu"].flush()
        names = db["cpu"].files().sort("min_sequence")["file_id"].to_list()
    [path] = tmp_path.glob(f"regions/*/sst/{names[1]}.parquet")
    content = path.read_bytes()
    path.write_bytes(flipped(0.3)(content))

    with mito.open(tmp_path) as db, pytest.raises(CorruptionError) as told:
        db["cpu"].compact()

    assert str(path.name) in told.value.path
    assert path.name in str(told.value)
    path.write_bytes(content)
    with mito.open(tmp_path) as db:
        db["cpu"].compact()
        assert db["cpu"].scan().count() == 3
