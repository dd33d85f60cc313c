"""Whatever an option is set to, it is refused by its name, before anything is changed, or the store works with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import polars as pl
import pytest

import mitoframe as mito
from mitoframe.altering import OPTIONS
from mitoframe.model.options import MitoConfig

SCHEMA = {"ts": pl.Datetime("ns"), "host": pl.String, "load": pl.Float64}
NUMBERS = [-1, 0, 1, 2, 2**31, 2**63, 10**30]
DURATIONS = ["0s", "1ms", "5000w", "100000w", "99999999999999w", timedelta(0), timedelta(-1), timedelta.max]
NONSENSE: list[Any] = [1.5, float("nan"), float("inf"), True, None, "", "much", "-1h", "h", b"1h", [], {}, object()]
VALUES = [*NONSENSE, *NUMBERS, *DURATIONS]
DAYS = 2


def use(db: mito.Database, **options: Any) -> None:
    """Write, flush, merge and collect, and find every row that has not expired."""
    frames = [
        pl.DataFrame(
            {"ts": [datetime(2024, 1, 1 + n % DAYS), datetime(2024, 1, 1, 1)], "host": ["a", "b"], "load": [n, n]},
            schema_overrides=SCHEMA,
        )
        for n in range(2 * DAYS)
    ]
    table = db.create_table("cpu", SCHEMA, time="ts", tags=["host"], options=options)
    for frame in frames:
        table.write(frame)
        table.flush()
    table.compaction_plan()
    with suppress(mito.LimitExceededError):  # Merges may take no memory: they are skipped.
        table.compact()
        db.maintain()
    table.expire()
    table.vacuum()
    found = table.scan().count()
    assert found == DAYS + 1 or ("ttl" in options and found < DAYS + 1)


def named(name: str) -> str:
    """Say how a message names an option: a duration also with its unit."""
    return rf"\b{re.escape(name)}(_ms)?\b"


def refusal_of(make: Callable[[], object]) -> str | None:
    """Return what is said of an option or setting, None if it is taken."""
    try:
        make()
    except mito.InvalidInputError as error:
        return str(error)
    return None


def of_values(make: Callable[[Any], Any]) -> Iterator[tuple[Any, str | None]]:
    """Yield each value, and what is said of it."""
    yield from ((value, refusal_of(partial(make, value))) for value in VALUES)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_a_table_is_refused_by_name_or_works(name: str) -> None:
    with mito.open("memory://") as db:

        def create(value: Any) -> None:
            db.create_table(f"table {value!r}"[:50], SCHEMA, time="ts", tags=["host"], options={name: value})

        told = list(of_values(create))
        refused = [(value, message) for value, message in told if message is not None]
        taken = [value for value, message in told if message is None]

        assert len(db.tables()) == len(taken), "what is refused makes no table"
        for value, message in refused:
            assert re.search(named(name), message), f"{value!r}: {message}"
        assert len(refused) >= len(NONSENSE) - 1
        for value in (*taken[:1], *taken[-1:]):
            use(db, **{name: value})
            db.drop_table("cpu")


@pytest.mark.parametrize("name", [field.name for field in fields(MitoConfig)])
def test_a_setting_of_a_store_is_refused_by_name_or_works(name: str) -> None:
    told = list(of_values(lambda value: MitoConfig(**{name: value})))
    refused = [(value, message) for value, message in told if message is not None]
    taken = [value for value, message in told if message is None]

    for value, message in refused:
        assert re.search(named(name), message), f"{value!r}: {message}"
    assert len(refused) >= len(NONSENSE) - 1
    for value in (*taken[:1], *taken[-1:]):
        with mito.open("memory://", config=MitoConfig(**{name: value})) as db:
            use(db)
