"""The kernels beside the plain way, in one run: sort, keep-last and aggregates of generated rows against Polars.

    python benchmarks/kernels.py --rows 2880000

Rows arrive as ticks do: every host at 10 s, a share of them late, a share sent again with other values. Polars sorts on
(hostname, ts) and keeps the last of each; mitoframe numbers the hosts, sorts, dedups, and gathers the same columns.
The kernels-only line is what the engine pays for order, as its rows carry series codes already. Both answers are
compared before any time is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa

from mitoframe.kernels.aggregate import last_of_series, runs_of_width, sum_floats
from mitoframe.kernels.keys import combine_codes, strings_follow
from mitoframe.kernels.merge import merge_runs
from mitoframe.kernels.series import series_offsets
from mitoframe.kernels.sort import sort_and_keep_last, sort_rows
from mitoframe.model.batch import gather
from mitoframe.testing.warm import warm_up

TICK_NS = 10_000_000_000
HOUR_NS = 3_600_000_000_000
FAR_TICKS = 60

Result = TypeVar("Result")
Figure = dict[str, Any]

FIELDS = 10
TARGET = 10
"""How many times as fast as Polars sort and dedup are to be."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare sort and dedup with Polars on the same rows.")
    parser.add_argument("--rows", type=int, default=2_880_000)
    parser.add_argument("--hosts", type=int, default=4_000)
    parser.add_argument("--late", type=float, default=0.05, help="share of late and repeated rows")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many is taken")
    parser.add_argument("--json", action="store_true", help="print a JSON list of the figures as the last line")
    arguments = parser.parse_args()

    warm_up()
    frame = make_rows(arguments.rows, arguments.hosts, arguments.late)
    figures = [
        *compare_sort_and_dedup(frame, arguments.rounds),
        *measure_series_codes(frame, arguments.rounds),
        *measure_merge(frame, arguments.rounds),
        *compare_aggregates(frame, arguments.rounds),
    ]
    for figure in figures:
        ratio = f"   {figure['ratio']:5.1f} times as fast as Polars" if "ratio" in figure else ""
        print(f"{figure['what']:58} {figure['milliseconds']:8.1f} ms{ratio}")
    if arguments.json:
        print(json.dumps(figures))


def make_rows(rows: int, hosts: int, late: float) -> pl.DataFrame:
    """Rows as a TSBS batch has them: a host name, a time, ten fields; tick by tick, some of them late or repeated."""
    draw = np.random.default_rng(20_130_101)
    row = np.arange(rows)
    tick = row // hosts
    tick -= draw.integers(1, FAR_TICKS, rows) * (draw.random(rows) < late)
    names = pl.Series("hostname", [f"host_{host}" for host in range(hosts)])
    fields = {f"field_{number}": np.floor(draw.random(rows) * 100) for number in range(FIELDS)}
    times = pl.Series(tick * TICK_NS).cast(pl.Datetime("ns"))
    return pl.DataFrame({"hostname": names[row % hosts], "ts": times, **fields})


def compare_sort_and_dedup(frame: pl.DataFrame, rounds: int) -> list[Figure]:
    names, codes, times, fields = columns_of(frame)
    sequences = np.arange(1, codes.size + 1, dtype=np.uint64)

    def by_kernels() -> np.ndarray:
        return sort_and_keep_last(codes, len(names), times, sequences)

    def gathered(taken: np.ndarray) -> list[np.ndarray]:
        return [gather(column, pa.array(taken)) for column in (times, *fields)]

    def by_polars() -> pl.DataFrame:
        return frame.sort("hostname", "ts", maintain_order=True).unique(
            ["hostname", "ts"], keep="last", maintain_order=True
        )

    kernel_s, taken = best(by_kernels, rounds)
    gather_s, columns = best(lambda: gathered(taken), rounds)
    polars_s, expected = best(by_polars, rounds)

    assert np.array_equal(columns[0], expected["ts"].to_physical().to_numpy())
    assert np.array_equal(columns[1], expected["field_0"].to_numpy())
    rows = f"{frame.height:,} rows of {len(names):,} hosts and {FIELDS} fields"
    return [
        {"what": f"Polars: sort and unique, {rows}", "milliseconds": round(polars_s * 1e3, 1)},
        {
            "what": "kernels: sort and keep-last of the same rows",
            "milliseconds": round(kernel_s * 1e3, 1),
            "ratio": round(polars_s / kernel_s, 1),
            "target": TARGET,
        },
        {
            "what": "kernels, with the gather of time and fields",
            "milliseconds": round((kernel_s + gather_s) * 1e3, 1),
            "ratio": round(polars_s / (kernel_s + gather_s), 1),
        },
    ]


def columns_of(frame: pl.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the host names in order, the rank of each row's, and the times and fields."""
    names = frame["hostname"].unique().sort()
    ranks = pl.DataFrame({"hostname": names, "rank": np.arange(len(names), dtype=np.int32)})
    codes = frame.join(ranks, on="hostname", how="left", maintain_order="left")["rank"].to_numpy()
    fields = [frame[f"field_{number}"].to_numpy() for number in range(FIELDS)]
    return names.to_list(), codes, frame["ts"].to_physical().to_numpy(), fields


def measure_series_codes(frame: pl.DataFrame, rounds: int) -> list[Figure]:
    """Ten tags of which one decides, as in TSBS: one is dictionary-encoded, nine are compared as bytes."""
    part = frame.head(240_000)
    hosts = np.unique(part["hostname"].to_numpy(), return_inverse=True)[1].astype(np.int32)
    lengths = part["hostname"].str.len_bytes().to_numpy().astype(np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    data = np.frombuffer("".join(part["hostname"].to_list()).encode(), np.uint8)
    no_nulls = np.empty(0, np.bool_)

    def ten_tags() -> bool:
        codes, representatives = combine_codes([(hosts, int(hosts.max()) + 1)], hosts.size)
        return all(strings_follow(offsets, data, no_nulls, codes, representatives) for _ in range(9))

    taken_s, follow = best(ten_tags, rounds)
    assert follow
    what = f"kernels: series codes of {hosts.size:,} rows, ten tags"
    return [{"what": what, "milliseconds": round(taken_s * 1e3, 1)}]


def measure_merge(frame: pl.DataFrame, rounds: int) -> list[Figure]:
    names, codes, times, _ = columns_of(frame)
    sequences = np.arange(1, codes.size + 1, dtype=np.uint64)
    figures: list[Figure] = []
    for runs in (2, 4, 12, 100):
        run_starts = np.linspace(0, codes.size, runs + 1).astype(np.int64)
        order = np.concatenate(
            [
                start + sort_rows(codes[start:stop], len(names), times[start:stop], sequences[start:stop])
                for start, stop in pairwise(run_starts)
            ]
        )
        columns = codes[order], times[order], sequences[order]
        taken_s, take = best(lambda columns=columns, starts=run_starts: merge_runs(*columns, starts), rounds)
        assert np.array_equal(np.diff(series_offsets(columns[0][take], len(names))), np.bincount(codes))
        what = f"kernels: merge of {runs} runs, {codes.size:,} rows"
        figures.append({"what": what, "milliseconds": round(taken_s * 1e3, 1)})
    return figures


def compare_aggregates(frame: pl.DataFrame, rounds: int) -> list[Figure]:
    """Means per host and hour, and the last row of each host, of rows as the store keeps them: sorted, one per key."""
    frame = frame.sort("hostname", "ts", maintain_order=True).unique(
        ["hostname", "ts"], keep="last", maintain_order=True
    )
    _, codes, times, fields = columns_of(frame)
    words, no_nulls = [np.ascontiguousarray(field).view(np.int64) for field in fields], np.empty(0, np.bool_)

    def means() -> list[np.ndarray]:
        starts, _ = runs_of_width(codes, times, HOUR_NS, 0)
        return [sum_floats(column, no_nulls, starts) / np.diff(starts) for column in words]

    def means_by_polars() -> pl.DataFrame:
        hours = pl.col("ts").dt.truncate("1h")
        return frame.group_by("hostname", hours).agg(pl.col("^field_.*$").mean()).sort("hostname", "ts")

    def last_rows() -> np.ndarray:
        return last_of_series(codes, times, 1)

    def last_by_polars() -> pl.DataFrame:
        return frame.sort("ts").group_by("hostname").last().sort("hostname")

    figures: list[Figure] = []
    for what, by_kernels, by_polars in [
        ("ten means per host and hour", means, means_by_polars),
        ("last row per host", last_rows, last_by_polars),
    ]:
        kernel_s, found = best(by_kernels, rounds)
        polars_s, expected = best(by_polars, rounds)
        column = found[0] if isinstance(found, list) else fields[0][found]
        assert np.allclose(column, expected["field_0"].to_numpy())
        rows = f"{codes.size:,} sorted rows"
        figures += [
            {"what": f"Polars: {what}, {rows}", "milliseconds": round(polars_s * 1e3, 1)},
            {
                "what": f"kernels: {what}, of the same rows",
                "milliseconds": round(kernel_s * 1e3, 2),
                "ratio": round(polars_s / kernel_s, 1),
            },
        ]
    return figures


def best(function: Callable[[], Result], rounds: int) -> tuple[float, Result]:
    measured = [seconds(function) for _ in range(rounds)]
    return min(measured, key=lambda one: one[0])


def seconds(function: Callable[[], Result]) -> tuple[float, Result]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
