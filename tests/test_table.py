"""A table: what a write does to the rows before it, what can be looked at, and upkeep by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import matplotlib as mpl
import polars as pl
import pyarrow as pa
import pytest

import mitoframe as mito

mpl.use("agg")

START = datetime(2024, 1, 1)


def rows(loads: dict[tuple[str, int], float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"host": host, "ts": START + timedelta(minutes=minute), "load": load}
            for (host, minute), load in loads.items()
        ],
        schema={"host": pl.String, "ts": pl.Datetime("us"), "load": pl.Float64},
    )


@pytest.fixture
def cpu() -> Iterator[mito.Table]:
    schema = {"load": pl.Float64, "ts": pl.Datetime("us"), "host": pl.String, "note": pl.String}
    with mito.open("memory://", config=mito.MitoConfig(compaction_trigger_files=100)) as database:
        yield database.create_table("cpu", schema, time="ts", tags=["host"])


def loads(table: mito.Table) -> list[tuple[Any, ...]]:
    frame = table.scan(columns=["host", "ts", "load"]).to_polars().sort("host", "ts").collect()
    return [(host, (ts - START).seconds // 60, load) for host, ts, load in frame.rows()]


def test_a_row_of_the_same_key_replaces_the_older_one_whole(cpu: mito.Table) -> None:
    cpu.write(rows({("a", 0): 1.0, ("b", 0): 2.0}).with_columns(note=pl.lit("old")))

    cpu.write(rows({("a", 0): None}))

    assert loads(cpu) == [("a", 0, None), ("b", 0, 2.0)]
    assert cpu.scan().collect().sort("host")["note"].to_list() == [None, "old"]


def test_of_two_rows_of_one_key_in_one_frame_the_later_counts(cpu: mito.Table) -> None:
    cpu.write(pl.concat([rows({("a", 0): 1.0}), rows({("b", 0): 3.0}), rows({("a", 0): 2.0})]))

    assert loads(cpu) == [("a", 0, 2.0), ("b", 0, 3.0)]


def test_a_null_tag_is_a_series_of_its_own(cpu: mito.Table) -> None:
    cpu.write(pl.concat([rows({("", 0): 1.0}), rows({("", 0): 2.0}).with_columns(host=pl.lit(None, pl.String))]))

    assert loads(cpu) == [(None, 0, 2.0), ("", 0, 1.0)]


def test_a_write_says_what_it_wrote(cpu: mito.Table) -> None:
    first, second = cpu.write(rows({("a", 0): 1.0, ("b", 0): 2.0})), cpu.write(rows({("a", 1): 1.0}))

    assert (first.rows, first.first_sequence, first.created) == (2, 1, False)
    assert (second.rows, second.first_sequence) == (1, 3)
    assert repr(first) == "wrote 2 rows to 'cpu'"


def test_an_empty_frame_writes_nothing(cpu: mito.Table) -> None:
    result = cpu.write(rows({}))

    assert result.rows == 0
    assert cpu.write(rows({("a", 0): 1.0})).first_sequence == 1


def test_columns_are_in_canonical_order_whatever_order_they_came_in(cpu: mito.Table) -> None:
    assert cpu.schema.names == ["host", "ts", "load", "note"]
    assert cpu.schema.field("host").type == pa.large_string()
    assert not cpu.schema.field("ts").nullable
    assert (cpu.time, cpu.tags) == ("ts", ("host",))


def test_flush_compact_and_vacuum_change_files_and_no_rows(cpu: mito.Table) -> None:
    cpu.write(rows({("a", 0): 1.0, ("a", 1): 1.0}))
    assert [file.row_count for file in cpu.flush().files] == [2]
    cpu.write(rows({("a", 1): 2.0}))
    cpu.flush()
    assert cpu.flush().files == ()
    before = loads(cpu)

    result = cpu.compact()

    assert (len(result.removed), len(result.added)) == (2, 1)
    assert cpu.files().select("level", "rows").rows() == [(1, 2)]
    assert loads(cpu) == before == [("a", 0, 1.0), ("a", 1, 2.0)]
    assert len(cpu.vacuum(older_than="0s").removed) == 2
    assert loads(cpu) == before


def test_a_grace_that_is_no_duration_is_refused(cpu: mito.Table) -> None:
    with pytest.raises(mito.InvalidInputError, match="older_than='soon' is not a duration"):
        cpu.vacuum(older_than="soon")


def test_files_are_a_frame_also_before_there_are_any(cpu: mito.Table) -> None:
    assert cpu.files().columns == [
        *("file_id", "level", "min_time", "max_time", "rows", "deletes", "series", "size_bytes"),
        *("min_sequence", "max_sequence", "row_groups"),
    ]
    assert cpu.files().height == 0
    cpu.write(rows({("a", 0): 1.0, ("b", 5): 1.0}))
    cpu.flush()

    [file] = cpu.files().to_dicts()

    assert (file["min_time"], file["max_time"], file["rows"], file["series"]) == (
        START,
        START + timedelta(minutes=5),
        2,
        2,
    )
    assert file["size_bytes"] > 0


def test_the_timeline_shows_files_and_what_is_still_in_memory(cpu: mito.Table) -> None:
    from matplotlib import pyplot

    cpu.write(rows({("a", 0): 1.0}))
    cpu.flush()
    cpu.write(rows({("a", 1): 1.0}))
    figure, ax = pyplot.subplots()

    assert cpu.plot.timeline(ax=ax) is ax
    assert ax.has_data()
    pyplot.close(figure)


def test_a_table_shows_what_it_is(cpu: mito.Table) -> None:
    cpu.write(rows({("a", 0): 1.0}))
    cpu.flush()
    cpu.write(rows({("a", 1): 1.0, ("a", 2): 1.0}))

    assert repr(cpu) == "table 'cpu': time ts, tags host, 2 fields; 1 files with 1 rows, 2 rows in memory"
    assert cpu._repr_html_().startswith("<span>table &#x27;cpu&#x27;")


def test_a_table_without_tags_or_fields_is_a_set_of_times() -> None:
    with mito.open("memory://") as database:
        table = database.create_table("beats", {"ts": pl.Datetime("us")}, time="ts")

        table.write(pl.DataFrame({"ts": [START, START, START + timedelta(minutes=1)]}))

        assert table.scan().collect()["ts"].to_list() == [START, START + timedelta(minutes=1)]
        table.flush()
        assert table.scan().count() == 2
