from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import REGION, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st
from values import COLUMNS, kept_types, same_bits

from mitoframe.model.errors import InvalidInputError
from mitoframe.model.schema import Column, RegionMetadata, SemanticType, build_metadata, check_names
from mitoframe.model.types import same_scalar, scalar_from_json, scalar_to_json

SCHEMA = pa.schema({"cpu": pa.float64(), "ts": pa.timestamp("us"), "host": pa.string(), "rack": pa.int16()})


def build(schema=SCHEMA, time="ts", tags=("host", "rack")) -> RegionMetadata:
    return build_metadata(REGION, schema, time=time, tags=tags)


def test_columns_are_put_in_canonical_order_and_numbered():
    metadata = build(tags=["rack", "host"])

    assert metadata.names == ("rack", "host", "ts", "cpu")
    assert [column.column_id for column in metadata.columns] == [1, 2, 3, 4]
    assert [column.semantic for column in metadata.columns] == [
        SemanticType.TAG,
        SemanticType.TAG,
        SemanticType.TIME,
        SemanticType.FIELD,
    ]
    assert metadata.schema_version == 1


def test_metadata_knows_its_columns_by_what_they_mean():
    metadata = build()

    assert [tag.name for tag in metadata.tags] == ["host", "rack"]
    assert metadata.time.name == "ts"
    assert [field.name for field in metadata.fields] == ["cpu"]
    assert metadata.key_names == {"host", "rack", "ts"}


def test_types_are_those_that_are_kept():
    schema = pa.schema({"host": pa.dictionary(pa.int32(), pa.string()), "ts": pa.timestamp("s", "UTC")})

    metadata = build(schema, tags=["host"])

    assert metadata.tags[0].type == pa.large_string()
    assert metadata.time.type == pa.timestamp("ms", "UTC")
    assert (metadata.time_unit, metadata.time_zone) == ("ms", "UTC")


def test_a_table_of_nothing_but_time_is_fine():
    metadata = build(pa.schema({"ts": pa.timestamp("ns")}), tags=[])

    assert (metadata.tags, metadata.names, metadata.fields, metadata.time_zone) == ((), ("ts",), (), None)


def test_a_date64_column_can_be_the_time():
    assert build(pa.schema({"ts": pa.date64()}), tags=[]).time.type == pa.timestamp("ms")


def test_users_see_a_schema_in_which_only_time_is_never_null():
    schema = build().arrow_schema()

    assert schema.names == ["host", "rack", "ts", "cpu"]
    assert [field.nullable for field in schema] == [True, True, False, True]


@settings(deadline=None)
@given(st.lists(kept_types, max_size=4))
def test_metadata_survives_being_json(types):
    metadata = metadata_of({"host": pa.string(), "ok": pa.bool_()}, {f"field-{i}": t for i, t in enumerate(types)})

    assert RegionMetadata.from_json(json.loads(json.dumps(metadata.to_json()))) == metadata


def test_what_is_not_set_is_not_written():
    assert build(tags=["host"]).to_json() == {
        "region_id": REGION,
        "schema_version": 1,
        "columns": [
            {"id": 1, "name": "host", "semantic": "tag", "type": "string"},
            {"id": 2, "name": "ts", "semantic": "time", "type": "timestamp[us]"},
            {"id": 3, "name": "cpu", "semantic": "field", "type": "float64"},
            {"id": 4, "name": "rack", "semantic": "field", "type": "int16"},
        ],
    }


def test_what_is_set_survives_being_json():
    metadata = build()
    cpu = replace(
        metadata.fields[0], default=pa.scalar(-0.0), initial=pa.scalar(math.nan), indexes=("skipping",), since=3
    )
    host = replace(metadata.tags[0], indexes=("inverted", "fulltext"))
    changed = replace(metadata, columns=(host, *metadata.columns[1:-1], cpu), former_names=("a", "b"), next_column_id=9)

    value = json.loads(json.dumps(changed.to_json()))

    assert RegionMetadata.from_json(value) == changed
    assert value["columns"][-1] == {
        "id": 4,
        "name": "cpu",
        "semantic": "field",
        "type": "float64",
        "default": "-0.0",
        "initial": "0x7ff8000000000000",
        "indexes": ["skipping"],
        "since": 3,
    }
    assert (value["former_names"], value["next_column_id"]) == (["a", "b"], 9)


def test_the_next_column_id_is_above_all_that_were_given():
    metadata = build()

    assert metadata.next_column_id == 5
    assert replace(metadata, columns=metadata.columns[:3]).next_column_id == 5
    assert replace(metadata, columns=(*metadata.columns, field(column_id=7))).next_column_id == 8


# --- values ---------------------------------------------------------------------------------------------


def field(**known: Any) -> Column:
    return Column(**{"column_id": 9, "name": "x", "semantic": SemanticType.FIELD, "type": pa.float64()} | known)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_value_of_every_type_survives_being_json(name):
    for value in COLUMNS[name]:
        found = scalar_from_json(json.loads(json.dumps(scalar_to_json(value), allow_nan=False)), value.type)

        assert same_bits(column_of(found), column_of(value))


def column_of(value: pa.Scalar) -> pa.Array:
    return pa.repeat(value, 1) if value.is_valid else pa.nulls(1, value.type)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_a_float_of_any_bits_survives_being_json(bits, half):
    values = [(bits, np.uint64, pa.float64()), (half, np.uint32, pa.float32())]
    for number, width, data_type in values:
        value = pa.array([number], pa.from_numpy_dtype(width)).view(data_type)

        found = scalar_from_json(scalar_to_json(value[0]), data_type)

        assert same_bits(pa.repeat(found, 1), value)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (pa.scalar(math.nan), pa.scalar(math.nan), True),
        (pa.scalar(0.0), pa.scalar(-0.0), False),
        (pa.scalar(1, pa.int8()), pa.scalar(1, pa.int16()), False),
        (pa.scalar(["a", None], pa.large_list(pa.large_string())), None, False),
        (None, None, True),
    ],
    ids=str,
)
def test_values_and_the_columns_that_have_them_are_the_same_to_the_last_bit(left, right, same):
    assert same_scalar(left, right) is same_scalar(right, left) is same

    if left is None or right is None or left.type == right.type == pa.float64():
        assert (field_like(left, default=left) == field_like(left, default=right)) is same
        assert (field_like(left, initial=left) == field_like(left, initial=right)) is same


def field_like(value: pa.Scalar | None, **known: Any) -> Column:
    return field(type=pa.float64() if value is None else value.type, **known)


def test_columns_are_the_same_if_all_that_is_known_of_them_is():
    column = field(default=pa.scalar(math.nan))

    assert column == field(default=pa.scalar(math.nan))
    assert hash(column) == hash(field(default=pa.scalar(math.nan)))
    assert column != "x"
    changes = [{"column_id": 8}, {"name": "y"}, {"indexes": ("inverted",)}, {"since": 1}, {"default": None}]
    assert [column == replace(column, **change) for change in changes] == [False] * 5


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "all_null"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_column_is_filled_with_its_default_and_in_older_rows_with_its_first(name, rows):
    values = COLUMNS[name].drop_null()
    column = field(type=values.type, default=values[0], initial=values[len(values) - 1])

    for filled, value in [(column.fill(rows), values[0]), (column.fill_older(rows), values[len(values) - 1])]:
        assert (filled.type, len(filled)) == (values.type, rows)
        assert all(same_scalar(item, value) for item in filled)


def test_a_column_without_a_default_is_filled_with_nulls():
    assert field().fill(2).null_count == field().fill_older(2).null_count == 2


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": "when"}, r"time='when': no column 'when'. There are 'cpu', 'ts', 'host', 'rack'"),
        ({"tags": ["hots"]}, "tag='hots': no column 'hots'; did you mean 'host'"),
        ({"tags": ["host", "ts"]}, "column 'ts' is both the time and a tag"),
        ({"tags": ["host", "host"]}, r"tags=\['host', 'host'\] names a column twice"),
        ({"tags": "host"}, r"tags='host' is a string; give a list, such as tags=\['host'\]"),
        ({"time": "cpu"}, "the time column 'cpu' has type double; it must be a timestamp"),
        ({"time": "rack", "tags": ["host"]}, r"the time column 'rack' has type int16.*from_epoch\('rack'"),
        ({"tags": ["cpu"]}, "tag column 'cpu' has type double; a tag is a string, integer, bool or date"),
    ],
    ids=repr,
)
def test_a_wrong_role_is_refused_by_name(change, message):
    with pytest.raises(InvalidInputError, match=message):
        build(**change)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.field("note", pa.null()), "column 'note' holds only nulls"),
        (pa.field("note", pa.struct({"a": pa.int8()})), "column 'note' has type struct.* cannot be kept"),
        (pa.field("", pa.int8()), "column name '' is empty"),
        (pa.field("a\0b", pa.int8()), r"column name 'a\\x00b' is empty or holds a NUL"),
        (pa.field("__sequence", pa.int8()), "column name '__sequence' starts with two underscores"),
        (pa.field("cpu", pa.int8()), "column name 'cpu' appears twice"),
    ],
    ids=repr,
)
def test_a_column_that_cannot_be_kept_is_refused_by_name(column, message):
    with pytest.raises(InvalidInputError, match=message):
        build(SCHEMA.append(column))


def test_a_name_that_is_no_string_is_refused():
    with pytest.raises(InvalidInputError, match="column name 7 is a int; rename it to a string"):
        check_names(["host", 7])


@pytest.mark.parametrize(
    "tag_type", [pa.string(), pa.int8(), pa.uint64(), pa.bool_(), pa.date32(), pa.dictionary(pa.int8(), pa.string())]
)
def test_a_tag_may_be_a_string_integer_bool_or_date(tag_type):
    metadata = metadata_of({"tag": tag_type})

    assert metadata.tags[0].name == "tag"


@pytest.mark.parametrize("tag_type", [pa.float64(), pa.timestamp("ms"), pa.binary(), pa.list_(pa.int8())])
def test_a_tag_may_be_nothing_else(tag_type):
    with pytest.raises(InvalidInputError, match="Make it a field, or cast it to a string"):
        metadata_of({"tag": tag_type})
