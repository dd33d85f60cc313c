"""One run of one system in one fresh process: warm up, take the batches, finish, answer; one line of JSON at the end.

    python <system>.py --input rows.arrow --folder /somewhere/empty
        [--repeat N --span-seconds S] [--batch-rows N --rows N]

``--repeat`` gives the input several times over, each time later by its span: rows for a longer run that take no more
memory, since all but the times is shared. ``--batch-rows`` cuts the input anew, and ``--rows`` cuts it short.

Before the clock starts, everything that is not ingest is done: imports, reading the input into memory, turning it
into the frames the system takes, and a warm-up that takes 1,000 rows through a store of its own in another folder
(compiled code, thread pools and allocators are then in place, for every system alike). The clock runs from the first
write until `System.finish` returns, by which time every row must be in the files the system keeps its rows in.

Peak memory is the high-water mark of the resident set during that time, less what was resident when it began; the
input is resident throughout. Bytes on disk are those of all files of the store when the clock stops.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

KEY = ("hostname", "ts")
TIME = "ts"
WARM_UP_ROWS = 1_000
SAMPLE_SECONDS = 0.002


class System(Protocol):
    """What a system does in the benchmark."""

    @property
    def packages(self) -> tuple[str, ...]:
        """The distributions whose versions belong in the report."""

    def prepare(self, rows: pa.Table) -> Any:
        """Turn rows into the form the system takes, off the clock."""

    def open(self, folder: Path) -> None: ...

    def write(self, rows: Any) -> None:
        """Take one batch; what the system promises of an acknowledged write holds when this returns."""

    def finish(self) -> None:
        """Return when every row is in the files that hold the table."""

    def answer(self) -> tuple[int, float]:
        """Return how many rows there are, and the sum of usage_user."""

    def settle(self) -> bool:
        """Do the work that was put off until reading, if there is such; return whether there was."""

    def close(self) -> None: ...


@dataclass(slots=True)
class PeakMemory:
    """Watches how far the resident set rises above where it stood.

    Linux keeps the high-water mark itself and lets a process set it back; elsewhere a thread looks every 2 ms.
    """

    before_bytes: int = 0
    peak_bytes: int = 0
    _stop: threading.Event | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        gc.collect()
        self.before_bytes = status_bytes("VmRSS")
        if not _reset_high_water():
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._sample, args=(self._stop,), daemon=True)
            self._thread.start()

    def stop(self) -> int:
        """Return the rise in bytes."""
        if self._thread is None:
            self.peak_bytes = status_bytes("VmHWM")
        else:
            assert self._stop is not None
            self._stop.set()
            self._thread.join()
        return max(0, self.peak_bytes - self.before_bytes)

    def _sample(self, stop: threading.Event) -> None:
        while not stop.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, status_bytes("VmRSS"))


def run(make: Callable[[], System]) -> None:
    """Run the system and print what was measured as the last line of standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--span-seconds", type=float, default=0.0)
    parser.add_argument("--batch-rows", type=int)
    parser.add_argument("--rows", type=int)
    arguments = parser.parse_args()
    batches = recut(read(arguments.input), arguments.batch_rows, arguments.rows)
    measured = measure(make, repeated(batches, arguments.repeat, arguments.span_seconds), arguments.folder)
    sys.stdout.write("\n" + json.dumps(measured) + "\n")


def measure(make: Callable[[], System], batches: list[pa.Table], folder: Path) -> dict[str, Any]:
    rows = sum(batch.num_rows for batch in batches)
    _warm_up(make(), batches[0].slice(0, WARM_UP_ROWS), folder / "warm-up")
    system = make()
    frames = [system.prepare(batch) for batch in batches]
    del batches
    store = folder / "store"
    system.open(store)
    memory = PeakMemory()
    memory.start()

    began = time.perf_counter()
    write_seconds = [_timed(lambda frame=frame: system.write(frame)) for frame in frames]
    finish_seconds = _timed(system.finish)
    seconds = time.perf_counter() - began

    peak_bytes = memory.stop()
    disk_bytes = folder_bytes(store)
    answer_seconds, answer = _timed_result(system.answer)
    settle_seconds, settled = _timed_result(system.settle)
    measured = {
        "rows": rows,
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "write_seconds": write_seconds,
        "finish_seconds": finish_seconds,
        "peak_bytes": peak_bytes,
        "disk_bytes": disk_bytes,
        "answer_rows": answer[0],
        "answer_sum": answer[1],
        "answer_seconds": answer_seconds,
        "settle_seconds": settle_seconds if settled else None,
        "settled_disk_bytes": folder_bytes(store) if settled else None,
        "versions": {package: version(package) for package in ("pyarrow", *system.packages)},
    }
    system.close()
    return measured


def folder_bytes(folder: Path) -> int:
    """Add up the lengths of all files. A file that vanishes meanwhile, such as one merged away, counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def repeated(batches: list[pa.Table], times: int, span_seconds: float) -> list[pa.Table]:
    """Return the batches ``times`` times, each time ``span_seconds`` later than before."""
    assert times == 1 or span_seconds > 0, "rows that come again at the same times would replace the first ones"
    span_ns = round(span_seconds * 1e9)
    return [_later(batch, number * span_ns) if number else batch for number in range(times) for batch in batches]


def _later(batch: pa.Table, ticks: int) -> pa.Table:
    position = batch.schema.get_field_index(TIME)
    kind = batch.schema.field(TIME).type
    return batch.set_column(position, TIME, pc.add(batch[TIME].cast(pa.int64()), ticks).cast(kind))


def recut(batches: list[pa.Table], batch_rows: int | None, rows: int | None) -> list[pa.Table]:
    """Return the first rows in batches of ``batch_rows``, each in memory of its own."""
    if batch_rows is None:
        return batches
    whole = pa.concat_tables(batches).slice(0, rows).combine_chunks()
    starts = range(0, len(whole), batch_rows)
    return [whole.take(pa.array(range(start, min(start + batch_rows, len(whole))))) for start in starts]


def tag_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_string(field.type)]


def _warm_up(system: System, rows: pa.Table, folder: Path) -> None:
    system.open(folder)
    system.write(system.prepare(rows))
    system.finish()
    system.answer()
    system.close()


def read(path: Path) -> list[pa.Table]:
    with pa.OSFile(str(path)) as source:
        return [pa.Table.from_batches([batch]) for batch in pa.ipc.open_file(source).read_all().to_batches()]


def _timed(action: Callable[[], object]) -> float:
    return _timed_result(action)[0]


def _timed_result(action: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


def status_bytes(field: str) -> int:
    """Return the resident set of this process now (VmRSS) or at its highest (VmHWM); what it is now where nobody tells.

    What ``getrusage`` calls the highest may be that of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        import psutil

        return int(psutil.Process().memory_info().rss)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
