"""The checks of a region that need no files: what a state lists, and what lies beside it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from builders import REGION, batch_of, create, file_id_of, file_of, metadata_of, open_engine, put

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.jobs.verify import check_listing, check_log, check_sizes, check_state
from mitoframe.model.edit import RegionState
from mitoframe.model.file import FileMeta, RemovedFile
from mitoframe.model.ids import EntryId, Sequence
from mitoframe.model.index import IndexMeta
from mitoframe.model.options import RegionOptions
from mitoframe.ports import ObjectMeta
from mitoframe.storage.paths import index_key, sst_key
from mitoframe.storage.wal import Wal, encode_write

FILE = file_of("a", 0, 9)


def state_of(*files: FileMeta, **known: Any) -> RegionState:
    facts: dict[str, Any] = {"committed_sequence": Sequence(10)} | known
    listed = MappingProxyType({file.file_id: file for file in files})
    return RegionState(metadata=metadata_of(), options=RegionOptions(), files=listed, **facts)


def sst(name: str, size_bytes: int = 1000, modified_ms: int = 0) -> ObjectMeta:
    return ObjectMeta(key=sst_key(REGION, file_id_of(name)), size_bytes=size_bytes, modified_ms=modified_ms)


def sidecar(name: str, version: int) -> ObjectMeta:
    return ObjectMeta(key=index_key(REGION, file_id_of(name), version), size_bytes=10, modified_ms=0)


def said(checked: Any) -> list[str]:
    return [flaw.what for flaw in checked.flaws]


def test_nothing_is_wrong_with_a_file_as_it_is_listed() -> None:
    assert check_state(state_of(FILE)).flaws == ()


@pytest.mark.parametrize(
    ("lie", "what"),
    [
        ({"row_count": 0}, "has an impossible number of rows"),
        ({"delete_count": 11}, "has an impossible number of rows"),
        ({"min_time": 10}, "ends before it begins"),
        ({"min_sequence": 11}, "has its newest row before its oldest"),
        ({"max_sequence": 11}, "has rows that are newer than any that were committed"),
        ({"schema_version": 2}, "has a schema that the table never had"),
    ],
)
def test_what_cannot_be_is_found(lie: dict[str, Any], what: str) -> None:
    assert what in said(check_state(state_of(replace(FILE, **lie))))[0]


def test_a_file_that_is_listed_under_another_name_is_found() -> None:
    state = replace(state_of(), files=MappingProxyType({file_id_of("b"): FILE}))

    assert said(check_state(state)) == [f"file {file_id_of('b')} as it is listed has another identifier"]


def test_files_that_are_missing_or_have_another_size_are_found_in_a_listing() -> None:
    state = state_of(FILE, file_of("b", 0, 9), file_of("c", 0, 9))

    checked = check_sizes(state, [sst("a"), sst("b", 999), sst("d")])

    assert [(flaw.file_id, flaw.what) for flaw in checked.flaws] == [
        (file_id_of("b"), "it has 999 bytes where 1,000 were written"),
        (file_id_of("c"), "it is missing"),
    ]


def listing(state: RegionState, *stored: ObjectMeta, needed: str = "", now_ms: int = 100) -> list[str]:
    ssts = [item for item in stored if "/sst/" in item.key]
    sidecars = [item for item in stored if "/index/" in item.key]
    pinned = frozenset({file_id_of(needed)} if needed else ())
    checked = check_listing(state, ssts, sidecars, pinned, now_ms=now_ms, grace_ms=100)
    return [flaw.path for flaw in checked.flaws]


def test_a_file_that_nobody_ever_listed_is_an_orphan_after_a_while() -> None:
    state = state_of(FILE)

    assert listing(state, sst("a"), sst("b")) == [sst("b").key]
    assert listing(state, sst("b"), now_ms=99) == []
    assert listing(state, sst("b"), needed="b") == []


def test_a_file_that_was_listed_once_is_none() -> None:
    state = state_of(removed_files=(RemovedFile(file_id=file_id_of("b"), removed_ms=0, file=file_of("b", 0, 9)),))

    assert listing(state, sst("b"), sidecar("b", 1)) == []


def test_a_sidecar_that_nobody_ever_listed_is_an_orphan_and_one_that_was_superseded_is_none() -> None:
    index = IndexMeta(version=2, size_bytes=10, checksum=0, created_ms=0)
    state = state_of(replace(FILE, index=index))

    assert listing(state, sidecar("a", 1), sidecar("a", 2), sidecar("a", 3), sidecar("b", 1)) == [
        sidecar("a", 3).key,
        sidecar("b", 1).key,
    ]


def test_a_log_that_ends_below_what_is_in_files_is_damage() -> None:
    checked = check_log(Wal(MemoryLog()), state_of(flushed_entry_id=EntryId(3)))

    assert said(checked) == ["the log ends with entry 0, and entries up to 3 are in files"]


@pytest.mark.parametrize(("sequences", "is_damaged"), [((4, 5), False), ((5, 4), True), ((3, 4), True)])
def test_rows_of_the_log_that_are_not_newer_than_those_before_are_damage(
    sequences: tuple[int, int], is_damaged: bool
) -> None:
    wal = Wal(MemoryLog())
    encoded = encode_write(metadata_of(), batch_of(metadata_of(), [put(1, 10)]))
    wal.append([(encoded, Sequence(sequence)) for sequence in sequences])

    checked = check_log(wal, state_of(flushed_sequence=Sequence(3)))

    assert bool(checked.flaws) == is_damaged


def test_an_engine_verifies_what_it_wrote_without_threads() -> None:
    engine = open_engine()
    create(engine, metadata_of())

    checked = engine.verifying.verify(REGION, lambda _: None)

    assert checked.flaws == ()
