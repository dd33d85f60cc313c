"""What README tells a newcomer to run, runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run_notebook(name: str, folder: Path) -> str:
    run = subprocess.run(
        [sys.executable, str(ROOT / "notebooks" / name)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return run.stdout


def test_the_demo_prunes_and_draws(tmp_path: Path) -> None:
    printed = run_notebook("demo.py", tmp_path)

    assert "1 of 53 to read, 52 pruned by time" in printed
    assert "2 of 8 to read, 6 pruned" in printed
    assert (tmp_path / "demo-out" / "timeline.png").stat().st_size > 10_000


def test_asking_prunes_and_draws_and_finds_what_a_query_by_hand_finds(tmp_path: Path) -> None:
    printed = run_notebook("ask.py", tmp_path)

    assert "1 of 23 to read, 22 pruned by time" in printed
    assert "second run: 0 bytes read" in printed
    assert "JFK: 66 hours were reported, 73 there were" in printed
    assert (tmp_path / "demo-out" / "delays.png").stat().st_size > 10_000


def test_time_travel_goes_back_to_the_correction(tmp_path: Path) -> None:
    printed = run_notebook("time_travel.py", tmp_path)

    assert "took back 26,115 rows of 'weather'" in printed
    assert "8,706 rows are left; as delivered it had 26,115" in printed
    assert "26,115 rows, the correction among them: 0 above 200 miles per hour" in printed


def test_the_widgets_notebook_leaves_its_picture(tmp_path: Path) -> None:
    printed = run_notebook("inspecting.py", tmp_path)

    assert "characters of HTML for 24 files" in printed
    assert (tmp_path / "demo-out" / "inspect.html").read_text().count("<rect") > 24
    assert (tmp_path / "demo-out" / "inspect.gif").read_bytes().startswith(b"GIF8")


STORIES = {
    "first_rows.py": ["28,343 rows were written; the table has 26,115", "1 of 2 to read, 1 pruned by time"],
    "late_rows.py": ["replace      164 rows", "come late    72 rows (100 %)", "into 1 file (979 rows"],
    "inside_a_file.py": ["at most 15 of 27,004 looked at", "24,956 of 27,004 rows by flight == 1545, by its index"],
    "watching_compaction.py": ["would have merged 12 files", "4 now for twice", "into 4 files (28,800 rows"],
    "two_processes.py": [
        "is open for writing by process",
        "are there, each whole",
        "26,115 rows: the year",
        "being read here",
        "read by process",
    ],
    "from_parquet.py": ["26,115 rows of 28,342", "an earlier write of 2,227 rows had this key", "pl.scan_parquet("],
    "keys_and_values.py": [
        "his, once more: True; the limit is 100",
        "missed since revision 13: /job/2, /job/3",
        "lead? False: it is the other process",
        "lead? True: it is this process",
        "revision 8 was compacted",
    ],
    "tuning.py": ["25 merges, 25 were foretold", "10 files, 10 were foretold"],
}
"""What each story tells, beside what it asserts itself."""


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_true(name: str, tmp_path: Path) -> None:
    printed = run_notebook(name, tmp_path)

    assert [line for line in STORIES[name] if line not in printed] == []


def test_every_notebook_is_run_by_a_test() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")

    assert [path.name for path in (ROOT / "notebooks").glob("*.py") if f'"{path.name}"' not in tests] == []


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
    code = "\n".join(block.partition("```")[0] for block in blocks)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "MPLBACKEND": "Agg"}

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr[-4000:]
    assert "0.7" in run.stdout
