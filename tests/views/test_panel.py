"""What a page is told and what it is answered, without a page; the widget, and what stands in for it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pyarrow as pa
import pytest
from pictured import WINDOWS, files_of, history_of, name_of

from mitoframe.views.panel import LIVE_MS, POINTS_MAX, REPLAYS_MAX, Budget, Panel, Seen, make_widget, rows_of

HISTORY = history_of(("create", [], []), ("flush", [], ["a"]), ("flush", [], ["b"])).append_column(
    "rows_out", pa.array([0, 1, 1], pa.uint64())
)
CHUNK = {"row_group": 0, "column": "cpu", "type": "DOUBLE", "compression": "ZSTD", "unpacked_bytes": 20, "nulls": 1}


class Refused(Exception):
    """The store says no."""


class FakeCurves:
    """A history of a thousand moments, which takes a hundred steps to replay; its peak is in the middle."""

    def __init__(self) -> None:
        self.taken = 0

    def advance(self) -> bool:
        self.taken = min(self.taken + 1, 100)
        return self.taken < 100

    @property
    def share(self) -> float:
        return self.taken / 100

    def frames(self) -> dict[str, pa.Table]:
        counts = [5_000 if n == 503 else n for n in range(1_000)]
        steps = pa.table({"at": pa.array(range(1_000), pa.timestamp("s")), "files": counts})
        return {"steps": steps.slice(0, 10 * self.taken), "usual": steps.slice(0, 3)}


class FakeSource:
    """A table of two files whose answers are written down."""

    def __init__(self) -> None:
        self.now = 2
        self.asked: list[Any] = []
        self.looks = 0

    def version(self) -> int:
        return self.now

    def seen(self) -> Seen:
        self.looks += 1
        return Seen(
            table="cpu",
            version=self.now,
            files=files_of(("a", 0, 0, 3_600_000), ("b", 0, 1_800_000, 7_000_000)),
            history=HISTORY,
            windows=WINDOWS,
            window_ms=3_600_000,
            write_buffer_bytes=1_000,
            options={"compaction_window_ms": 3_600_000, "compaction_trigger_files": 4, "sst_size_bytes": 1 << 20},
        )

    def footer(self, file_id: str) -> dict[str, pa.Table]:
        self.asked.append(file_id)
        if file_id == name_of("b"):
            raise Refused("it is gone")
        chunks = [
            CHUNK | {"encodings": "PLAIN", "size_bytes": 5, "min": "1", "max": "2"},
            CHUNK | {"row_group": 1, "encodings": "RLE, PLAIN", "size_bytes": 7, "min": None, "max": None},
        ]
        return {
            "file": pa.table({"file_id": [file_id]}),
            "row_groups": pa.table({"row_group": [0, 1], "rows": [10, 11]}),
            "chunks": pa.Table.from_pylist(chunks),
            "keys": pa.table({"host": ["a", "z"]}),
            "window": WINDOWS.slice(0, 1),
        }

    def plan(self, options: Any) -> pa.Table:
        self.asked.append(options)
        tasks = {
            "window_start": pa.array([0], pa.timestamp("ms")),
            "inputs": [[name_of("b"), name_of("a"), name_of("q")]],
            "size_bytes": [12],
            "reason": ["due"],
        }
        return pa.table(tasks)

    def replay(self, options: Any) -> FakeCurves:
        self.asked.append(options)
        return FakeCurves()

    def live(self) -> dict[str, pa.Table]:
        return {"memtables": pa.table({"rows": [7], "since": pa.array([0], pa.timestamp("ms", "UTC"))})}


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def panel(source: FakeSource) -> Panel:
    return Panel(source, Refused)


def test_the_header_says_where_each_column_lies(panel: Panel) -> None:
    header, data = panel.payload()

    facts = json.loads(header)
    assert (facts["table"], facts["version"], facts["whats"]) == ("cpu", 2, ["create", "flush"])
    widths = {"Float64Array": 8, "Float32Array": 4, "Int32Array": 4, "Uint8Array": 1, "Int8Array": 1}
    ends = [0]
    for kind, offset, count in sorted(facts["columns"].values(), key=lambda place: place[1]):
        assert ends[-1] <= offset < ends[-1] + 8
        assert offset % widths[kind] == 0
        ends.append(offset + count * widths[kind])
    assert ends[-1] <= len(data)
    start, count = facts["columns"]["window_merges"][1:]
    assert pa.py_buffer(data[start : start + 4 * count]).to_pybytes() == bytes([0, 0, 0, 0, 1, 0, 0, 0])


def test_a_click_asks_for_the_footer_of_that_file_and_sums_its_columns_up(panel: Panel, source: FakeSource) -> None:
    answer = panel.answer({"ask": "footer", "file": name_of("a"), "id": "x1"})

    assert source.asked == [name_of("a")]
    assert (answer["id"], answer["row_group_count"], len(answer["chunks"])) == ("x1", 2, 2)
    [column] = answer["columns"]
    assert (column["size_bytes"], column["unpacked_bytes"], column["nulls"]) == (12, 40, 2)
    assert column["encodings"] == "PLAIN, RLE"
    json.dumps(answer)


def test_what_the_store_refuses_is_told(panel: Panel) -> None:
    answer = panel.answer({"ask": "footer", "file": name_of("b"), "id": "x"})

    assert answer == {"error": "it is gone", "id": "x", "ask": "footer"}


def test_what_would_be_merged_is_told_by_the_numbers_that_the_page_knows(panel: Panel, source: FakeSource) -> None:
    answer = panel.answer({"ask": "plan", "options": {"compaction_trigger_files": 8}, "id": 1})

    assert source.asked == [{"compaction_trigger_files": 8}]
    assert answer["tasks"][0]["inputs"] == [1, 0]
    assert answer["tasks"][0]["file_count"] == 3, "one came since, and is not drawn yet"
    assert (answer["task_count"], answer["file_count"], answer["size_bytes"]) == (1, 3, 12)
    json.dumps(answer)


def test_a_curve_has_few_points_the_first_and_the_last_among_them(panel: Panel) -> None:
    curves = panel.answer({"ask": "replay", "options": {}, "id": 1})

    assert len(curves["steps"]["files"]) == POINTS_MAX
    assert (curves["steps"]["files"][0], curves["steps"]["files"][-1]) == (0, 999)
    assert curves["usual"] == {"at": [0.0, 1_000.0, 2_000.0], "files": [0, 1, 2]}


def test_the_most_of_a_curve_is_told_although_no_point_has_it(panel: Panel) -> None:
    curves = panel.answer({"ask": "replay", "options": {}, "id": 1})

    assert max(curves["steps"]["files"]) == 999
    assert curves["most"] == {"steps": {"files": 5_000}, "usual": {"files": 2}}


def test_a_history_that_takes_long_is_told_as_far_as_it_has_come_and_goes_on_when_asked_again(
    panel: Panel, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mitoframe.views.panel.REPLAY_SECONDS", 0.0)
    moved = {"compaction_trigger_files": 8}

    shares = [panel.answer({"ask": "replay", "options": {}, "id": n})["share"] for n in range(3)]
    other = panel.answer({"ask": "replay", "options": moved, "id": 4})["share"]
    again = panel.answer({"ask": "replay", "options": {}, "id": 5})["share"]

    assert (shares, other, again) == ([0.01, 0.02, 0.03], 0.01, 0.04)
    assert source.asked == [{}, moved]
    source.now = 3
    panel._budget = Budget(0.01, now=lambda: 0.0)
    assert panel.refresh()
    assert panel.answer({"ask": "replay", "options": {}, "id": 6})["share"] == 0.01, "files changed, and so did history"


def test_few_histories_are_kept_however_often_a_slider_moves(panel: Panel) -> None:
    for trigger in range(2, 30):
        panel.answer({"ask": "replay", "options": {"compaction_trigger_files": trigger}, "id": trigger})

    assert len(panel._curves) == REPLAYS_MAX


def test_what_a_page_asks_by_itself_is_paid_for_before_the_next_look(panel: Panel, source: FakeSource) -> None:
    spent: list[float] = []
    panel._budget.spend = spent.append  # type: ignore[method-assign]

    panel.answer({"ask": "plan", "options": {}, "id": 1})
    assert not spent
    panel.answer({"ask": "plan", "options": {}, "id": 2, "unasked": True})

    assert len(spent) == 1


def test_what_opening_a_page_took_is_not_paid_for(monkeypatch: pytest.MonkeyPatch, source: FakeSource) -> None:
    hours = itertools.count(0, 3600)
    monkeypatch.setattr("mitoframe.views.panel.thread_time", lambda: next(hours))
    panel = Panel(source, Refused)
    panel.answer({"ask": "plan", "options": {}, "id": 1})

    source.now = 3
    assert panel.refresh()
    source.now = 4
    assert not panel.refresh(), "an hour has to be paid for"


def test_what_is_spent_twice_is_paid_for_twice() -> None:
    moment = [0.0]
    budget = Budget(0.5, now=lambda: moment[0])
    budget.spend(1.0)
    budget.spend(2.0)

    moment[0] = 5.9
    assert not budget.is_free()
    moment[0] = 6.0
    assert budget.is_free()


def test_what_goes_on_is_told_with_when_to_ask_again(panel: Panel) -> None:
    answer = panel.answer({"ask": "live", "id": 1})

    assert answer["memtables"] == [{"rows": 7, "since": "1970-01-01 00:00:00.000Z"}]
    assert answer["next_ms"] >= LIVE_MS
    json.dumps(answer)


def test_files_are_looked_at_again_when_there_is_a_newer_version_and_not_more_often(
    panel: Panel, source: FakeSource
) -> None:
    panel._budget = Budget(0.01, now=lambda: 0.0)

    assert not panel.refresh()
    source.now = 3
    assert panel.refresh()
    source.now = 4
    assert not panel.refresh(), "the last look has to pay for itself first"
    assert source.looks == 2
    assert panel.seen.version == 3


def test_the_widget_has_the_picture_for_pages_without_widgets(panel: Panel) -> None:
    widget = make_widget(panel)

    shown = widget._repr_mimebundle_()
    data = shown[0] if isinstance(shown, tuple) else shown
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"] == panel.still() == widget.to_html()
    assert data["text/plain"] == repr(widget) == "inspect 'cpu': 2 files, 200 rows, 110 B, version 2"
    widget.close()


def test_a_message_of_a_page_is_answered_and_new_files_are_sent(panel: Panel, source: FakeSource) -> None:
    widget = make_widget(panel)
    sent: list[Any] = []
    widget.send = sent.append
    panel._budget = Budget(0.01, now=lambda: 0.0)
    header = widget.header

    widget._asked(widget, {"ask": "live", "id": 1}, [])
    assert widget.header == header
    source.now = 3
    widget._asked(widget, {"ask": "live", "id": 2}, [])

    assert [(answer["id"], answer["version"]) for answer in sent] == [(1, 2), (2, 3)]
    assert json.loads(widget.header)["version"] == 3
    widget.close()


def test_rows_of_frames_have_times_as_text() -> None:
    frame = pa.table({"at": pa.array([0], pa.timestamp("us", "Asia/Tokyo")), "n": [1]})

    assert rows_of(frame) == [{"at": "1970-01-01 09:00:00.000000+0900", "n": 1}]
