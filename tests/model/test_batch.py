from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from builders import CPU, DELETE, HOST, Row, batch_of, delete, metadata_of, put, rows_of

from mitoframe.model.batch import concat_fields, gather
from mitoframe.model.ids import Sequence
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN

SHAPES = {
    "tags and fields": metadata_of(),
    "no tags": metadata_of({}, CPU),
    "no fields": metadata_of(HOST, {}),
    "time only": metadata_of({}, {}),
}


def shaped(metadata, count=4) -> list[Row]:
    tags = [("a",), (None,), ("b",)] if metadata.tags else [()]
    return [
        Row(
            n + 1, 10 * n, tags[n % len(tags)], (n,) if metadata.fields else (), DELETE if n == 2 else Row(0, 0).op_type
        )
        for n in range(count)
    ]


@pytest.fixture(params=SHAPES)
def metadata(request):
    return SHAPES[request.param]


def test_taking_rows_takes_all_that_belongs_to_them(metadata):
    rows = shaped(metadata)

    taken = batch_of(metadata, rows).take(np.array([3, 0, 0]))

    assert rows_of(taken) == [rows[3], rows[0], rows[0]]


def test_a_slice_is_a_view_of_some_rows(metadata):
    rows = shaped(metadata)
    batch = batch_of(metadata, rows)

    part = batch.slice(1, 2)

    assert rows_of(part) == rows[1:3]
    assert len(part) == 2
    assert np.shares_memory(part.times, batch.times)


def test_a_batch_without_rows_has_length_zero(metadata):
    assert len(batch_of(metadata, shaped(metadata)).slice(0, 0)) == 0
    assert rows_of(batch_of(metadata, shaped(metadata)).take(np.zeros(0, dtype=np.int64))) == []


def test_numbering_rows_copies_none_of_their_data(metadata):
    batch = batch_of(metadata, shaped(metadata))

    numbered = batch.with_sequence(Sequence(100))

    assert numbered.sequences.tolist() == [100, 101, 102, 103]
    assert numbered.sequences.dtype == np.uint64
    assert numbered.times is batch.times
    assert numbered.fields is batch.fields


def test_users_see_columns_by_name_and_in_the_order_asked_for():
    metadata = metadata_of()
    batch = batch_of(metadata, [put(7, 1000, "b", 5), delete(8, 2000, None), put(9, 3000, "b", None)])

    rows = batch.to_arrow(metadata, ["cpu", OP_TYPE_COLUMN, "host", SEQUENCE_COLUMN, "ts"])

    assert rows.schema.names == ["cpu", OP_TYPE_COLUMN, "host", SEQUENCE_COLUMN, "ts"]
    assert rows.column("cpu").to_pylist() == [5, None, None]
    assert rows.column("host").to_pylist() == ["b", None, "b"]
    assert rows.column("host").type == pa.large_string()
    assert rows.column("ts").cast(pa.int64()).to_pylist() == [1000, 2000, 3000]
    assert rows.column("ts").type == metadata.time.type
    assert rows.column(SEQUENCE_COLUMN).to_pylist() == [7, 8, 9]
    assert rows.column(OP_TYPE_COLUMN).to_pylist() == [1, 0, 1]


def test_no_columns_still_have_a_length(metadata):
    rows = batch_of(metadata, shaped(metadata)).to_arrow(metadata, [])

    assert (rows.num_rows, rows.num_columns) == (4, 0)


def test_string_tags_may_stay_encoded_and_mean_the_same():
    metadata = metadata_of({"host": pa.string(), "rack": pa.int16()})
    batch = batch_of(metadata, [Row(1, 1, ("b", 5)), Row(2, 2, (None, None)), Row(3, 3, ("b", 6)), Row(4, 4, ("a", 5))])

    encoded = batch.to_arrow(metadata, ["host", "rack"], tags_as="dictionary")

    assert pa.types.is_dictionary(encoded.column("host").type)
    assert encoded.column("rack").type == pa.int16()
    assert encoded.to_pylist() == batch.to_arrow(metadata, ["host", "rack"]).to_pylist()
    assert sorted(encoded.column("host").dictionary.to_pylist()) == ["a", "b"]


def test_fields_can_be_chosen_and_reordered():
    metadata = metadata_of(fields={"x": pa.int64(), "y": pa.string(), "z": pa.bool_()})
    batch = batch_of(metadata, [Row(1, 1, fields=(1, "one", True)), Row(2, 2, fields=(2, "two", None))])

    assert [row.fields for row in rows_of(batch.select_fields(["z", "x"]))] == [(True, 1), (None, 2)]
    assert [row.fields for row in rows_of(batch.select_fields([]))] == [(), ()]


def test_fields_of_several_batches_go_after_each_other(metadata):
    left, right = batch_of(metadata, shaped(metadata, 2)), batch_of(metadata, shaped(metadata, 3))

    together = concat_fields([left.fields, right.fields])

    assert together.num_rows == 5
    assert together.to_pylist() == left.fields.to_pylist() + right.fields.to_pylist()


def test_fields_put_together_do_not_keep_the_parts_alive():
    fields = batch_of(metadata_of(), [put(n, n, cpu=n) for n in range(10)]).fields

    together = concat_fields([fields.slice(8, 1), fields.slice(9, 1)])

    assert together.column(0).buffers()[1].address != fields.column(0).buffers()[1].address
    assert together.column(0).to_pylist() == [8, 9]


def test_gathering_keeps_the_type_and_gives_memory_of_its_own():
    values = np.array([5, 7, 9], dtype=np.uint64)

    found = gather(values, pa.array([2, 0, 2]))

    assert found.tolist() == [9, 5, 9]
    assert found.dtype == np.uint64
    assert not np.shares_memory(found, values)


def test_a_batch_comes_in_slices_of_a_bounded_length(metadata):
    rows = shaped(metadata, 5)

    slices = [rows_of(part) for part in batch_of(metadata, rows).slices(2)]

    assert slices == [rows[:2], rows[2:4], rows[4:]]
    assert list(batch_of(metadata, []).slices(2)) == []


def test_a_batch_knows_the_memory_it_holds():
    small, large = (batch_of(metadata_of(), [put(n, n) for n in range(count)]) for count in (10, 1000))

    assert 29 * 10 <= small.size_bytes < 29 * 10 + 200
    assert 29 * 1000 <= large.size_bytes < 29 * 1000 + 400
