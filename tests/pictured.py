"""Frames for the tests of pictures: files and what happened to them, as a person would write it down."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from mitoframe.views.strata import MEMTABLE_LEVEL

ENTRY = {"at": 0, "took": None, "reason": None, "bytes_in": 0, "bytes_out": 0, "starts_anew": False}
HISTORY = pa.schema(
    {
        "version": pa.int64(),
        "at": pa.timestamp("ms", "UTC"),
        "took": pa.duration("ms"),
        "what": pa.string(),
        "reason": pa.string(),
        "inputs": pa.list_(pa.string()),
        "outputs": pa.list_(pa.string()),
        "bytes_in": pa.uint64(),
        "bytes_out": pa.uint64(),
        "starts_anew": pa.bool_(),
    }
)


def happened(*entries: tuple[str, list[str], list[str]]) -> pa.Table:
    """What happened, from (what, inputs, outputs) with whole identifiers."""
    rows = [
        ENTRY | {"version": number, "what": what, "inputs": inputs, "outputs": outputs}
        for number, (what, inputs, outputs) in enumerate(entries)
    ]
    return pa.Table.from_pylist(rows, schema=HISTORY)


def history_of(*entries: tuple[str, list[str], list[str]], **more: Any) -> pa.Table:
    """What happened, from (what, inputs, outputs); names are single letters."""
    rows = [
        ENTRY
        | {
            "version": number,
            "what": what,
            "inputs": list(map(name_of, inputs)),
            "outputs": list(map(name_of, outputs)),
        }
        for number, (what, inputs, outputs) in enumerate(entries)
    ]
    for number, changed in more.items():
        rows[int(number.removeprefix("at_"))] |= changed
    return pa.Table.from_pylist(rows, schema=HISTORY)


def name_of(letter: str) -> str:
    return letter * 32


def files_of(
    *files: tuple[str, int, int, int], removed: dict[str, int] | None = None, unit: str = "ms", zone: str | None = None
) -> pa.Table:
    """Files from (letter, level, first time, last time); ``removed`` gives the versions in which they went."""
    letters = [letter for letter, *_ in files]
    times = [pa.array([each[place] for each in files], pa.int64()).view(pa.timestamp(unit, zone)) for place in (2, 3)]
    count = len(files)
    return pa.table(
        {
            "file_id": ["memtable" if level == MEMTABLE_LEVEL else name_of(letter) for letter, level, *_ in files],
            "level": pa.array([each[1] for each in files], pa.int8()),
            "min_time": times[0],
            "max_time": times[1],
            "rows": pa.array([100] * count, pa.uint64()),
            "size_bytes": pa.array([10 ** (number % 12 + 1) for number in range(count)], pa.uint64()),
            "min_sequence": pa.array(range(count), pa.uint64()),
            "max_sequence": pa.array(range(count), pa.uint64()),
            "created": pa.array(range(count), pa.timestamp("ms", "UTC")),
            "removed_version": pa.array([(removed or {}).get(letter) for letter in letters], pa.int64()),
        }
    )


WINDOWS = pa.table(
    {
        "window_start": pa.array([0, 3_600_000], pa.timestamp("ms")),
        "window_end": pa.array([3_600_000, 7_200_000], pa.timestamp("ms")),
        "files": pa.array([1, 2], pa.uint64()),
        "size_bytes": pa.array([10, 20], pa.uint64()),
        "runs": pa.array([1, 2], pa.uint64()),
        "merges": pa.array([0, 1], pa.uint64()),
        "reason": ["a < b", "2 runs"],
    }
)
