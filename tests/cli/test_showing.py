"""How values look as text and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import mitoframe as mito
from mitoframe.cli.showing import facts_of, show_facts, show_frame, show_result, show_rows
from mitoframe.testing.golden import assert_golden

GOLDEN = Path(__file__).parents[1] / "golden" / "cli"
VALUES = {
    "none": None,
    "flag": True,
    "whole": 1_234_567,
    "float": 0.1234567,
    "nan": float("nan"),
    "text": "ä [b]",
    "time": datetime(2024, 1, 1, 12, tzinfo=UTC),
    "date": date(2024, 1, 1),
    "clock": time(12, 30),
    "span": timedelta(seconds=1.5),
    "bytes": b"\x00\xff",
    "decimal": Decimal("1.50"),
    "list": [1, None, "a"],
    "object": {"a": float("inf")},
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")


def test_values_in_json_are_what_json_has(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts(VALUES, as_json=True)

    assert json.loads(capsys.readouterr().out) == {
        "none": None,
        "flag": True,
        "whole": 1_234_567,
        "float": 0.1234567,
        "nan": None,
        "text": "ä [b]",
        "time": "2024-01-01T12:00:00+00:00",
        "date": "2024-01-01",
        "clock": "12:30:00",
        "span": 1.5,
        "bytes": "00ff",
        "decimal": "1.50",
        "list": [1, None, "a"],
        "object": {"a": None},
    }


def test_values_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts(VALUES, as_json=False)

    assert_golden(GOLDEN / "facts.txt", capsys.readouterr().out)


def test_a_frame_is_a_table_as_wide_as_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pl.DataFrame({"name": ["cpu", "a [bold]name[/]"], "rows": [12_345, 6], "note": ["short", "long " * 20]})

    show_frame(frame, as_json=False)

    assert_golden(GOLDEN / "frame.txt", capsys.readouterr().out)


def test_where_nobody_looks_no_line_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")

    show_frame(pl.DataFrame({"note": ["long " * 100]}), as_json=False)

    assert len(capsys.readouterr().out.splitlines()) == 3


def test_rows_in_json_are_an_array_with_a_row_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_frame(pl.DataFrame({"a": [1, 2]}), as_json=True)
    show_rows([])

    assert capsys.readouterr().out == '[\n{"a": 1},\n{"a": 2}\n]\n[]\n'


def test_a_frame_without_rows_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show_frame(pl.DataFrame({"a": []}), as_json=False)

    assert capsys.readouterr().out == "nothing\n"


def test_a_result_is_its_text_or_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    result = mito.WriteResult(table="cpu", rows=2, first_sequence=1)

    show_result(result, as_json=False)
    show_result(result, as_json=True)

    text, fields = capsys.readouterr().out.splitlines()
    assert text == "wrote 2 rows to 'cpu'"
    assert json.loads(fields) == facts_of(result)
    assert "_undo" not in fields
