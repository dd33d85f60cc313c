"""How values look as text and as JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mitoframe as mito
from mitoframe.cli.showing import facts_of, say, show_facts, show_frame, show_result, show_rows
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
    show_rows([], as_json=True)

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


HOSTILE = "ev\x1b[31mil\x1b]0;title\x07\r\n\tx\x9b31m\u202e\u2028"
HARMLESS = r"ev\x1b[31mil\x1b]0;title\x07\r\n\tx\x9b31m\u202e\u2028"


def test_what_a_terminal_would_obey_is_shown_and_not_sent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    show_frame(pl.DataFrame({f"a{HOSTILE}": [HOSTILE]}), as_json=False)
    show_facts({f"b{HOSTILE}": [HOSTILE], "c": {HOSTILE: 1}}, as_json=False)
    show_result(mito.WriteResult(table="\x1b[31mcpu", rows=2, first_sequence=1), as_json=False)
    say(HOSTILE.replace("\n", ""), is_error=True)

    shown = capsys.readouterr()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]", shown.out + shown.err)
    assert f"a{HARMLESS}\n" in shown.out
    assert f"\n{HARMLESS}\n" in shown.out
    assert f"b{HARMLESS}  {HARMLESS}\n" in shown.out
    assert f"{HARMLESS} 1\n" in shown.out


def test_json_tells_exactly_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    show_frame(pl.DataFrame({"a": [HOSTILE]}), as_json=True)

    text = capsys.readouterr().out
    assert json.loads(text) == [{"a": HOSTILE}]
    assert text.replace("\n", "").isprintable()


def test_letters_of_any_language_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts({"a": "日本語 ünï \N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} نمی‌خواهم"}, as_json=False)

    assert capsys.readouterr().out == "a  日本語 ünï \N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} نمی‌خواهم\n"


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 25), width=st.integers(1, 120), rows=st.integers(1, 3))
def test_nothing_is_left_out_of_a_table_that_is_too_wide(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int, width: int, rows: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    frame = pl.DataFrame({f"c{column}": [f"v{row}x{column}" for row in range(rows)] for column in range(count)})

    show_frame(frame, as_json=False)

    text = capsys.readouterr().out
    assert set(text.split()) - {"─" * len(line) for line in text.splitlines()} == {
        *frame.columns,
        *(value for row in frame.iter_rows() for value in row),
    }
    assert max(map(len, text.splitlines())) <= max(width, 20)


def test_a_table_that_is_too_wide_is_drawn_row_by_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "23")

    show_frame(
        pl.DataFrame({"host": ["a", "b"], "first_time": ["2024-01-01 00:00:00"] * 2, "rows": [1, 2]}), as_json=False
    )

    first = "host        a\nfirst_time  2024-01-01\n            00:00:00\nrows        1\n"
    assert capsys.readouterr().out == f"{first}\n{first.replace('  a', '  b').replace('  1', '  2')}"


def test_nanoseconds_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    moments = pl.Series([1, 1_700_000_000_123_456_789], dtype=pl.Int64)
    frame = pl.DataFrame({"a": moments.cast(pl.Datetime("ns")), "b": moments.cast(pl.Datetime("ns", "Asia/Tokyo"))})

    show_frame(frame, as_json=True)
    show_frame(frame, as_json=False)

    found, _, text = capsys.readouterr().out.partition("]\n")
    assert [*json.loads(found + "]")[1].values()] == [
        "2023-11-14T22:13:20.123456789",
        "2023-11-15T07:13:20.123456789+09:00",
    ]
    assert "1970-01-01T00:00:00.000000001" in text
