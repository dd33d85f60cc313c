from __future__ import annotations

import pyarrow as pa
from builders import REGION, Row, batch_of, create, metadata_of, open_engine
from hypothesis import given, settings
from hypothesis import strategies as st

METADATA = metadata_of({"host": pa.string(), "core": pa.string()}, {"cpu": pa.int64()})

rows = st.builds(
    lambda time, host, core: Row(0, time, (host, core), (1,)),
    st.integers(0, 40),
    st.sampled_from(["a", "b", None]),
    st.sampled_from(["x", "y"]),
)
writes = st.lists(st.tuples(st.lists(rows, min_size=1, max_size=25), st.booleans()), max_size=4)


@settings(deadline=None, max_examples=80)
@given(writes, st.sampled_from(["host", "core"]), st.integers(1, 6))
def test_every_row_lies_in_a_stretch_of_its_value_and_stretches_of_a_file_do_not_touch(actions, tag, row_group_rows):
    engine = open_engine(row_group_rows=row_group_rows, compaction_trigger_files=100)
    create(engine, METADATA, dedup="none")
    written, place = [], ["host", "core"].index(tag)
    for some, is_flushed in actions:
        engine.write(REGION, batch_of(METADATA, some))
        written += [(row.tags[place], row.time) for row in some]
        if is_flushed:
            engine.flush(REGION)

    looked_at: list[int] = []
    found = list(engine.coverage(REGION, tag, looked_at.append))
    assert looked_at == list(range(1, len(engine.region(REGION).state.files) + 1))

    stretches = [
        (value, start, end, number)
        for number, each in enumerate(found)
        for value, start, end in zip(each.values.to_pylist(), each.starts.tolist(), each.ends.tolist(), strict=True)
    ]
    for value, time in written:
        assert any(of == value and start <= time <= end for of, start, end, _ in stretches)
    assert sum(int(each.row_counts.sum()) for each in found) == len(written)
    for value, start, _, number in stretches:
        others = [each for each in stretches if (each[0], each[3]) == (value, number) and each[1] != start]
        assert not any(other[1] <= start <= other[2] for other in others)
    assert len({(each[0], each[1], each[3]) for each in stretches}) == len(stretches)


def test_a_gap_between_row_groups_of_a_series_is_seen():
    engine = open_engine(row_group_rows=2)
    create(engine, METADATA)
    engine.write(REGION, batch_of(METADATA, [Row(0, time, ("a", "x"), (1,)) for time in (1, 2, 11, 12, 13)]))
    engine.flush(REGION)

    [found] = engine.coverage(REGION, "host", lambda _: None)

    assert found.values.to_pylist() == ["a", "a", "a"]
    assert (found.starts.tolist(), found.ends.tolist()) == ([1, 11, 13], [2, 12, 13])
    assert found.row_counts.tolist() == [2, 2, 1]
