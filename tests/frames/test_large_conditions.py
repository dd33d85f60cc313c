"""Conditions that are large, and conditions that cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import polars as pl
import pytest

import mitoframe as mito
from mitoframe.read import shares

START = datetime(2024, 1, 1)
ROWS, TERMS = 40_000, 1_000_000
PATIENCE_SECONDS = 30
NUMBERS = pl.int_range(TERMS, eager=True)
NAMES = ("host_" + (NUMBERS * 3).cast(pl.String)).implode()
MANY: dict[str, pl.Expr] = {
    "tag": pl.col("host").is_in(NAMES),
    "not tag": ~pl.col("host").is_in(NAMES),
    "integers": pl.col("load").is_in((NUMBERS * 2).implode()),
    "floats": pl.col("share").is_in((NUMBERS * 0.5).implode()),
    "time": pl.col("ts").is_in((NUMBERS * 120_000_000).cast(pl.Datetime("us")).implode()),
    "tag or field": pl.col("host").is_in(NAMES) | (pl.col("load") == 5),
}


def rows() -> pl.DataFrame:
    number = pl.int_range(ROWS, eager=True)
    return pl.DataFrame(
        {
            "host": "host_" + (number % 2000).cast(pl.String),
            "ts": (number * 60_000_000).cast(pl.Datetime("us")),
            "load": number % 1000,
            "share": (number % 977).cast(pl.Float64) / 4,
        }
    )


@pytest.fixture(scope="module")
def truth() -> pl.DataFrame:
    newer = rows().head(500).with_columns(load=pl.lit(5, dtype=pl.Int64))
    return pl.concat([rows(), newer]).unique(["host", "ts"], keep="last")


@pytest.fixture(scope="module")
def db() -> Iterator[mito.Database]:
    """Most rows in one file, some of them newer in memory."""
    with mito.open("memory://", row_group_rows=5000) as db:
        db.write(rows(), "cpu", time="ts", tags=["host"])
        db["cpu"].flush()
        db["cpu"].write(rows().head(500).with_columns(load=pl.lit(5, dtype=pl.Int64)))
        yield db


@pytest.mark.parametrize("few_rows", [0, shares.FEW_ROWS], ids=["many", "few"])
@pytest.mark.parametrize("name", MANY)
def test_a_million_values_are_looked_up_right_and_soon(
    db: mito.Database, truth: pl.DataFrame, name: str, few_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "FEW_ROWS", few_rows)
    expected = truth.filter(MANY[name])
    begun = monotonic()

    found = db.scan("cpu", where=MANY[name]).collect()

    assert monotonic() - begun < PATIENCE_SECONDS
    assert expected.height > 0
    assert found.sort(found.columns).equals(expected.sort(expected.columns))


def test_a_scan_for_a_million_values_is_explained_in_a_few_words(db: mito.Database) -> None:
    assert len(str(db.scan("cpu", where=MANY["tag"]).explain())) < 2000


WRONG: dict[str, dict[str, Any]] = {
    "column": {"where": pl.col("nope") > 1},
    "columns": {"columns": ["nope"]},
    "column twice": {"columns": ["load", "load"]},
    "no expression": {"where": "load > 1"},
    "start with a zone": {"start": START.replace(tzinfo=UTC)},
    "start after end": {"start": START, "end": START - timedelta(days=1)},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_refused_before_anything_is_read(db: mito.Database, name: str) -> None:
    with pytest.raises(mito.InvalidInputError):
        db.scan("cpu", **WRONG[name])


MISMATCHED = {
    "zone against none": pl.col("ts") > START.replace(tzinfo=UTC),
    "text against number": pl.col("load") == "a",
    "number against text": pl.col("host") == 1,
    "no boolean": pl.col("load") + 1,
}


@pytest.mark.parametrize("few_rows", [0, shares.FEW_ROWS], ids=["many", "few"])
@pytest.mark.parametrize("name", MISMATCHED)
def test_types_that_do_not_compare_are_an_error_never_rows(
    db: mito.Database, name: str, few_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "FEW_ROWS", few_rows)

    with pytest.raises((mito.InvalidInputError, pl.exceptions.PolarsError)):
        db.scan("cpu", where=MISMATCHED[name]).collect()
