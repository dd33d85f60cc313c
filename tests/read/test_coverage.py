from __future__ import annotations

import pyarrow as pa
import pytest
from builders import REGION, Row, batch_of, create, metadata_of, open_engine
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.read import coverage
from mitoframe.storage import cover

METADATA = metadata_of({"host": pa.string(), "core": pa.string()}, {"cpu": pa.int64()})

rows = st.builds(
    lambda time, host, core: Row(0, time, (host, core), (1,)),
    st.integers(0, 40),
    st.sampled_from(["a", "b", None]),
    st.sampled_from(["x", "y"]),
)
writes = st.lists(st.tuples(st.lists(rows, min_size=1, max_size=25), st.booleans()), max_size=4)


@settings(deadline=None, max_examples=80)
@given(writes, st.sampled_from(["host", "core"]), st.integers(1, 6), st.sampled_from([0, 20, 60, 512]))
def test_every_row_lies_in_a_stretch_of_its_value_and_stretches_of_a_file_do_not_touch(
    actions, tag, row_group_rows, characters_max
):
    engine = open_engine(row_group_rows=row_group_rows, compaction_trigger_files=100)
    create(engine, METADATA, dedup="none")
    written, place = [], ["host", "core"].index(tag)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cover, "COVERS_CHARACTERS_MAX", characters_max)
        for some, is_flushed in actions:
            engine.write(REGION, batch_of(METADATA, some))
            written += [(row.tags[place], row.time) for row in some]
            if is_flushed:
                engine.flush(REGION)
    files = engine.region(REGION).state.files.values()
    assert all(len(file.covers) <= characters_max for file in files)

    looked_at: list[int] = []
    stretches = stretches_of(engine.coverage(REGION, tag, looked_at.append))

    assert looked_at == sorted(looked_at)
    assert looked_at[-1:] == [len(files)][: len(files)]
    for value, time in written:
        assert any(of == value and start <= time <= end for _, of, start, end, _ in stretches)
    assert sum(row_count for *_, row_count in stretches) == len(written)
    for source, value, start, _, _ in stretches:
        others = [each for each in stretches if each[:2] == (source, value) and each[2] != start]
        assert not any(other[2] <= start <= other[3] for other in others)
    assert len({each[:3] for each in stretches}) == len(stretches)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage, "said_of", lambda file, place: None)
        assert stretches_of(engine.coverage(REGION, tag, lambda _: None)) == stretches, "the same if files are opened"


def test_a_gap_between_row_groups_of_a_series_is_seen():
    engine = open_engine(row_group_rows=2)
    create(engine, METADATA)
    engine.write(REGION, batch_of(METADATA, [Row(0, time, ("a", "x"), (1,)) for time in (1, 2, 11, 12, 13)]))
    engine.flush(REGION)

    found = stretches_of(engine.coverage(REGION, "host", lambda _: None))

    assert [each[1:] for each in found] == [("a", 1, 2, 2), ("a", 11, 12, 2), ("a", 13, 13, 1)]


def test_files_whose_values_the_manifest_knows_are_not_opened_and_others_are():
    engine = open_engine(compaction_trigger_files=100)
    create(engine, METADATA)
    for hosts in (["a", "b"], [f"host-{n}" for n in range(100)], ["ü", None]):
        engine.write(REGION, batch_of(METADATA, [Row(0, 1, (host, "x"), (1,)) for host in hosts]))
        engine.flush(REGION)
    few, many, last = engine.region(REGION).state.files
    for file_id in (few, many, last):
        engine.cache.forget(file_id)

    found = stretches_of(engine.coverage(REGION, "host", lambda _: None))

    assert [(source, value) for source, value, *_ in found[:2] + found[-2:]] == [
        (few, "a"),
        (few, "b"),
        (last, None),
        (last, "ü"),
    ]
    assert len(found) == 104
    assert [engine.cache.holds("footers", each) for each in (few, many, last)] == [False, True, False]


def stretches_of(found) -> list[tuple[str | int, str | None, int, int, int]]:
    """Say of each stretch of what file or which part of memory it is, its value, its times and its rows."""
    stretches = []
    for number, some in enumerate(found):
        known, assert_all = some.cover, sum(some.counts)
        columns = (known.values.to_pylist(), known.starts.tolist(), known.ends.tolist(), known.row_counts.tolist())
        assert {len(column) for column in columns} == {assert_all}
        names = [number if source is None else source.file_id for source in some.sources]
        sources = [name for name, count in zip(names, some.counts.tolist(), strict=True) for _ in range(count)]
        stretches += zip(sources, *columns, strict=True)
    return stretches
