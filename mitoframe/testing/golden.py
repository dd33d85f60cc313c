"""Golden files: answers that a person can check by eye, kept beside the tests.

To write them anew, run the tests with ``MITOFRAME_REWRITE_GOLDEN=1`` and read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

REWRITE_VARIABLE = "MITOFRAME_REWRITE_GOLDEN"


def assert_golden(path: str | os.PathLike[str], text: str) -> None:
    """Assert that ``text`` is what the golden file says, or rewrite the file if that was asked for."""
    golden = Path(path)
    if os.environ.get(REWRITE_VARIABLE) == "1":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text, encoding="utf-8", newline="\n")
        return
    assert golden.exists(), f"{golden} is missing; run again with {REWRITE_VARIABLE}=1 to write it"
    assert text == golden.read_text(encoding="utf-8"), f"{golden} differs; rewrite it with {REWRITE_VARIABLE}=1"
