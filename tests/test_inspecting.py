"""`table.inspect()` over a real store: what the engine is asked, and that no row is read for it."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from builders import file_of

import mitoframe as mito
from mitoframe.inspecting import TableSource
from mitoframe.model.edit import FileEdit
from mitoframe.model.errors import InvalidInputError, MitoError
from mitoframe.views.panel import Panel, _widget_class

START = datetime(2024, 1, 1)
HOUR_MS = 3_600_000


def frame_of(hours: int, first: int = 0) -> pl.DataFrame:
    times = [START + timedelta(hours=first + number) for number in range(hours)]
    return pl.DataFrame({"ts": times * 2, "host": ["a"] * hours + ["b"] * hours, "cpu": [0.5] * 2 * hours})


@pytest.fixture
def db() -> Iterator[mito.Database]:
    with mito.open("memory://", compaction_mode="manual") as opened:
        opened.write(frame_of(5), "cpu", time="ts", tags=["host"])
        opened["cpu"].flush()
        for first in (0, 2, 50):
            opened["cpu"].write(frame_of(5, first))
            opened["cpu"].flush()
        opened["cpu"].compact()
        for number in range(4):
            opened["cpu"].write(frame_of(5, 50 + number))
            opened["cpu"].flush()
        opened["cpu"].write(frame_of(1, 99))
        yield opened


def panel_of(db: mito.Database, name: str = "cpu") -> Panel:
    table = db[name]
    return Panel(TableSource(table.name, db.engine, table.region_id, lambda: None), MitoError)


def test_every_file_that_was_merged_is_known_with_its_times(db: mito.Database) -> None:
    strata = panel_of(db).strata

    counts = strata.steps.files.tolist()
    assert strata.steps.what == ("create", *["flush"] * 4, "compact", *["flush"] * 4)
    assert counts[:5] == [0, 1, 2, 3, 4]
    assert counts[5] < 4
    assert counts[-1] == db["cpu"].files().height
    assert sorted(set(strata.level[strata.now].tolist())) == [-1, 0, 1]


def test_a_footer_says_what_is_in_a_file(db: mito.Database) -> None:
    panel = panel_of(db)
    number = next(n for n in panel.strata.now if panel.strata.level[n] == 1)

    answer = panel.answer({"ask": "footer", "file": panel.strata.file_ids[number], "id": 1})

    assert answer["keys"] == [{"host": "a"}, {"host": "b"}]
    [window] = answer["window"]
    assert window["window_start"] <= answer["file"][0]["max_time"] < window["window_end"]
    assert window["reason"]
    assert {"host", "ts", "cpu"} <= {column["column"] for column in answer["columns"]}
    [cpu] = [column for column in answer["columns"] if column["column"] == "cpu"]
    assert (cpu["min"], cpu["max"], cpu["type"]) == ("0.5", "0.5", "double")
    assert sum(group["rows"] for group in answer["row_groups"]) == answer["file"][0]["rows"]


def test_a_file_that_was_vacuumed_is_refused_in_words(db: mito.Database) -> None:
    panel = panel_of(db)
    number = next(n for n in range(len(panel.strata)) if panel.strata.died[n] < len(panel.strata.steps))

    db["cpu"].vacuum("0s")

    assert (
        "not there any more" in panel.answer({"ask": "footer", "file": panel.strata.file_ids[number], "id": 1})["error"]
    )


def test_files_that_were_vacuumed_are_drawn_at_the_steps_at_which_they_were_there(db: mito.Database) -> None:
    before = panel_of(db).strata

    db["cpu"].vacuum("0s")
    after = panel_of(db).strata

    assert not db.engine.region(db["cpu"].region_id).state.removed_files
    columns = ("file_ids", "level", "lane", "start_ms", "end_ms", "born", "died", "rows", "size_bytes", "created_ms")
    for column in columns:
        assert list(getattr(after, column)) == list(getattr(before, column)), column


def test_a_lower_trigger_makes_more_to_do(db: mito.Database) -> None:
    panel = panel_of(db)

    counts = [
        panel.answer({"ask": "plan", "options": {"compaction_trigger_files": n}, "id": 1})["task_count"] for n in (8, 2)
    ]
    replays = [panel.answer({"ask": "replay", "options": {"compaction_trigger_files": n}, "id": 1}) for n in (8, 2)]

    assert counts[0] == 0 < counts[1]
    lazy, eager = (replay["steps"]["write_amplification"][-1] for replay in replays)
    assert lazy < eager
    assert replays[0]["usual"] == replays[1]["usual"]


def test_other_options_than_those_of_the_sliders_are_refused(db: mito.Database) -> None:
    source = TableSource("cpu", db.engine, db["cpu"].region_id, lambda: None)

    with pytest.raises(InvalidInputError, match="'policy' is not one of"):
        source.plan({"policy": 1})


def test_what_is_live_is_what_the_engine_says(db: mito.Database) -> None:
    answer = panel_of(db).answer({"ask": "live", "id": 1})

    assert [memtable["rows"] for memtable in answer["memtables"]] == [2]
    assert answer["log"][0]["behind"] == 1
    assert {"lane", "table"} == {job["kind"] for job in answer["jobs"]}
    assert answer["version"] == 9


@pytest.mark.parametrize("times", [[], [0], [2**62], [-(2**62), 2**62]])
def test_any_times_are_shown_in_little_room(times: list[int]) -> None:
    with mito.open("memory://") as db:
        table = db.create_table("cpu", {"ts": pl.Datetime("ms")}, time="ts")
        if times:
            table.write(pl.DataFrame({"ts": pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("ms"))}))
            table.flush()

        widget = table.inspect()

        assert f"{1 if times else 0} file" in repr(widget)
        assert len(widget.to_html()) < 20_000
        widget.close()


def test_a_closed_store_is_told_and_nothing_is_raised(db: mito.Database) -> None:
    widget = db["cpu"].inspect()
    sent: list[Any] = []
    widget.send = sent.append
    db.close()

    widget._asked(widget, {"ask": "live", "id": 1}, [])

    assert "closed" in sent[0]["error"]
    widget.close()


def test_a_dropped_table_is_told_by_its_name(db: mito.Database) -> None:
    panel = panel_of(db)
    db.drop_table("cpu")

    answers = [panel.answer({"ask": what, "options": {}, "id": 1}) for what in ("live", "plan")]

    assert {answer["error"] for answer in answers} == {"table 'cpu' was dropped; what is shown is how it was before."}
    assert not panel.refresh()
    assert "<svg" in panel.still()


def test_nothing_is_left_of_a_widget_that_was_closed(db: mito.Database) -> None:
    threads = threading.active_count()
    widget = db["cpu"].inspect()
    left = weakref.ref(widget._panel)

    widget.close()
    del widget
    gc.collect()

    assert left() is None
    assert threading.active_count() == threads


def test_curves_are_those_of_a_replay_in_one_go(db: mito.Database) -> None:
    table = db["cpu"]
    table.alter(options={"ttl": "20000d"})  # So that the picker itself is asked, a step at a time.
    source = TableSource("cpu", db.engine, table.region_id, lambda: None)
    curves = source.replay({"compaction_trigger_files": 2, "compaction_window_ms": HOUR_MS})
    shares = [curves.share]

    while curves.advance():
        shares.append(curves.share)

    options = {"compaction_trigger_files": 2, "compaction_window": "1h"}
    columns = ["at", "files", "write_amplification", "runs_max"]
    found = {name: pl.DataFrame(frame) for name, frame in curves.frames().items()}
    assert found["steps"].equals(table.simulate(options).steps.select(columns))
    assert found["usual"].equals(table.simulate().steps.select(columns))
    assert len(set(shares)) > 5
    assert shares == sorted(shares)
    assert curves.share == 1


def test_a_slider_looks_no_journal_up(db: mito.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = panel_of(db)
    asked: list[Any] = []
    monkeypatch.setattr(type(db.engine), "history", lambda *given: asked.append(given))
    db["cpu"].flush()

    answer = panel.answer({"ask": "replay", "options": {"compaction_trigger_files": 2}, "id": 1})

    assert answer["share"] == 1
    assert not asked


def test_without_anywidget_it_is_a_picture(db: mito.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    _widget_class.cache_clear()
    shown = db["cpu"].inspect()

    assert "<svg" in shown._repr_html_()
    assert repr(shown).startswith("inspect 'cpu': ")
    _widget_class.cache_clear()


def test_a_reading_process_sees_the_same(tmp_path: Any) -> None:
    with mito.open(tmp_path / "store") as writer:
        writer.write(frame_of(5), "cpu", time="ts", tags=["host"])
        writer["cpu"].flush()
        with mito.open(tmp_path / "store", mode="r") as reader:
            assert repr(reader["cpu"].inspect()) == repr(writer["cpu"].inspect())


def test_ten_thousand_files_are_less_than_two_megabytes(db: mito.Database) -> None:
    region = db.engine.region(db["cpu"].region_id)
    added = tuple(
        replace(file_of(f"{number:032x}", number * HOUR_MS, (number + 2) * HOUR_MS), created_ms=number)
        for number in range(10_000)
    )
    region.commit_edit(FileEdit(added=added))

    panel = panel_of(db)

    header, columns = panel.payload()
    assert len(panel.strata) >= 10_000
    assert len(header) + len(columns) < 2_000_000
    assert len(panel.still()) < 200_000
