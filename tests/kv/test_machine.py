"""Random programs on a store and on the reference, compared step by step. See `mitoframe.testing.machine_kv`."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from store_subject import StoreSubject

from mitoframe.testing.machine_kv import KeyValueMachine, MemorySubject, Subject

NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))


def run_machine(make: Callable[[], Subject], max_examples: int) -> Counter[str]:
    """Run programs, and return how many answers of each kind there were."""
    KeyValueMachine.answers.clear()
    run_state_machine_as_test(
        lambda: KeyValueMachine(make),
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=not NIGHTLY,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return Counter(KeyValueMachine.answers)


@pytest.mark.timeout(0 if NIGHTLY else 300)
def test_random_programs_on_a_store_agree_with_the_reference() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        paths = (Path(folder) / f"{number}.kv" for number in range(10**9))

        answers = run_machine(lambda: StoreSubject(next(paths)), 1_000 if NIGHTLY else 100)

    assert answers.total() > (40_000 if NIGHTLY else 8_000)
    for kind in (
        "Event",
        "PutResult",
        "RangeResult",
        "DeleteResult",
        "TxnResult",
        "CompactedError",
        "InvalidInputError",
    ):
        assert answers[kind] > 50, f"hardly any {kind}: the programs do nothing"


def test_the_reference_agrees_with_itself() -> None:
    assert run_machine(MemorySubject, 5).total() > 100
