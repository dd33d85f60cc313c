from __future__ import annotations

import json

import pyarrow as pa
import pytest
from builders import REGION, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st
from values import kept_types

from mitoframe.model.errors import InvalidInputError
from mitoframe.model.schema import RegionMetadata, SemanticType, build_metadata, check_names

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
