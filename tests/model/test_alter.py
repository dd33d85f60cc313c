from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from builders import metadata_of
from hypothesis import given, settings
from values import COLUMNS, kept_types

from mitoframe.model.alter import (
    AddColumns,
    Alteration,
    DropColumns,
    DropDefaults,
    ModifyColumnTypes,
    NewColumn,
    SetDefaults,
    SetIndexes,
    UnsetIndexes,
    alter,
    check_default,
)
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.schema import Column, RegionMetadata
from mitoframe.model.types import cast_is_possible, same_scalar, scalar_to_json

METADATA = metadata_of({"host": pa.string()}, {"cpu": pa.int32(), "note": pa.string()})


def altered(*alterations: Alteration, metadata: RegionMetadata = METADATA) -> RegionMetadata:
    for alteration in alterations:
        metadata = alter(metadata, alteration)
        assert RegionMetadata.from_json(json.loads(json.dumps(metadata.to_json()))) == metadata
    return metadata


INT8 = pa.int8()


def add(name: str, data_type: pa.DataType = INT8, **more: Any) -> AddColumns:
    return AddColumns((NewColumn(name, data_type, **more),))


def column(metadata: RegionMetadata, name: str) -> Column:
    return next(column for column in metadata.columns if column.name == name)


def field_names(metadata: RegionMetadata) -> list[str]:
    return [field.name for field in metadata.fields]


SEVERAL_AND_ONE_WRONG = [
    AddColumns((NewColumn("a", pa.int8()), NewColumn("b", pa.int8(), after="gone"))),
    DropColumns(("cpu", "gone")),
    ModifyColumnTypes({"cpu": pa.int64(), "note": pa.int8()}),
    SetDefaults({"cpu": 1, "note": 1}),
    DropDefaults(("cpu", "host")),
    SetIndexes({"note": ("fulltext",), "cpu": ("fulltext",)}),
    UnsetIndexes(("note", "ts")),
]


@pytest.mark.parametrize("alteration", SEVERAL_AND_ONE_WRONG, ids=str)
def test_an_alteration_of_several_columns_is_all_or_nothing(alteration):
    with pytest.raises(InvalidInputError):
        alter(METADATA, alteration)


# --- adding ---------------------------------------------------------------------------------------------


def test_an_added_column_is_the_last_field_with_an_id_of_its_own():
    metadata = altered(add("mem", pa.list_(pa.string())))

    assert metadata.names == ("host", "ts", "cpu", "note", "mem")
    assert column(metadata, "mem") == Column(
        column_id=5, name="mem", semantic=METADATA.fields[0].semantic, type=pa.large_list(pa.large_string())
    )
    assert metadata.schema_version == 2
    assert metadata.columns[:4] == METADATA.columns


def test_added_columns_go_where_they_are_told_among_the_fields():
    one = altered(add("a", first=True), add("b", after="cpu"))
    together = altered(AddColumns((NewColumn("a", pa.int8(), first=True), NewColumn("b", pa.int8(), after="a"))))

    assert one.names == ("host", "ts", "a", "cpu", "b", "note")
    assert together.names == ("host", "ts", "a", "b", "cpu", "note")
    assert (one.schema_version, together.schema_version) == (3, 2)


def test_the_default_of_an_added_column_is_what_older_rows_read_as_for_ever():
    metadata = altered(add("mem", pa.float64(), default=1.5), SetDefaults({"mem": 2.5}))

    mem = column(metadata, "mem")
    assert (mem.initial, mem.default, mem.since) == (pa.scalar(1.5), pa.scalar(2.5), 2)
    assert column(altered(DropDefaults(("mem",)), metadata=metadata), "mem").initial == pa.scalar(1.5)


def test_a_plain_added_column_can_be_read_by_name_of_any_file():
    assert column(altered(add("mem")), "mem").since == 0


def test_adding_what_is_there_changes_nothing():
    metadata = altered(add("mem", pa.float64(), default=math.nan))

    assert alter(METADATA, add("cpu", pa.int32())) is METADATA
    assert alter(metadata, add("mem", pa.float64(), default=math.nan)) is metadata


def test_a_name_is_used_again_for_another_column():
    metadata = altered(DropColumns(("note",)), add("note", pa.string()))

    assert metadata.former_names == ("note",)
    assert (column(metadata, "note").column_id, column(metadata, "note").since) == (5, 3)


def test_an_id_is_never_used_again():
    metadata = METADATA
    ids = []
    for number in range(4):
        metadata = altered(add(f"x{number % 2}"), metadata=metadata)
        ids.append(column(metadata, f"x{number % 2}").column_id)
        metadata = altered(DropColumns((f"x{number % 2}",)), metadata=metadata)

    assert ids == [5, 6, 7, 8]
    assert metadata.next_column_id == 9
    assert metadata.former_names == ("x0", "x1")


# --- dropping and retyping ------------------------------------------------------------------------------


def test_dropped_columns_are_gone_and_the_others_stay():
    metadata = altered(DropColumns(("note", "cpu", "cpu")))

    assert metadata.names == ("host", "ts")
    assert (metadata.former_names, metadata.next_column_id) == (("note", "cpu"), 5)


def test_dropping_what_is_not_there_may_be_fine():
    assert alter(METADATA, DropColumns(("gone",), missing_ok=True)) is METADATA
    assert field_names(altered(DropColumns(("gone", "cpu"), missing_ok=True))) == ["note"]


def test_a_retyped_column_keeps_its_id_and_its_defaults_as_the_new_type():
    metadata = altered(
        add("mem", pa.int8(), default=3), SetDefaults({"mem": -4}), ModifyColumnTypes({"mem": pa.string()})
    )

    mem = column(metadata, "mem")
    assert mem == replace(
        column(altered(add("mem")), "mem"),
        type=pa.large_string(),
        initial=pa.scalar("3", pa.large_string()),
        default=pa.scalar("-4", pa.large_string()),
        since=4,
    )


def test_a_default_that_is_an_empty_list_is_cast_too():
    added = add("tags", pa.list_(pa.int8()), default=[])

    tags = column(altered(added, ModifyColumnTypes({"tags": pa.list_(pa.int64())})), "tags")

    assert same_scalar(tags.default, pa.scalar([], pa.large_list(pa.int64())))
    assert same_scalar(tags.initial, tags.default)


def test_the_type_a_column_has_already_changes_nothing():
    assert (
        alter(METADATA, ModifyColumnTypes({"cpu": pa.int32(), "note": pa.dictionary(pa.int8(), pa.utf8())})) is METADATA
    )


TYPES = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.bool_(), pa.float32(), pa.float64(), pa.large_string(), pa.large_binary(), pa.date32()),
    *(pa.timestamp(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC", "Europe/Paris")),
    *(pa.duration(unit) for unit in ("ms", "us", "ns")),
    *(pa.time64("us"), pa.time64("ns"), pa.decimal128(3, 0), pa.decimal128(12, 2), pa.decimal128(38, 10)),
    *(pa.decimal128(20, 0), pa.decimal128(38, 37), pa.large_list(pa.int8()), pa.large_list(pa.large_string())),
    *(pa.large_list(pa.float64()), pa.large_list(pa.large_list(pa.int8()))),
]


def extremes(data_type: pa.DataType) -> pa.Array:
    """The values of a type that break casts, nulls among them."""
    if pa.types.is_large_list(data_type):
        items = extremes(data_type.value_type)
        return pa.LargeListArray.from_arrays(pa.array([0, None, len(items), len(items)], pa.int64()), items)
    if pa.types.is_decimal(data_type):
        most, least = (Decimal((sign, (9,) * data_type.precision, -data_type.scale)) for sign in (0, 1))
        return pa.array([most, least, None, Decimal(0)], data_type)
    if pa.types.is_time64(data_type):
        day = 86_400 * (1_000_000 if data_type.unit == "us" else 1_000_000_000)
        return pa.array([0, day - 1, None], pa.int64()).view(data_type)
    if pa.types.is_date32(data_type):
        return pa.array([-(2**31), 2**31 - 1, None], pa.int32()).view(data_type)
    if pa.types.is_timestamp(data_type) or pa.types.is_duration(data_type):
        return pa.array([-(2**63), 2**63 - 1, None, 0], pa.int64()).view(data_type)
    return next(column for column in COLUMNS.values() if column.type == data_type)


def as_json(values: pa.Array) -> list[Any]:
    return [scalar_to_json(value) for value in values]


WIDER = [(old, new) for old, new in product(TYPES, TYPES) if cast_is_possible(old, new)]


def test_types_that_some_may_become_are_told_by_name():
    shown = {str(old): [str(new) for other, new in WIDER if other == old != new] for old in TYPES}

    assert shown["int8"] == [
        *("int16", "int32", "int64", "float", "double", "large_string"),
        *("decimal128(3, 0)", "decimal128(12, 2)", "decimal128(38, 10)", "decimal128(20, 0)"),
    ]
    assert shown["int64"] == ["large_string", "decimal128(38, 10)", "decimal128(20, 0)"]
    assert shown["uint32"] == [
        *("int64", "uint64", "double", "large_string"),
        *("decimal128(12, 2)", "decimal128(38, 10)", "decimal128(20, 0)"),
    ]
    assert shown["float"] == ["double"]
    assert shown["double"] == shown["large_string"] == shown["bool"] == shown["large_binary"] == []
    assert shown["date32[day]"] == ["timestamp[ms]"]
    assert shown["timestamp[ms]"] == shown["duration[ms]"] == []
    assert shown["timestamp[us, tz=UTC]"] == ["timestamp[us, tz=Europe/Paris]"]
    assert shown["time64[us]"] == ["time64[ns]"]
    assert shown["decimal128(3, 0)"] == ["decimal128(12, 2)", "decimal128(38, 10)", "decimal128(20, 0)"]
    assert shown["large_list<item: int8>"] == ["large_list<item: large_string>", "large_list<item: double>"]


@pytest.mark.parametrize(("old", "new"), WIDER, ids=str)
def test_a_possible_cast_loses_no_value(old, new):
    values = extremes(old)

    assert as_json(values.cast(new).cast(old)) == as_json(values)


@pytest.mark.parametrize(("old", "new"), WIDER, ids=str)
def test_a_possible_cast_ends_in_the_same_values_by_any_way(old, new):
    values = extremes(old)

    for last in TYPES:
        if cast_is_possible(new, last):
            assert cast_is_possible(old, last)
            assert as_json(values.cast(new).cast(last)) == as_json(values.cast(last))


@settings(deadline=None)
@given(kept_types, kept_types)
def test_whether_a_cast_is_possible_is_known_of_any_two_types(old, new):
    assert cast_is_possible(old, old)
    if cast_is_possible(old, new):
        assert pa.nulls(1, old).cast(new).type == new


# --- defaults -------------------------------------------------------------------------------------------


def test_a_default_changes_nothing_but_what_new_rows_have():
    metadata = altered(SetDefaults({"cpu": 5, "note": "none"}))

    assert column(metadata, "cpu") == replace(METADATA.fields[0], default=pa.scalar(5, pa.int32()))
    assert column(metadata, "note").default == pa.scalar("none", pa.large_string())
    assert altered(DropDefaults(("cpu", "note")), metadata=metadata) == replace(METADATA, schema_version=3)


def test_a_default_that_is_there_changes_nothing():
    metadata = altered(add("load", pa.float64(), default=math.nan))

    assert alter(metadata, SetDefaults({"load": math.nan})) is metadata
    assert alter(METADATA, DropDefaults(("cpu",))) is METADATA
    assert (
        alter(altered(SetDefaults({"load": 0.0}), metadata=metadata), SetDefaults({"load": -0.0})).schema_version == 4
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_any_value_of_any_type_can_be_the_default_of_it(name):
    values = COLUMNS[name]

    for value in values.drop_null():
        assert same_scalar(check_default("x", values.type, value), value)


PARIS = ZoneInfo("Europe/Paris")
MOMENT = pd.Timestamp("2024-01-01T00:00:00.000000001")


@pytest.mark.parametrize(
    ("data_type", "value", "kept"),
    [
        (pa.int8(), 5.0, 5),
        (pa.int8(), np.uint64(5), 5),
        (pa.uint64(), 2**64 - 1, 2**64 - 1),
        (pa.uint64(), np.uint64(2**64 - 1), 2**64 - 1),
        (pa.float32(), np.float32(0.1), float(np.float32(0.1))),
        (pa.float64(), np.float32(0.1), float(np.float32(0.1))),
        (pa.float64(), 5, 5.0),
        (pa.float32(), math.inf, math.inf),
        (pa.bool_(), np.bool_(True), True),
        (pa.large_string(), np.str_("ä"), "ä"),
        (pa.large_string(), pa.array(["a"]).dictionary_encode()[0], "a"),
        (pa.large_binary(), bytearray(b"a"), b"a"),
        (pa.decimal128(5, 2), 1, Decimal("1.00")),
        (pa.decimal128(5, 2), np.int8(1), Decimal("1.00")),
        (pa.decimal128(5, 2), pa.scalar(Decimal("1.5")), Decimal("1.50")),
        (pa.decimal128(38, 0), 10**37, Decimal(10**37)),
        (pa.date32(), date(2024, 1, 1), date(2024, 1, 1)),
        (pa.timestamp("ms"), date(2024, 1, 1), datetime(2024, 1, 1)),
        (pa.timestamp("us"), np.datetime64("2024-01-01T00", "s"), datetime(2024, 1, 1)),
        (pa.timestamp("ns"), MOMENT, MOMENT),
        (pa.timestamp("ns", "UTC"), MOMENT.tz_localize("Europe/Paris"), MOMENT.tz_localize("Europe/Paris")),
        (pa.timestamp("ms", "UTC"), datetime(2024, 7, 1, tzinfo=PARIS), datetime(2024, 7, 1, tzinfo=PARIS)),
        (
            pa.timestamp("ms", "Europe/Paris"),
            datetime(2024, 7, 1, tzinfo=timezone(timedelta(hours=5))),
            datetime(2024, 7, 1, tzinfo=timezone(timedelta(hours=5))),
        ),
        (pa.duration("ns"), pd.Timedelta(1), pd.Timedelta(1)),
        (pa.duration("ms"), timedelta(hours=1), timedelta(hours=1)),
        (pa.duration("us"), np.timedelta64(1, "s"), timedelta(seconds=1)),
        (pa.time64("us"), time(1, 2, 3, 4), time(1, 2, 3, 4)),
        (pa.large_list(pa.int8()), [], []),
        (pa.large_list(pa.int8()), (1, None, np.int64(2)), [1, None, 2]),
        (pa.large_list(pa.float32()), np.array([1, 2]), [1.0, 2.0]),
        (pa.large_list(pa.large_list(pa.decimal128(5, 2))), [[1], None], [[Decimal("1.00")], None]),
        (pa.large_list(pa.int8()), pa.scalar([1, None]), [1, None]),
    ],
    ids=str,
)
def test_a_default_is_taken_as_people_write_it(data_type, value, kept):
    found = check_default("x", data_type, value)

    assert (found.type, found.as_py()) == (data_type, kept)


@pytest.mark.parametrize(
    ("data_type", "value", "message"),
    [
        (pa.int8(), 128, "128 is no exact value of int8"),
        (pa.uint64(), -1, "not in range"),
        (pa.uint64(), 2**64, "too large"),
        (pa.int8(), 5.5, "truncated"),
        (pa.int8(), -0.0, "it would be rounded"),
        (pa.int8(), True, "it is a bool"),
        (pa.bool_(), 1, "it is a int64"),
        (pa.int8(), "5", "it is a string"),
        (pa.large_string(), 5, "it is a int64"),
        (pa.large_string(), b"a", "it is a binary"),
        (pa.large_string(), "\ud800", "surrogates not allowed"),
        (pa.large_binary(), "a", "it is a string"),
        (pa.float32(), 0.1, "it would be rounded.*give one, such as a pyarrow scalar of that type"),
        (pa.float64(), 2**53 + 1, "not in range"),
        (pa.float64(), Decimal(1), "it is a decimal"),
        (pa.decimal128(5, 2), 0.5, "it is a float"),
        (pa.decimal128(5, 2), True, "it is a bool"),
        (pa.decimal128(5, 2), Decimal("0.001"), "data loss"),
        (pa.decimal128(5, 2), Decimal("NaN"), "not a valid decimal"),
        (pa.decimal128(5, 2), 1000, "data loss|does not fit"),
        (pa.timestamp("ms"), 5, "it is a int64"),
        (pa.timestamp("ms"), "2024-01-01", "it is a string"),
        (pa.timestamp("ms"), datetime(2024, 1, 1, tzinfo=PARIS), "it is a timestamp"),
        (pa.timestamp("ms", "UTC"), datetime(2024, 1, 1), "it is a timestamp"),
        (pa.timestamp("ms", "UTC"), date(2024, 1, 1), "it is a date"),
        (pa.timestamp("ms"), datetime(2024, 1, 1, 0, 0, 0, 1), "lose data"),
        (pa.timestamp("us"), MOMENT, "lose data"),
        (pa.timestamp("ns"), datetime(9000, 1, 1), "out of bounds"),
        (pa.timestamp("ns"), pd.NaT, "NaT is no exact value"),
        (pa.timestamp("ns"), np.datetime64("NaT", "ns"), "it is null"),
        (pa.date32(), datetime(2024, 1, 1), "it is a timestamp"),
        (pa.duration("ms"), pd.Timedelta(1), "lose data"),
        (pa.time64("us"), time(1, tzinfo=UTC), "it has a zone"),
        (pa.large_list(pa.int8()), [1, 300], "not in range"),
        (pa.large_list(pa.large_string()), "ab", "it is no list"),
        (pa.int8(), [1], "it is a list"),
        (pa.int8(), {"a": 1}, "it is a struct"),
        (pa.int8(), 1j, "is no exact value of int8"),
        (pa.int8(), None, "null is no default"),
        (pa.int8(), pa.scalar(None, pa.int8()), "null is no default"),
    ],
    ids=str,
)
def test_a_default_that_is_not_exactly_a_value_of_the_type_is_refused(data_type, value, message):
    with pytest.raises(InvalidInputError, match=f"(?s)column 'x': .*{message}"):
        check_default("x", data_type, value)


# --- indexes --------------------------------------------------------------------------------------------


def test_indexes_are_declared_of_tags_and_fields():
    metadata = altered(SetIndexes({"host": ("skipping", "inverted", "skipping"), "note": ("fulltext",)}))

    assert [column.indexes for column in metadata.columns] == [("inverted", "skipping"), (), (), ("fulltext",)]
    assert metadata.schema_version == 2
    assert all(column.since == 0 for column in metadata.columns)


def test_indexes_are_declared_anew_and_no_more():
    metadata = altered(SetIndexes({"host": ("inverted",), "note": ("fulltext",)}))

    assert column(altered(SetIndexes({"host": ("skipping",)}), metadata=metadata), "host").indexes == ("skipping",)
    assert altered(UnsetIndexes(("host", "note")), metadata=metadata) == replace(METADATA, schema_version=3)
    assert alter(metadata, SetIndexes({"host": ("inverted",)})) is metadata
    assert alter(METADATA, UnsetIndexes(("host",))) is METADATA


# --- refusals -------------------------------------------------------------------------------------------

KEY = "part of every row's key"


@pytest.mark.parametrize(
    ("alteration", "message"),
    [
        (add("__x"), "column name '__x' starts with two underscores"),
        (add(""), "column name '' is empty"),
        (AddColumns((NewColumn("x", pa.int8()), NewColumn("x", pa.int8()))), "column name 'x' appears twice"),
        (add("x", pa.null()), "column 'x' holds only nulls"),
        (add("x", pa.struct([])), "column 'x' has type struct<>, which cannot be kept"),
        (add("x", default=300), "column 'x': 300 is no exact value of int8"),
        (add("x", after="host"), "column 'x' cannot be after 'host'.*use first=True"),
        (add("x", after="ts"), "column 'x' cannot be after 'ts'.*use first=True"),
        (add("x", after="cup"), "column 'x', after='cup': no field 'cup'; did you mean 'cpu'"),
        (add("x", after="x"), "column 'x', after='x': no field 'x'"),
        (add("x", after="cpu", first=True), "column 'x' cannot be first and after 'cpu'"),
        (add("cpu", pa.int64()), "column 'cpu' is there already as int32, not int64"),
        (add("cpu", pa.int32(), first=True), "column 'cpu' is there already and stays where it is"),
        (add("cpu", pa.int32(), after="note"), "column 'cpu' is there already and stays where it is"),
        (add("cpu", pa.int32(), default=1), "column 'cpu' is there already with another default"),
        (add("host", pa.string()), "column 'host' is there already as the table's tag"),
        (add("ts", pa.timestamp("ms")), "column 'ts' is there already as the table's time"),
        (DropColumns(("nite",)), "no column 'nite'; did you mean 'note'"),
        (
            DropColumns(("host",)),
            f"column 'host' is a tag, {KEY}, and cannot be dropped; write the rows to a new table",
        ),
        (DropColumns(("host",), missing_ok=True), f"column 'host' is a tag, {KEY}"),
        (DropColumns(("ts",)), f"column 'ts' is the time column, {KEY}, and cannot be dropped"),
        (DropColumns("cpu"), r"names='cpu' is a string; give a tuple, such as names=\('cpu',\)"),
        (ModifyColumnTypes({"host": pa.int8()}), f"column 'host' is a tag, {KEY}, and keeps its type"),
        (ModifyColumnTypes({"ts": pa.timestamp("ns")}), f"column 'ts' is the time column, {KEY}, and keeps its type"),
        (ModifyColumnTypes({"gone": pa.int8()}), "no column 'gone'"),
        (ModifyColumnTypes({"cpu": pa.null()}), "column 'cpu' holds only nulls"),
        (
            ModifyColumnTypes({"cpu": pa.int16()}),
            "column 'cpu' is int32, and not every value of that is one of int16; add a new column and copy",
        ),
        (
            ModifyColumnTypes({"note": pa.int64()}),
            "column 'note' is string, and not every value of that is one of int64",
        ),
        (SetDefaults({"host": "a"}), f"column 'host' is a tag, {KEY}, and has no default"),
        (SetDefaults({"ts": 0}), "column 'ts' is the time column"),
        (SetDefaults({"cpu": "a"}), "column 'cpu': 'a' is no exact value of int32"),
        (SetDefaults({"cpu": None}), "column 'cpu': null is no default"),
        (SetDefaults({"gone": 1}), "no column 'gone'"),
        (DropDefaults(("host",)), "column 'host' is a tag"),
        (DropDefaults(("gone",)), "no column 'gone'"),
        (DropDefaults("cpu"), "names='cpu' is a string"),
        (SetIndexes({"ts": ("inverted",)}), "column 'ts' is the time column: files are sorted by it"),
        (SetIndexes({"host": ("invrted",)}), "column 'host': no kind of index 'invrted'; did you mean 'inverted'"),
        (SetIndexes({"cpu": ("fulltext",)}), "column 'cpu' is int32, and a fulltext index is one of text"),
        (SetIndexes({"cpu": "inverted"}), r"column 'cpu': indexes='inverted' is a string; give a tuple"),
        (SetIndexes({"gone": ()}), "no column 'gone'"),
        (UnsetIndexes(("ts",)), "column 'ts' is the time column"),
        (UnsetIndexes(("gone",)), "no column 'gone'"),
        (UnsetIndexes("host"), "names='host' is a string"),
    ],
    ids=str,
)
def test_what_cannot_be_altered_is_refused_by_name(alteration, message):
    with pytest.raises(InvalidInputError, match=message):
        alter(METADATA, alteration)
