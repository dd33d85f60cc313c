"""Which keys are there already, against sets."""

from __future__ import annotations

import pytest
from builders import DELETE, REGION, Row, batch_of, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import METADATA, Tracked, seen

from mitoframe.model.batch import joined
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.predicate import Compare, conjunction
from mitoframe.model.request import ScanRequest
from mitoframe.read.lookup import present, repeated

HOUR_MS = 3_600_000
times = st.integers(-2, 4) | st.integers(0, 2).map(lambda n: HOUR_MS + n) | st.sampled_from([-(2**63) + 1, 2**63 - 1])
hosts = st.sampled_from([None, "", "a", "b"])
keys = st.tuples(times, hosts)
steps = st.lists(
    st.tuples(st.sampled_from(["write", "write", "delete", "backfill"]), st.lists(keys, min_size=1, max_size=5))
    | st.sampled_from(["flush", "flush", "compact"]).map(lambda name: (name, [])),
    max_size=8,
)


def rows_of(some: list[tuple[int, str | None]]) -> list[Row]:
    return [Row(0, time, (host,), (number, "x")) for number, (time, host) in enumerate(some)]


def deletes_of(some: list[tuple[int, str | None]]) -> list[Row]:
    return [Row(0, time, (host,), (None, None), DELETE) for time, host in some]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["last", "merge"]), steps, st.lists(keys, min_size=1, max_size=8))
def test_a_key_is_present_if_a_scan_would_show_it(dedup, actions, asked):
    table = Tracked(dedup, window_ms=HOUR_MS)
    for name, some in actions:
        match name:
            case "write":
                table.write(rows_of(some))
            case "delete":
                table.write(deletes_of(some))
            case "backfill":
                table.backfill(rows_of(some))
            case _:
                getattr(table, name)()
    batch = batch_of(METADATA, rows_of(asked))
    within = conjunction([Compare("ts", ">=", int(batch.times.min())), Compare("ts", "<=", int(batch.times.max()))])

    found = present(table.engine.plan(REGION, ScanRequest(predicate=within)), table.engine.reader, batch)

    there = {(row.time, row.tags[0]) for row in seen(table.rows, dedup)}
    assert found.tolist() == [key in there for key in asked]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(keys, min_size=1, max_size=5), min_size=1, max_size=3))
def test_a_row_is_repeated_if_one_before_it_has_its_key(pieces):
    """Also where the batch lists a series more than once, as one that was joined of several does."""
    batch = joined([batch_of(METADATA, rows_of(some)) for some in pieces])
    asked = [key for some in pieces for key in some]

    assert repeated(batch).tolist() == [key in asked[:place] for place, key in enumerate(asked)]


def test_without_tags_the_time_alone_is_the_key():
    metadata = metadata_of({}, {"cpu": METADATA.fields[0].type})
    batch = batch_of(metadata, [Row(0, time, (), (1,)) for time in (3, 1, 3, 2, 1)])

    assert repeated(batch).tolist() == [False, False, True, False, True]


@settings(deadline=None, max_examples=60)
@given(st.lists(keys, max_size=4), st.lists(keys, min_size=1, max_size=6), st.booleans())
def test_the_first_row_that_is_not_new_is_named(there, asked, flushes):
    table = Tracked()
    if there:
        table.write(rows_of(there))
    if flushes:
        table.flush()
    batch = batch_of(METADATA, rows_of(asked))
    taken = [n for n, key in enumerate(asked) if key in there or key in asked[:n]]

    if not taken:
        assert table.engine.only_new(REGION, batch, METADATA) is batch
        return
    with pytest.raises(InvalidInputError, match=rf"^row {taken[0]} has the tags and time .* {len(taken)} rows? in all"):
        table.engine.only_new(REGION, batch, METADATA)
