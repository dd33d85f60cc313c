from __future__ import annotations

from html import escape

import pytest
from builders import file_of

from mitoframe.model.card import ROWS_MAX
from mitoframe.model.result import (
    CompactResult,
    FlushResult,
    KeptFile,
    VacuumResult,
    WriteResult,
)

ONE = file_of("a", 0, 9, row_count=1200, size_bytes=5000)
TWO = file_of("b", 0, 9, row_count=300, size_bytes=1000)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (WriteResult(table="cpu", rows=1), "wrote 1 row to 'cpu'"),
        (WriteResult(table="cpu", rows=1234, created=True), "wrote 1,234 rows to 'cpu' (new table)"),
        (FlushResult(), "nothing to flush"),
        (FlushResult(files=(ONE,)), "flushed 1 file (1,200 rows, 5,000 bytes)"),
        (CompactResult(), "nothing to compact: no files overlap"),
        (
            CompactResult(removed=(ONE, TWO), added=(TWO,)),
            "merged 2 files (1,500 rows, 6,000 bytes) into 1 file (300 rows, 1,000 bytes)",
        ),
        (VacuumResult(), "deleted 0 files, 0 bytes"),
        (VacuumResult(removed=("a",), size_bytes=5000), "deleted 1 file, 5,000 bytes"),
        (
            VacuumResult(kept=tuple(KeptFile(name="x", size_bytes=1, why=why) for why in ("grace", "reader", "grace"))),
            "deleted 0 files, 0 bytes; kept 1 read by another process, 2 within the grace period",
        ),
        (
            VacuumResult(kept=(KeptFile(name="x", size_bytes=1, why="reader"),), readers=(7, 12)),
            "deleted 0 files, 0 bytes; kept 1 read by process 7 and 12",
        ),
        (VacuumResult(removed=("a",), size_bytes=5, dry_run=True), "would have deleted 1 file, 5 bytes"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_a_result_says_what_was_done(result, text):
    assert repr(result) == text
    assert f"<div>{escape(text)}</div>" in result._repr_html_()


def test_files_that_a_vacuum_keeps_stand_below_each_other_with_the_reason():
    kept = tuple(KeptFile(name=f"{number}.parquet", size_bytes=1234, why="reader") for number in range(ROWS_MAX + 1))

    html = VacuumResult(kept=kept)._repr_html_()

    assert "Files kept" in html
    assert "<th" in html
    assert html.count(">read by another process</td>") == html.count(">1,234</td>") == ROWS_MAX
    assert "and 1 more" in html
    assert f"({len(kept)})" in html
    assert "Files kept" not in VacuumResult()._repr_html_()


def test_a_tables_name_cannot_smuggle_html_into_a_notebook():
    html = WriteResult(table="<script>", rows=1)._repr_html_()

    assert "<script>" not in html
