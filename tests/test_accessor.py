"""``df.to_mito(...)`` on the frames people have."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import polars as pl
import pytest

import mitoframe as mito
from mitoframe.accessor import register

FRAME = pl.DataFrame({"ts": [datetime(2024, 1, 1)], "host": ["a"], "load": [0.5]})


@pytest.mark.parametrize("frame", [FRAME, FRAME.lazy(), FRAME.to_pandas()], ids=["polars", "lazy", "pandas"])
def test_every_frame_writes_itself_to_the_default_store(frame: object) -> None:
    with mito.open("memory://") as database:
        result = frame.to_mito("cpu", time="ts", tags=["host"])  # type: ignore[attr-defined]

        assert (result.rows, result.created) == (1, True)
        assert database.scan("cpu").collect().to_dicts() == FRAME.select("host", "ts", "load").to_dicts()


def test_a_frame_is_written_to_the_store_it_is_told() -> None:
    with mito.open("memory://") as told, mito.open("memory://") as default:
        FRAME.to_mito("cpu", time="ts", db=told)  # type: ignore[attr-defined]

        assert "cpu" in told
        assert "cpu" not in default


@pytest.mark.parametrize("name", [None, "ts"])
def test_a_pandas_frame_indexed_by_time_writes_its_index_as_the_time(name: str | None) -> None:
    frame = pd.DataFrame({"load": [0.5]}, index=pd.DatetimeIndex(["2024-01-01"], name=name))

    with mito.open("memory://") as database:
        frame.to_mito("cpu", time="ts")  # type: ignore[operator]
        frame.assign(load=1.5).to_mito("cpu")

        assert database.scan("cpu").to_pandas().to_dict("list") == {"ts": [pd.Timestamp("2024-01-01")], "load": [1.5]}


def test_registering_twice_is_fine_and_warns_of_nothing() -> None:
    register()

    assert pd.DataFrame.to_mito is not None  # type: ignore[attr-defined]
    assert pl.LazyFrame.to_mito is not None  # type: ignore[attr-defined]


def test_a_lazy_frame_over_a_table_can_be_written_to_another_and_back() -> None:
    with mito.open("memory://") as database:
        FRAME.to_mito("cpu", time="ts", tags=["host"])  # type: ignore[attr-defined]

        database.scan("cpu").to_polars().with_columns(load=pl.col("load") * 2).to_mito("cpu")  # type: ignore[attr-defined]

        assert database.scan("cpu").collect()["load"].to_list() == [1.0]
