"""What README tells a newcomer to run, runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_demo_prunes_and_draws(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "notebooks" / "demo.py")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "1 of 53 to read, 52 pruned by time" in run.stdout
    assert "6 pruned by statistics" in run.stdout
    assert (tmp_path / "demo-out" / "timeline.png").stat().st_size > 10_000


def test_the_first_page_of_the_readme_runs(tmp_path: Path) -> None:
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
    code = "\n".join(block.partition("```")[0] for block in blocks)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "MPLBACKEND": "Agg"}

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr[-4000:]
    assert "0.7" in run.stdout
