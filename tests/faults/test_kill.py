"""A process killed at any moment loses no acknowledged row and invents none (faults.md P1, P2)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mitoframe.failpoints import CRASH_POINTS

HARNESS = Path(__file__).with_name("kill_harness.py")
POINTS_MIN = 1000
DOUBLE_POINTS_MIN = 500


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.timeout(600)
def test_killed_at_every_effect_and_again_while_recovering() -> None:
    double_every = "4" if os.environ.get("MITOFRAME_NIGHTLY") else "80"

    run = subprocess.run(
        [sys.executable, str(HARNESS), "--double-every", double_every], capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr[-4000:]
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["points"] >= POINTS_MIN
    assert result["double_points"] >= DOUBLE_POINTS_MIN
    assert set(result["named"]) == set(CRASH_POINTS), "a named crash point was never reached"
