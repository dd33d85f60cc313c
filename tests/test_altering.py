"""What users say of columns and options, and what becomes of the rows that are there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import mitoframe as mito
from mitoframe.altering import OPTIONS, alterations, arrow_types, option_name, region_options
from mitoframe.model.alter import (
    AddColumns,
    DropColumns,
    DropDefaults,
    ModifyColumnTypes,
    SetDefaults,
    SetIndexes,
    UnsetIndexes,
)
from mitoframe.model.options import RegionOptions

START = datetime(2024, 1, 1)
SCHEMA = {"host": pl.String, "ts": pl.Datetime("us"), "load": pl.Int32}
NOTHING: dict[str, Any] = {
    "add": {}, "drop": (), "retype": {}, "defaults": {}, "drop_defaults": (), "indexes": {}, "drop_indexes": (),
}  # fmt: skip


@pytest.fixture(params=["memory", "file", "both"])
def cpu(request: pytest.FixtureRequest) -> Iterator[mito.Table]:
    """Three rows, in different places."""
    with mito.open("memory://", compaction_trigger_files=100) as database:
        table = database.create_table("cpu", SCHEMA, time="ts", tags=["host"])
        table.write(frame({0: 0, 1: 1}))
        if request.param == "both":
            table.flush()
        table.write(frame({2: 2}))
        if request.param == "file":
            table.flush()
        yield table


def frame(loads: dict[int, int | None]) -> pl.DataFrame:
    rows = [("a", START + timedelta(minutes=minute), load) for minute, load in loads.items()]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def column(table: mito.Table, name: str) -> list[Any]:
    return table.scan().collect().sort("ts")[name].to_list()


def test_changes_that_make_room_come_first() -> None:
    given = {
        "drop_indexes": ["host"],
        "indexes": {"host": ["inverted"]},
        "drop_defaults": ["b"],
        "defaults": {"x": 1, "b": 2},
        "retype": {"b": pl.Int64},
        "add": {"x": pl.Int64},
        "drop": ["x"],
    }

    found = alterations(**NOTHING | given)

    kinds = [DropColumns, AddColumns, ModifyColumnTypes, SetDefaults, DropDefaults, SetIndexes, UnsetIndexes]
    assert [type(each) for each in found] == kinds
    assert isinstance(found[1], AddColumns)
    assert [(new.name, new.default) for new in found[1].columns] == [("x", 1)]
    assert alterations(**NOTHING) == ()


@pytest.mark.parametrize("name", ["drop", "drop_defaults", "drop_indexes"])
def test_a_string_in_the_place_of_a_list_is_refused(name: str) -> None:
    with pytest.raises(mito.InvalidInputError, match=rf"{name}='load' is a string; give a list"):
        alterations(**NOTHING | {name: "load"})
    with pytest.raises(mito.InvalidInputError, match=r"indexes\['load'\]='inverted' is a string"):
        alterations(**NOTHING | {"indexes": {"load": "inverted"}})


def test_types_may_be_those_of_polars_and_of_arrow() -> None:
    types = {"b": pa.int16(), "a": pl.List(pl.Float32), "c": pl.Datetime("ns", "UTC")}

    found = arrow_types(types)

    assert list(found) == ["b", "a", "c"]
    assert found["b"] == pa.int16()
    assert found["c"] == pa.timestamp("ns", "UTC")


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_has_its_name_in_the_engine(option: str) -> None:
    assert option_name(option) in RegionOptions.__dataclass_fields__


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"dedupe": "last"}, "did you mean 'dedup'"),
        ({"compaction_window_ms": 5}, "no option 'compaction_window_ms'"),
        ({5: 5}, "no option '5'"),
    ],
)
def test_an_option_that_is_none_is_refused(given: Any, error: str) -> None:
    with pytest.raises(mito.ConfigError, match=error):
        region_options(given)


# --- rows that are there ----------------------------------------------------------------------------------------


def test_older_rows_have_the_default_that_a_field_was_added_with(cpu: mito.Table) -> None:
    result = cpu.alter(add={"room": pl.String, "rank": pl.Int64}, defaults={"room": "lab"})
    cpu.write(frame({3: 3}).with_columns(room=pl.lit(None, pl.String)))
    cpu.write(frame({4: 4}))

    assert (result.changed, result.schema_version) == (True, 2)
    assert cpu.schema.names == ["host", "ts", "load", "room", "rank"]
    assert column(cpu, "room") == ["lab", "lab", "lab", None, "lab"]
    assert column(cpu, "rank") == [None] * 5


def test_a_default_that_is_set_later_is_for_rows_to_come(cpu: mito.Table) -> None:
    cpu.alter(defaults={"load": 7})
    cpu.write(frame({3: None}).drop("load"))
    cpu.alter(drop_defaults=["load"])
    cpu.write(frame({4: None}).drop("load"))

    assert column(cpu, "load") == [0, 1, 2, 7, None]


def test_a_field_that_is_dropped_and_added_again_is_another_one(cpu: mito.Table) -> None:
    cpu.alter(drop=["load"], add={"load": pl.String})

    assert column(cpu, "load") == [None] * 3
    cpu.flush()
    cpu.compact()
    assert column(cpu, "load") == [None] * 3
    assert cpu.scan(where=pl.col("load").is_null()).count() == 3


def test_a_field_gets_a_wider_type_and_keeps_its_values(cpu: mito.Table) -> None:
    cpu.alter(retype={"load": pl.Int64})
    cpu.write(frame({3: 3}).with_columns(load=pl.lit(2**40)))

    assert cpu.schema.field("load").type == pa.int64()
    assert column(cpu, "load") == [0, 1, 2, 2**40]
    assert cpu.scan(where=pl.col("load") == 1).count() == 1


@pytest.mark.parametrize(
    "given",
    [
        {"drop": ["ts"]},
        {"drop": ["host"]},
        {"drop": ["none"]},
        {"retype": {"load": pl.Int8}},
        {"add": {"load": pl.String}},
        {"defaults": {"load": "text"}},
        {"add": {"x": pl.Int64}, "drop": ["none"]},
        {"add": {"x": pl.Int64}, "options": {"dedup": "merge"}},
        {"options": {"compaction_window": "1h"}, "unset": ["compaction_window"]},
    ],
    ids=range(9),
)
def test_what_cannot_be_done_changes_nothing(cpu: mito.Table, given: dict[str, Any]) -> None:
    before = cpu._version()

    with pytest.raises(mito.MitoError):
        cpu.alter(**given)

    assert cpu._version() is before
    assert column(cpu, "load") == [0, 1, 2]


def test_what_is_so_already_is_no_change(cpu: mito.Table) -> None:
    before = cpu._version()

    result = cpu.alter(retype={"load": pl.Int32}, unset=["compaction_window"], options={"dedup": "last"})

    assert (result.changed, cpu._version()) == (False, before)
    assert repr(result) == "no change of 'cpu', schema version 1"


def test_every_row_is_kept_from_then_on_and_what_was_overwritten_stays_gone(cpu: mito.Table) -> None:
    cpu.write(frame({0: 10}))
    cpu.delete(start=START + timedelta(minutes=1), end=START + timedelta(minutes=2))

    cpu.alter(options={"dedup": "none"})
    cpu.write(frame({0: 11}))

    assert column(cpu, "load") in ([10, 11, 2], [11, 10, 2])
    with pytest.raises(mito.InvalidInputError, match="keeps every row"):
        cpu.delete(tags={"host": "a"})


def test_the_schema_is_the_same_after_opening_again(tmp_path: Any) -> None:
    with mito.open(tmp_path) as database:
        table = database.create_table("cpu", SCHEMA, time="ts", tags=["host"])
        table.write(frame({0: 0}))
        table.alter(add={"room": pl.String}, defaults={"room": "lab"}, options={"compaction_window": "2h"})
        schema = table.schema

    with mito.open(tmp_path) as database:
        assert database["cpu"].schema == schema
        assert column(database["cpu"], "room") == ["lab"]
        assert database.tables()["fields"].to_list() == [2]
        with pytest.raises(mito.InvalidInputError, match="compaction_window_ms=7200000, not 3600000"):
            database.write(frame({1: 1}), "cpu", options={"compaction_window": "1h"})
