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
NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))
POINTS_MIN = 3000
DOUBLE_POINTS_MIN = 500
SHARDS = 2


def start(shard: int) -> subprocess.Popen[str]:
    amount = ["--double-every", "4"] if NIGHTLY else ["--double-every", "45", "--thin"]
    arguments = [*amount, "--shard", str(shard), "--shards", str(SHARDS)]
    return subprocess.Popen(
        [sys.executable, str(HARNESS), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.timeout(14_400 if NIGHTLY else 1_800)
def test_killed_at_every_effect_and_again_while_recovering() -> None:
    points = double_points = 0
    named: set[str] = set()

    for run in [start(shard) for shard in range(SHARDS)]:
        output, errors = run.communicate()
        assert run.returncode == 0, errors[-6000:]
        result = json.loads(output.splitlines()[-1])
        points, double_points = points + result["points"], double_points + result["double_points"]
        named |= set(result["named"])

    assert points >= POINTS_MIN
    assert double_points >= DOUBLE_POINTS_MIN
    assert named == set(CRASH_POINTS), "a named crash point was never reached"
