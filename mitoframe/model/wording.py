"""How numbers are told to people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Write how many there are of something.

    >>> counted(1, "row"), counted(12_000, "row"), counted(0, "flush")
    ('1 row', '12,000 rows', '0 flushes')
    """
    plural = f"{noun}es" if noun.endswith("sh") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
