"""What `explain_write` says is what `write` then does, and saying it writes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mitoframe as mito

START = datetime(2024, 1, 1)
SCHEMA = {"ts": pl.Datetime("ms"), "host": pl.String, "load": pl.Float64}
keys = st.tuples(st.integers(-300, 300), st.sampled_from(["a", "b", None]))
rows = st.lists(keys, min_size=1, max_size=25)


def frame_of(chosen: list[tuple[int, str | None]]) -> pl.DataFrame:
    columns = {
        "ts": [START + timedelta(minutes=minute) for minute, _ in chosen],
        "host": [host for _, host in chosen],
        "load": [0.5] * len(chosen),
    }
    return pl.DataFrame(columns, schema=SCHEMA)


@settings(deadline=None, max_examples=40)
@given(first=rows, second=rows, flushed=st.booleans())
def test_it_says_what_the_write_then_does(
    first: list[tuple[int, str | None]], second: list[tuple[int, str | None]], flushed: bool
) -> None:
    with mito.open("memory://") as db:
        cpu = db.create_table("cpu", SCHEMA, time="ts", tags=["host"], options={"compaction_window": "1h"})
        cpu.write(frame_of(first))
        if flushed:
            cpu.flush()
        before = cpu.scan().collect()

        said = cpu.explain_write(frame_of(second))

        assert cpu.scan().collect().equals(before), "it wrote"
        assert said.rows == len(second)
        assert said.repeated == len(second) - len(set(second))
        assert said.replaced == sum(key in set(first) for key in second)
        assert said.late == sum(minute < max(m for m, _ in first) for minute, _ in second)
        assert said.windows["rows"].to_list() == [
            sum(minute // 60 == hour for minute, _ in second) for hour in sorted({minute // 60 for minute, _ in second})
        ]
        assert {name: said.windows[name].sum() for name in ("repeated", "replaced", "late")} == {
            "repeated": said.repeated,
            "replaced": said.replaced,
            "late": said.late,
        }


def test_a_deleted_row_is_not_replaced() -> None:
    with mito.open("memory://") as db:
        cpu = db.create_table("cpu", SCHEMA, time="ts", tags=["host"])
        cpu.write(frame_of([(0, "a")]))
        cpu.delete(tags={"host": "a"})

        assert cpu.explain_write(frame_of([(0, "a")])).replaced == 0


def test_it_names_casts_and_what_is_filled() -> None:
    with mito.open("memory://") as db:
        cpu = db.create_table("cpu", SCHEMA, time="ts", tags=["host"])
        cpu.alter(add={"room": pl.String}, defaults={"room": "lab"})

        said = cpu.explain_write(frame_of([(0, "a")]).with_columns(load=pl.lit(1, pl.Int32)))

        assert said.casts == ("load: int32 to float64", "room: absent, filled with 'lab'")


def test_it_tells_files_from_memory() -> None:
    days = pl.DataFrame({"ts": [START + timedelta(days=day) for day in range(4)], "host": ["a"] * 4, "load": [1.0] * 4})
    with mito.open("memory://", backfill_size_bytes=1) as db:
        cpu = db.create_table("cpu", SCHEMA, time="ts", tags=["host"])

        said = cpu.explain_write(days)
        cpu.write(days)

        assert said.path == "files"
        assert said.files == cpu.files().height


def test_it_refuses_what_a_write_refuses() -> None:
    with mito.open("memory://") as db:
        cpu = db.create_table("cpu", SCHEMA, time="ts", tags=["host"])

        with pytest.raises(mito.InvalidInputError, match="load"):
            cpu.explain_write(frame_of([(0, "a")]).with_columns(load=pl.lit("x")))


def test_no_rows_touch_nothing() -> None:
    with mito.open("memory://") as db:
        cpu = db.create_table("cpu", SCHEMA, time="ts", tags=["host"])

        said = cpu.explain_write(frame_of([]))

        assert (said.rows, said.files, said.windows.height) == (0, 0, 0)
