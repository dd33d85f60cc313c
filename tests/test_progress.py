"""A bar where somebody looks, and nothing anywhere else."""

from __future__ import annotations

import datetime as dt
import sys
import time

import polars as pl
import pytest

import mitoframe as mito
from mitoframe import progress
from mitoframe.failpoints import watching


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_WITHOUT", 0)


def test_a_terminal_sees_how_far_it_is(
    at_once: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    with progress.progress("writing 'cpu'", "rows") as told:
        told(1_000)
        time.sleep(0.2)  # A bar is drawn no more than ten times a second.
        told(2_500)

    shown = capsys.readouterr().err
    assert "writing 'cpu'" in shown
    assert "2.50k rows" in shown


def test_a_file_sees_nothing(at_once: None, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("writing 'cpu'", "rows") as told:
        told(1_000)

    assert capsys.readouterr().err == ""


def test_what_takes_less_than_a_second_shows_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    with progress.progress("writing 'cpu'", "rows") as told:
        told(1_000)

    assert "1.00k" not in capsys.readouterr().err


def test_who_compacts_by_hand_sees_how_far_it_is(
    at_once: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with mito.open("memory://", compaction_trigger_files=100) as db:
        for load in (1.0, 2.0):
            frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "load": [load]})
            db.write(frame, "cpu", time="ts", tags=["host"])
            db["cpu"].flush()

        with watching(lambda name: time.sleep(0.2) if name == "compact.sst_stored" else None):
            db["cpu"].compact()

    shown = capsys.readouterr().err
    assert "compact cpu" in shown
    assert "2.00 rows" in shown
