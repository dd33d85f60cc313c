"""What `table.inspect()` costs on a table of 10,000 SSTs, and what it costs to have it open.

    python benchmarks/inspecting.py [--write-results]

The files are listed and not there: what is shown comes from the manifest. First drawing: from the call of ``inspect()``
until the two traits are ready to be sent, the best of several calls; a browser adds some tens of milliseconds (a canvas
of 10,000 rectangles). Slider: from the page's question to the answer, both as Python has them. Live: processor time of
an answer to the page's question what is new, which it asks once a second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import polars as pl
import report

import mitoframe as mito
from mitoframe.inspecting import TableSource
from mitoframe.model.edit import FileEdit
from mitoframe.model.errors import MitoError
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import FileId, Sequence
from mitoframe.views.panel import LIVE_MS, Panel

FILES = 10_000
FLUSHES = 250
REPEATS = 5
ANSWERS = 200
HOUR_MS = 3_600_000
DRAWING_SECONDS_MAX = 1.0
SLIDER_SECONDS_MAX = 0.1
PAYLOAD_BYTES_MAX = 2_000_000
LIVE_SHARE_MAX = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of looking.")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    arguments = parser.parse_args()
    section = measured()
    print(f"{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}")
    if arguments.write_results:
        report.record(section)


def measured() -> report.Section:
    with mito.open("memory://", compaction_mode="manual") as db:
        source = _source(db)
        drawing = _best(lambda: Panel(source, MitoError).payload())
        panel = Panel(source, MitoError)
        sizes = [len(part) for part in panel.payload()]
        slider = max(_best(lambda n=n: _slide(panel, "plan", n)) for n in (2, 4, 8, 16))
        panel.answer({"ask": "replay", "options": {}, "id": 0})
        replay = max(_best(lambda n=n: _slide(panel, "replay", n)) for n in (2, 4, 8, 16))
        began = time.process_time()
        for number in range(ANSWERS):
            panel.answer({"ask": "live", "id": number})
        live = (time.process_time() - began) / ANSWERS
    return report.Section(
        name="inspecting",
        title="Looking at 10,000 SSTs",
        command="python benchmarks/inspecting.py --write-results",
        table=report.Table(
            head=["what", "found"],
            rows=[
                ["inspect() until all is ready to be drawn", f"{drawing * 1e3:.0f} ms"],
                ["what a slider asks, answered: the merges that would come next", f"{slider * 1e3:.0f} ms"],
                ["the history replayed, which is asked when the slider stands", f"{replay * 1e3:.0f} ms"],
                ["sent to the page", f"{sum(sizes) / 1e6:.2f} MB"],
                ["picture where widgets do not run", f"{len(panel.still()) / 1e3:.0f} kB"],
                ["answer to what is new, processor time", f"{live * 1e3:.2f} ms"],
            ],
        ),
        targets=[
            _target("first drawing", drawing, DRAWING_SECONDS_MAX),
            _target("slider answered", slider, SLIDER_SECONDS_MAX),
            report.Target(
                what="payload",
                wanted="below 2 MB",
                found=f"{sum(sizes) / 1e6:.2f} MB",
                is_met=sum(sizes) < PAYLOAD_BYTES_MAX,
            ),
            report.Target(
                what="live refresh",
                wanted="below 1 percent of a core",
                found=f"{live / (LIVE_MS / 1000):.2%}",
                is_met=live / (LIVE_MS / 1000) < LIVE_SHARE_MAX,
            ),
        ],
        raw={"drawing_seconds": drawing, "slider_seconds": slider, "payload_bytes": sizes, "live_seconds": live},
    )


def _source(db: mito.Database) -> TableSource:
    """A table whose files come an hour apart, some of which last longer, in `FLUSHES` flushes."""
    table = db.create_table("cpu", {"ts": pl.Datetime("ms"), "host": pl.String}, time="ts", tags=["host"])
    region = db.engine.region(table.region_id)
    files = [
        FileMeta(
            file_id=FileId(f"{number:032x}"),
            level=0,
            size_bytes=100_000 + 37 * number,
            checksum=0,
            row_count=1_000,
            delete_count=0,
            series_count=10,
            row_group_count=1,
            min_time=number * HOUR_MS,
            max_time=(number + 1 + number % 3) * HOUR_MS,
            min_sequence=Sequence(number * 1_000 + 1),
            max_sequence=Sequence(number * 1_000 + 1_000),
            schema_version=1,
            created_ms=number * HOUR_MS,
        )
        for number in range(FILES)
    ]
    for first in range(0, FILES, FILES // FLUSHES):
        flushed = tuple(files[first : first + FILES // FLUSHES])
        newest = flushed[-1].max_sequence
        region.commit_edit(FileEdit(added=flushed, flushed_sequence=newest, at_ms=flushed[-1].created_ms))
    return TableSource("cpu", db.engine, table.region_id, lambda: None)


def _slide(panel: Panel, what: str, trigger: int) -> None:
    answer = panel.answer({"ask": what, "options": {"compaction_trigger_files": trigger}, "id": 0})
    assert "error" not in answer


def _best(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _target(what: str, found_seconds: float, seconds_max: float) -> report.Target:
    return report.Target(
        what=what,
        wanted=f"at most {seconds_max * 1e3:.0f} ms",
        found=f"{found_seconds * 1e3:.0f} ms",
        is_met=found_seconds <= seconds_max,
    )


if __name__ == "__main__":
    main()
