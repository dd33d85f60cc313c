"""A bar where somebody looks, and nothing anywhere else."""

from __future__ import annotations

import datetime as dt
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from tqdm.auto import tqdm

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


# --- what has a bar -------------------------------------------------------------------------------------


class Bar(tqdm):
    """A bar that nobody sees, and that remembers what it showed."""

    made: ClassVar[list[Bar]] = []

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, file=io.StringIO())
        self.said, self.unit_said, self.seen, self.is_closed = options["desc"], options["unit"], [0], False
        self.made.append(self)

    def update(self, n: float | None = 1) -> bool | None:
        shown = super().update(n)
        self.seen.append(int(self.n))
        return shown

    def close(self) -> None:
        self.is_closed = True
        super().close()


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    monkeypatch.setattr(Bar, "made", [])
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    return Bar.made


def frame_of(*loads: float) -> pl.DataFrame:
    times = [dt.datetime(2024, 1, 1, hour) for hour in range(len(loads))]
    return pl.DataFrame({"ts": times, "host": "a", "load": loads})


def opened(folder: Path, **config: Any) -> mito.Database:
    """Open a store that does nothing by itself."""
    return mito.open(folder, compaction_mode="manual", flush_on_close=False, **config)


def with_two_files(folder: Path) -> None:
    with opened(folder) as db:
        for load in (1.0, 2.0):
            db.write(frame_of(load, load, load), "cpu", time="ts", tags=["host"], options={"index_mode": "manual"})
            db["cpu"].flush()


def backfill(folder: Path) -> None:
    with opened(folder, backfill_size_bytes=1) as db:
        db["cpu"].write(frame_of(3.0, 4.0))


def compact(folder: Path) -> None:
    with opened(folder) as db:
        db["cpu"].compact()


def compact_and_vacuum(folder: Path) -> None:
    with opened(folder) as db:
        db["cpu"].compact()
        assert len(db["cpu"].vacuum("0s").removed) == 2


def build_indexes(folder: Path) -> None:
    with opened(folder) as db:
        db["cpu"].alter(indexes={"load": ["inverted"]})
        assert len(db["cpu"].build_index().files) == 2


def verify(folder: Path) -> None:
    with opened(folder) as db:
        assert db.verify().files == 2


def look_at_coverage(folder: Path) -> None:
    with opened(folder) as db:
        assert db["cpu"].coverage(by="host").height == 2


def recover(folder: Path) -> None:
    with opened(folder) as db:
        for load in (5.0, 6.0):
            db["cpu"].write(frame_of(load, load))
    for mode in ("rw", "r"):
        with mito.open(folder, mode=mode, flush_on_close=False) as db:
            assert db["cpu"].scan().count() == 3


WAITED_FOR: dict[str, tuple[Callable[[Path], None], list[tuple[str, str, list[int]]]]] = {
    "backfill": (backfill, [("writing 'cpu'", " rows", [0, 2])]),
    "compaction": (compact, [("compact cpu", " rows", [0, 6])]),
    "vacuum": (compact_and_vacuum, [("compact cpu", " rows", [0, 6]), ("vacuum cpu", " files", [0, 1, 2])]),
    "index": (build_indexes, [("index cpu", " rows", [0, 3, 6])]),
    "coverage": (look_at_coverage, [("coverage of cpu", " files", [0, 2])]),
    "recovery": (recover, [("recover", " rows", [0, 2, 4])] * 2),
}


@pytest.mark.parametrize("what", WAITED_FOR)
def test_whoever_waits_sees_how_far_it_is(what: str, bars: list[Bar], tmp_path: Path) -> None:
    do, expected = WAITED_FOR[what]
    with_two_files(tmp_path)
    assert bars == [], "what takes its rows and is done shows nothing"

    do(tmp_path)

    assert [(bar.said, bar.unit_said, sorted(set(bar.seen))) for bar in bars] == expected
    assert all(bar.is_closed for bar in bars)


def test_whoever_has_all_read_sees_how_many_bytes_were(bars: list[Bar], tmp_path: Path) -> None:
    with_two_files(tmp_path)
    size_bytes = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))

    verify(tmp_path)

    [bar] = bars
    assert (bar.said, bar.unit_said, bar.is_closed) == ("verify", " bytes", True)
    assert bar.seen == sorted(bar.seen)
    assert bar.seen[-1] == size_bytes


ALL = [*(do for do, _ in WAITED_FOR.values()), verify]


@pytest.mark.parametrize("do", ALL, ids=lambda do: do.__name__)
def test_where_nobody_looks_no_bar_is_made(
    do: Callable[[Path], None], bars: list[Bar], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_two_files(tmp_path)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)

    do(tmp_path)

    assert bars == []


@pytest.mark.parametrize("do", ALL, ids=lambda do: do.__name__)
def test_one_switch_is_for_all_bars_and_counts_from_when_it_is_set(
    do: Callable[[Path], None], bars: list[Bar], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_two_files(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")

    do(tmp_path)

    assert bars == []


def test_what_a_store_does_by_itself_shows_no_bar(bars: list[Bar], tmp_path: Path) -> None:
    with_two_files(tmp_path)

    with mito.open(tmp_path, compaction_trigger_files=2, gc_grace_ms=0) as db:
        assert db["cpu"].files().height == 2
        db.maintain()
        assert db["cpu"].files().height == 1

    assert bars == []
