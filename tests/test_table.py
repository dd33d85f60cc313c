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
        *("min_sequence", "max_sequence", "row_groups", "indexes", "index_bytes", "first_key", "last_key"),
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


def test_indexes_are_built_when_asked_for_and_seen_among_the_files(cpu: mito.Table) -> None:
    cpu.alter(
        indexes={"load": ["skipping"], "note": ["fulltext"], "host": ["inverted"]}, options={"index_mode": "manual"}
    )
    cpu.write(rows({("a", 0): 1.0}))
    cpu.flush()
    assert cpu.files().select("indexes", "index_bytes").rows() == [([], 0)]

    first, second = cpu.build_index(kinds=["skipping"]), cpu.build_index()

    assert repr(first).startswith("indexed 1 file (1 row) in ")
    [file] = cpu.files().to_dicts()
    assert file["indexes"] == ["load skipping", "note fulltext"]
    assert file["index_bytes"] == second.files[0].index.size_bytes
    assert repr(cpu.build_index()) == "nothing to index: every file has the indexes that are asked for"
    with pytest.raises(mito.InvalidInputError, match="no kind of index 'bloom'"):
        cpu.build_index(kinds=["bloom"])
    with pytest.raises(
        mito.InvalidInputError, match=r"kinds='skipping' is a string; give a list, such as \['skipping'\]"
    ):
        cpu.build_index(kinds="skipping")


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

    assert repr(cpu) == "table 'cpu': time ts, tags host, 2 fields; 1 file with 1 row, 2 rows in memory"
    assert "<div>table &#x27;cpu&#x27;" in cpu._repr_html_()


@pytest.mark.parametrize(
    ("end", "what"),
    [
        (lambda database: database.close(), "was closed; open the store again"),
        (lambda database: database.drop_table("cpu"), "was dropped; nothing of it can be read any more"),
    ],
    ids=["closed", "dropped"],
)
def test_a_table_that_can_no_longer_be_read_says_why_when_it_is_looked_at(end, what) -> None:
    with mito.open("memory://") as database:
        database.write(rows({("a", 0): 1.0}), "cpu", time="ts", tags=["host"])
        table = database["cpu"]

        end(database)

        assert repr(table).startswith("table 'cpu': ")
        assert what in repr(table)
        assert table._repr_html_() is None, "what repr says is shown"
        assert repr(table.plot).startswith("pictures of table 'cpu': timeline, windows, ")


def test_a_table_without_tags_or_fields_is_a_set_of_times() -> None:
    with mito.open("memory://") as database:
        table = database.create_table("beats", {"ts": pl.Datetime("us")}, time="ts")

        table.write(pl.DataFrame({"ts": [START, START, START + timedelta(minutes=1)]}))

        assert table.scan().collect()["ts"].to_list() == [START, START + timedelta(minutes=1)]
        table.flush()
        assert table.scan().count() == 2


# --- append, delete, replace, truncate, undo --------------------------------------------------------------------

PLACES = ["memory", "file", "both"]


@pytest.fixture(params=PLACES)
def filled(request: pytest.FixtureRequest, cpu: mito.Table) -> mito.Table:
    """Four rows of two hosts, in different places."""
    cpu.write(rows({("a", 0): 1.0, ("b", 0): 2.0}))
    if request.param == "both":
        cpu.flush()
    cpu.write(rows({("a", 1): 3.0, ("b", 1): 4.0}))
    if request.param == "file":
        cpu.flush()
    return cpu


ALL = [("a", 0, 1.0), ("a", 1, 3.0), ("b", 0, 2.0), ("b", 1, 4.0)]


def test_rows_that_are_new_are_appended(filled: mito.Table) -> None:
    result = filled.append(rows({("a", 2): 5.0, ("c", 0): 6.0}))

    assert (result.rows, result.first_sequence) == (2, 5)
    assert loads(filled) == sorted([*ALL, ("a", 2, 5.0), ("c", 0, 6.0)])
    assert filled.append(rows({})).rows == 0


@pytest.mark.parametrize(
    ("new", "named"),
    [
        (rows({("c", 0): 1.0, ("b", 1): 1.0, ("a", 0): 1.0}), "row 1 has .* 2 rows in all"),
        (pl.concat([rows({("c", 0): 1.0}), rows({("d", 0): 1.0, ("c", 0): 2.0})]), "row 2 has .* 1 row in all"),
    ],
    ids=["there already", "twice in the data"],
)
def test_a_row_that_is_not_new_is_named_and_none_is_appended(filled: mito.Table, new: pl.DataFrame, named: str) -> None:
    with pytest.raises(mito.InvalidInputError, match=named):
        filled.append(new)

    assert loads(filled) == ALL


def test_a_row_that_was_deleted_is_new(filled: mito.Table) -> None:
    filled.delete(tags={"host": "a"})

    filled.append(rows({("a", 0): 7.0}))

    assert loads(filled) == [("a", 0, 7.0), ("b", 0, 2.0), ("b", 1, 4.0)]


def said(value: Any) -> str:
    """Name a case by what was said; an expression's own name would change from run to run."""
    return " ".join(value) or "nothing" if isinstance(value, dict) else ""


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"tags": {"host": "a"}}, ALL[2:]),
        ({"tags": {"host": ["a", "b"]}}, []),
        ({"tags": {"host": []}}, ALL),
        ({"tags": {"host": None}}, ALL),
        ({"start": START + timedelta(minutes=1)}, [ALL[0], ALL[2]]),
        ({"end": START + timedelta(minutes=1)}, [ALL[1], ALL[3]]),
        ({"where": pl.col("load") > 2.5}, [ALL[0], ALL[2]]),
        ({"where": pl.col("note").is_null(), "tags": {"host": "b"}, "end": "2024-01-01T00:01"}, [*ALL[:2], ALL[3]]),
        ({"start": START, "end": START}, ALL),
    ],
    ids=said,
)  # fmt: skip
def test_what_fulfils_all_conditions_is_deleted_and_can_come_back(
    filled: mito.Table, given: dict[str, Any], left: list[Any]
) -> None:
    result = filled.delete(**given)

    assert (result.rows, loads(filled)) == (4 - len(left), left)
    if result.rows:
        assert result.undo().rows == result.rows
    assert loads(filled) == ALL


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs a condition"),
        ({"tags": {"hots": "a"}}, "did you mean 'host'"),
        ({"tags": {"load": 1.0}}, "no tag 'load'"),
        ({"where": pl.col("laod") > 1}, "did you mean 'load'"),
        ({"where": "load > 1"}, "where is a str"),
        ({"start": "2024-01-02", "end": "2024-01-01"}, "swap them"),
    ],
    ids=said,
)
def test_a_delete_that_makes_no_sense_is_refused(cpu: mito.Table, given: dict[str, Any], message: str) -> None:
    cpu.write(rows({("a", 0): 1.0}))

    with pytest.raises(mito.InvalidInputError, match=message):
        cpu.delete(**given)

    assert loads(cpu) == [("a", 0, 1.0)]


def test_a_large_range_is_taken_out_of_the_files(filled: mito.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitoframe.table.ROWS_DELETED_ONE_BY_ONE_MAX", 1)

    result = filled.delete(start=START + timedelta(minutes=1))

    assert (result.rows, loads(filled)) == (2, [ALL[0], ALL[2]])
    assert filled.files()["deletes"].sum() == 0
    with pytest.raises(mito.InvalidInputError, match="nothing that could be taken back"):
        result.undo()


def test_a_range_is_exchanged(filled: mito.Table) -> None:
    new = rows({("c", 1): 9.0})

    result = filled.replace_range(new, start=START + timedelta(minutes=1))

    assert (result.removed, result.rows) == (2, 1)
    assert loads(filled) == [ALL[0], ALL[2], ("c", 1, 9.0)]


def test_a_row_outside_of_the_range_is_named_and_nothing_is_exchanged(filled: mito.Table) -> None:
    with pytest.raises(mito.InvalidInputError, match="row 1 is not in the range"):
        filled.replace_range(rows({("c", 1): 9.0, ("c", 0): 9.0}), start=START + timedelta(minutes=1))

    assert loads(filled) == ALL


def test_a_table_is_emptied_whole_or_a_range_of_it(filled: mito.Table) -> None:
    assert filled.truncate(end=START + timedelta(minutes=1)).rows == 2
    assert loads(filled) == [ALL[1], ALL[3]]

    assert filled.truncate().rows == 2

    assert loads(filled) == []
    assert filled.write(rows({("a", 0): 5.0})).first_sequence == 5


def test_only_rows_that_are_in_no_file_are_given_up(cpu: mito.Table) -> None:
    cpu.write(rows({("a", 0): 1.0}))
    cpu.flush()
    cpu.write(rows({("a", 0): 2.0, ("b", 0): 2.0}))

    result = cpu.truncate(unflushed=True)

    assert (result.rows, loads(cpu)) == (2, [("a", 0, 1.0)])
    with pytest.raises(mito.InvalidInputError, match="leave out start and end"):
        cpu.truncate(start=START, unflushed=True)


def test_a_write_is_taken_back_once(filled: mito.Table) -> None:
    result = filled.write(rows({("a", 0): 7.0, ("c", 0): 7.0}))

    assert result.undo().rows == 2

    assert loads(filled) == ALL
    assert result.undo().rows == 0
    assert loads(filled) == ALL


def test_where_every_row_is_kept_writes_add_and_nothing_is_deleted_by_key() -> None:
    with mito.open("memory://") as database:
        table = database.create_table(
            "log", {"ts": pl.Datetime("us"), "host": pl.String, "load": pl.Float64}, time="ts", tags=["host"],
            options={"dedup": "none"},
        )  # fmt: skip
        table.write(rows({("a", 0): 1.0}))
        table.append(rows({("a", 0): 1.0}))
        table.flush()
        table.write(rows({("a", 0): 2.0}))

        assert sorted(loads(table)) == [("a", 0, 1.0), ("a", 0, 1.0), ("a", 0, 2.0)]
        with pytest.raises(mito.InvalidInputError, match="keeps every row"):
            table.delete(tags={"host": "a"})


def test_where_nulls_are_filled_a_delete_ends_the_filling() -> None:
    with mito.open("memory://") as database:
        schema = {"ts": pl.Datetime("us"), "host": pl.String, "load": pl.Float64}
        table = database.create_table("cpu", schema, time="ts", tags=["host"], options={"dedup": "merge"})
        table.write(rows({("a", 0): 1.0, ("b", 0): 2.0}))
        table.delete(tags={"host": "b"})

        table.write(rows({("a", 0): None, ("b", 0): None}))

        assert loads(table) == [("a", 0, 1.0), ("b", 0, None)]


def test_a_notebook_is_shown_columns_and_files(cpu: mito.Table) -> None:
    cpu.write(rows({("a", 0): 1.0}))
    cpu.flush()

    html = cpu._repr_html_()

    for text in ("Columns", "host", "tag", "Files, the newest first", cpu.files()["file_id"][0], "L0"):
        assert text in html
