"""The 15 queries of TSBS cpu-only, mitoframe beside DuckDB, chDB and plain Polars over one sorted Parquet file.

    python benchmarks/queries.py [--write-results] [--hosts 100 --hours 2] [--only mitoframe polars]
    python benchmarks/queries.py --sections points --only mitoframe

Four sections of the results: "queries" is each query warm; "overlapping" the same in mitoframe with four overlapping
runs per window and rows in memory; "first" each query as the first of a fresh process; "points" point queries, with few
and with many files, and the memory of a full scan. Asked for alone, a section measures what it needs and no more: for
"first" that is each query warm as well. All stores hold the same rows, and every answer is compared with
every other system's before anything is measured: what differs fails. How a system is asked is told in
peers/queries_*.py.

Warm: each query has eight sets of parameters, drawn once and the same for all, and more for warming up. Before its
first turn a system answers some of these for half a second. A turn is one more to warm up and then the eight, each
asked once; the systems take turns, in another order each round. The median of all those times counts. So no system can
hand out the stored answer to the same question, but for ``lastpoint``, which has no parameters.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ingest
import polars as pl
import report
import workload
from polars.testing import assert_frame_equal

import mitoframe
from mitoframe.tsbs import FIELDS

sys.path.insert(0, str(ingest.PEERS))
from queries_harness import HIGH_FIELD, HOST, ROWS_FILE, TIME, Question
from queries_stores import DELIVERIES_FILE, YEAR_HOSTS, YEAR_HOURS, write_final
from queries_stores import FOURFOLD as FOURFOLD_TIMES

PARAMETER_SETS = 8
WARMING_SETS = 64
WARMING_SECONDS = 0.5
"""A system is asked other questions of the same kind for so long before its first turn, or all there are."""
TURN_SECONDS_MAX = 60.0
"""A turn that takes longer ends after the run that is under way."""
HOUR_NS = 3_600 * 10**9
MILLISECOND_NS = 10**6
START_NS = 1_451_606_400_000 * MILLISECOND_NS
"""2016-01-01, where the generated rows begin."""
SHIFT_MS = 600_000
"""A window as long as the data begins up to this much before or after them."""
RELATIVE_TOLERANCE = 1e-9
SETS_COMPARED = 2
"""Of answers with very many rows, so many are compared in full, and the others by their length."""
FEW_FILES = 10
STREAMS = ("batches", "arrow")

PLAIN, VERBS = "plain", "verbs"
OURS, OVERLAPPING, FLOOR, DUCKDB, CHDB = "mitoframe", "overlapping", "Polars", "DuckDB", "chDB"
PEER_NAMES = (DUCKDB, CHDB)
STORES_SCRIPT = "queries_stores.py"
KEPT_SECONDS = 3_600.0
"""A store that other code made is kept for so long, for whoever goes back and forth."""
MEMORY_SCRIPT = ingest.PEERS / "queries_memory.py"
SECTIONS = ("queries", "overlapping", "first", "points")

PEER_RATIO_MAX = 1.0
PEER_MEAN_MAX = 0.25
FLOOR_RATIO_MAX = 1.15
FLOOR_EXTRA_SECONDS = 1e-3
OVERLAPPING_RATIO_MAX = 2.0
FIRST_RATIO_MAX = 3.0
POINT_SECONDS_MAX = 2e-3
POINT_WAYS = {PLAIN: "plain Polars on a held frame", VERBS: "scan(...).collect()"}
MANY_FILES_RATIO_MAX = 3.0
LASTPOINT_TIMES_MIN = 20.0
MEMORY_RATIO_MAX = 1.25
MEMORY_EXTRA_BYTES = 64 << 20


# --- what is asked -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query of the suite; its parameters are drawn."""

    name: str
    kind: str
    fields: tuple[str, ...] = ()
    hosts: int = 0
    hours: float | None = None
    every: str = "1m"
    is_tsbs: bool = True


def _maxima(name: str, *, fields: int, hosts: int, hours: float, every: str = "1m") -> Query:
    return Query(name=name, kind="maxima", fields=FIELDS[:fields], hosts=hosts, hours=hours, every=every)


def _means(name: str, fields: int) -> Query:
    return Query(name=name, kind="means", fields=FIELDS[:fields], hours=12, every="1h")


ALL_FIELDS = len(FIELDS)
QUERIES = (
    _maxima("single-groupby-1-1-1", fields=1, hosts=1, hours=1),
    _maxima("single-groupby-1-1-12", fields=1, hosts=1, hours=12),
    _maxima("single-groupby-1-8-1", fields=1, hosts=8, hours=1),
    _maxima("single-groupby-5-1-1", fields=5, hosts=1, hours=1),
    _maxima("single-groupby-5-1-12", fields=5, hosts=1, hours=12),
    _maxima("single-groupby-5-8-1", fields=5, hosts=8, hours=1),
    _maxima("cpu-max-all-1", fields=ALL_FIELDS, hosts=1, hours=8, every="1h"),
    _maxima("cpu-max-all-8", fields=ALL_FIELDS, hosts=8, hours=8, every="1h"),
    _means("double-groupby-1", 1),
    _means("double-groupby-5", 5),
    _means("double-groupby-all", ALL_FIELDS),
    Query(name="high-cpu-1", kind="high", hosts=1, hours=12),
    Query(name="high-cpu-all", kind="high", hours=12),
    Query(name="groupby-orderby-limit", kind="latest", fields=(HIGH_FIELD,), hours=1),
    Query(name="lastpoint", kind="last"),
)
POINTS = (
    Query(name="point, one column", kind="rows", fields=FIELDS[:1], hosts=1, hours=1, is_tsbs=False),
    Query(name="point, all columns", kind="rows", fields=FIELDS, hosts=1, hours=1, is_tsbs=False),
)


def draw(query: Query, count: int, *, hosts: int, hours: float, seed: int) -> list[Question]:
    """Draw that many sets of parameters; the same for all systems."""
    generator = random.Random(f"{seed} {query.name}")
    return [_draw_once(query, generator, hosts=hosts, hours=hours) for _ in range(count)]


def _draw_once(query: Query, generator: random.Random, *, hosts: int, hours: float) -> Question:
    chosen = generator.sample(range(hosts), min(query.hosts, hosts))
    question = Question(
        kind=query.kind, fields=query.fields, hosts=tuple(f"host_{number}" for number in chosen), every=query.every
    )
    if query.hours is None:
        return question
    room_ms = round((hours - query.hours) * 3_600_000)
    shift_ms = generator.randint(0, room_ms) if room_ms > 0 else generator.randint(-SHIFT_MS, SHIFT_MS)
    start_ns = START_NS + shift_ms * MILLISECOND_NS
    end_ns = start_ns + round(query.hours * HOUR_NS)
    return replace(question, start_ns=None if query.kind == "latest" else start_ns, end_ns=end_ns)


# --- who is asked --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    name: str
    script: str
    what: str
    arguments: tuple[str, ...] = ()
    ways: tuple[str, ...] = (PLAIN,)
    is_peer: bool = False
    code: tuple[str, ...] = ()
    """What else of the package decides about the store's bytes: its parts that write."""


WRITING = ("storage", "jobs", "kernels", "model", "frames/arrow.py", "engine/background.py", "region/region.py")
ONLY_READING = ("cache.py", "sst_reader.py", "predicate.py", "request.py")
"""Parts of `WRITING` that do not write: a store stays when these change."""
_OURS = {"script": "queries_mitoframe.py", "ways": (PLAIN, VERBS), "code": WRITING}
CONTESTANTS = (
    Contestant(name=OURS, what="upserts, flushed and compacted, in strict windows of 12 hours; log and all", **_OURS),
    Contestant(
        name=OVERLAPPING,
        what="mitoframe with four overlapping runs per window and 2 percent of the rows in memory",
        arguments=("--state", "overlapping"),
        **_OURS,
    ),
    Contestant(name=FLOOR, script="queries_polars.py", what="one Parquet file, sorted, written by pyarrow"),
    Contestant(name=DUCKDB, script="queries_duckdb.py", what="its own table, rows in order of the key", is_peer=True),
    Contestant(name=CHDB, script="queries_chdb.py", what="MergeTree ordered by the key, one part", is_peer=True),
)
FOURFOLD = Contestant(name="fourfold", what="four times the rows", arguments=("--state", "fourfold"), **_OURS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a run has been told, and where its rows are."""

    arguments: argparse.Namespace
    load: workload.Workload
    source: Path
    scratch: Path
    contestants: tuple[Contestant, ...]
    queries: tuple[Query, ...]

    def questions(self, query: Query) -> list[Question]:
        """Return the question to begin each turn with, those of all rounds, and those to warm up, no two the same."""
        arguments = self.arguments
        count = 1 + PARAMETER_SETS * arguments.rounds + WARMING_SETS
        return draw(query, count, hosts=arguments.hosts, hours=arguments.hours, seed=arguments.seed)

    def command(self, contestant: Contestant, task: str, folder: Path, *more: str) -> list[str]:
        interpreter = str(self.arguments.peers_python) if contestant.is_peer else sys.executable
        script = str(ingest.PEERS / contestant.script)
        return [interpreter, script, *contestant.arguments, task, "--folder", str(folder), *more]


Times = dict[tuple[str, str, str], list[float]]
"""Seconds by query, contestant and way."""


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # what is half-made is then removed
    workload.DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=workload.DATA) as scratch:
        _run(_prepare(arguments, Path(scratch)))


def _run(bench: Bench) -> None:
    arguments = bench.arguments
    warm = measure_warm(bench)
    sections = []
    if "queries" in arguments.sections:
        sections.append(_queries_section(bench, warm))
    if OVERLAPPING in {one.name for one in bench.contestants}:
        sections.append(_overlapping_section(bench, warm))
    if "first" in arguments.sections:
        sections.append(_first_section(bench, warm))
    if "points" in arguments.sections and OURS in {one.name for one in bench.contestants}:
        sections.append(_points_section(bench, warm))
    for section in sections:
        print(f"\n## {section.title}\n\n{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}")
        print("".join(f"* {note}\n" for note in section.notes), flush=True)
    if warm.faults:
        sys.exit("failed, or gave another answer; nothing is recorded:\n" + "\n".join(dict.fromkeys(warm.faults)))
    if arguments.write_results:
        for section in sections:
            report.record(section)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The TSBS cpu-only queries, beside peers.")
    parser.add_argument("--hosts", type=int, default=4000)
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each system at each query")
    parser.add_argument("--first-rounds", type=int, default=3, help="fresh processes per query and way of asking")
    parser.add_argument("--files", type=int, default=10_000, help="of the store with many files")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these alone, such as mitoframe overlapping polars")
    parser.add_argument("--queries", nargs="*", metavar="NAME", help="these alone, such as lastpoint double-groupby-1")
    parser.add_argument("--sections", nargs="*", default=list(SECTIONS), choices=SECTIONS)
    parser.add_argument("--peers-python", type=Path, default=ingest.PEERS_PYTHON, help="the interpreter with the peers")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    return parser.parse_args()


def _prepare(arguments: argparse.Namespace, scratch: Path) -> Bench:
    only = None if arguments.only is None else {name.lower() for name in arguments.only}
    contestants = [one for one in CONTESTANTS if only is None or one.name.lower() in only]
    if "overlapping" not in arguments.sections:
        contestants = [one for one in contestants if one.name != OVERLAPPING]
    known = [
        *(() if arguments.sections == ["points"] else QUERIES),
        *(POINTS if "points" in arguments.sections else ()),
    ]
    queries = [one for one in known if arguments.queries is None or one.name in arguments.queries]
    batches = max(1, round(arguments.hours * ingest.BATCHES_PER_HOUR))
    load = workload.prepare(hosts=arguments.hosts, hours=arguments.hours, batches=batches, seed=arguments.seed)
    print(f"{load.rows:,} rows delivered, {load.keys:,} keys", flush=True)
    return Bench(
        arguments=arguments,
        load=load,
        source=_rows_of(load),
        scratch=scratch,
        contestants=tuple(contestants),
        queries=tuple(queries),
    )


def _with(arguments: argparse.Namespace, **other: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(arguments), **other})


# --- stores, made once -----------------------------------------------------------------------------------


def _rows_of(load: workload.Workload) -> Path:
    """Return a folder with the deliveries, and the final rows in one sorted Parquet file."""

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / DELIVERIES_FILE).hardlink_to(load.path)
        write_final(load.path, folder / ROWS_FILE)

    return _made_once("rows", load.path.stem, _digest([ingest.PEERS / STORES_SCRIPT]), make)


def store_of(bench: Bench, contestant: Contestant, rows: str | None = None) -> Path:
    """Return the contestant's store, made now or found from before."""
    package = Path(mitoframe.__file__).parent
    parts = [path for part in contestant.code for path in sorted(_python_files(package / part))]
    script = ingest.PEERS / (STORES_SCRIPT if contestant.code else contestant.script)
    digest = _digest([script, *(path for path in parts if path.name not in ONLY_READING)])
    kind = contestant.name.lower().replace(" ", "-")

    def make(folder: Path) -> None:
        began = time.monotonic()
        command = bench.command(contestant, "make", folder, "--source", str(bench.source))
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"made the store of {contestant.name} in {time.monotonic() - began:.0f} s", flush=True)

    return _made_once(kind, bench.load.path.stem if rows is None else rows, digest, make)


def _made_once(kind: str, rows: str, digest: str, make: Callable[[Path], None]) -> Path:
    """Return the folder, which is filled under another name and becomes it at the end. Old ones of other code go."""
    prefix = f"queries-{kind}-{rows}-"
    folder = workload.DATA / f"{prefix}{digest}"
    if folder.is_dir():
        return folder
    for other in workload.DATA.glob(f"{prefix}*"):
        if time.time() - other.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(other)
    making = workload.DATA / f"making-{os.getpid()}-{folder.name}"
    try:
        make(making)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _python_files(path: Path) -> Iterator[Path]:
    return path.rglob("*.py") if path.is_dir() else iter([path])


def _digest(files: Sequence[Path]) -> str:
    code = b"".join(path.read_bytes() for path in files)
    return hashlib.sha256(code).hexdigest()[:8]


# --- warm --------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Warm:
    """What was measured. A way that a system does not have is absent from ``times``."""

    times: Times
    faults: list[str]
    versions: dict[str, str]

    def median(self, query: str, contestant: str, way: str = PLAIN) -> float | None:
        found = self.times.get((query, contestant, way))
        return statistics.median(found) if found else None

    def best(self, query: str, contestant: str) -> float | None:
        found = [self.median(query, contestant, way) for way in (PLAIN, VERBS)]
        return min((one for one in found if one is not None), default=None)


class Worker:
    """A process that has a store open and answers questions."""

    def __init__(self, bench: Bench, contestant: Contestant, folder: Path) -> None:
        self.contestant = contestant
        self._process = subprocess.Popen(
            bench.command(contestant, "serve", folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions: dict[str, str] = self._heard()["versions"]

    def ask(self, question: Question, way: str, save: Path | None) -> dict[str, Any]:
        asked = {"question": asdict(question), "way": way, "save": None if save is None else str(save)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._heard()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.contestant.name} ended with {self._process.wait()}; what it said is above")
        heard: dict[str, Any] = json.loads(line)
        return heard


@contextmanager
def workers(bench: Bench, chosen: Sequence[tuple[Contestant, Path]]) -> Iterator[list[tuple[Worker, str]]]:
    """Start a process for each contestant and way, so that none profits from what another way has read.

    Ours get a copy of their store each: a store has one writing process.
    """
    with ExitStack() as stack:
        started = []
        for contestant, store in chosen:
            for way in contestant.ways:
                folder = _own_folder(stack, contestant, store)
                worker = Worker(bench, contestant, folder)
                stack.callback(worker.close)
                started.append((worker, way))
        yield started


@contextmanager
def copied(store: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-", dir=workload.DATA) as folder:
        shutil.copytree(store, folder, dirs_exist_ok=True)
        os.sync()  # what is left unwritten is not the measurement's to write
        yield Path(folder)


def measure_warm(bench: Bench) -> Warm:
    stores = [(one, store_of(bench, one)) for one in bench.contestants]
    warm = Warm(times={}, faults=[], versions={})
    with workers(bench, stores) as started:
        for worker, _ in started:
            warm.versions |= worker.versions
        for query in bench.queries:
            _measure_query(bench, query, bench.questions(query), started, warm)
    return warm


def _measure_query(
    bench: Bench, query: Query, questions: Sequence[Question], started: Sequence[tuple[Worker, str]], warm: Warm
) -> None:
    shuffle = random.Random(f"{bench.arguments.seed} {query.name}")
    answers = Answers(query, bench.scratch)
    absent: set[tuple[str, str]] = set()
    for number in range(bench.arguments.rounds):
        first = 1 + number * PARAMETER_SETS
        for worker, way in shuffle.sample(list(started), len(started)):
            who = (worker.contestant.name, way)
            if who in absent:
                continue
            if number == 0:
                _warm_up(worker, way, questions[-WARMING_SETS:])
            seconds = _turn(worker, way, questions, first, answers, warm.faults)
            if seconds:
                warm.times.setdefault((query.name, *who), []).extend(seconds)
            else:
                absent.add(who)
    told = "  ".join(
        f"{worker.contestant.name} {way} {_milliseconds(warm.median(query.name, worker.contestant.name, way))}"
        for worker, way in started
    )
    print(f"{query.name:24} {told}", flush=True)


def _warm_up(worker: Worker, way: str, questions: Sequence[Question]) -> None:
    """Ask questions of which nothing is kept; where one fails, the first turn tells."""
    ends = time.monotonic() + WARMING_SECONDS
    for question in questions:
        if time.monotonic() > ends or "seconds" not in worker.ask(question, way, None):
            return


def _turn(
    worker: Worker, way: str, questions: Sequence[Question], first: int, answers: Answers, faults: list[str]
) -> list[float]:
    """Ask what warms up, then one round's questions; compare the answers afterwards. Empty if this way is absent."""
    who = f"{worker.contestant.name} {way}"
    seconds: list[float] = []
    saved = []
    began = time.monotonic()
    for number in [0, *range(first, first + PARAMETER_SETS)]:
        path = answers.place(number)
        told = worker.ask(questions[number], way, path)
        if "seconds" not in told:
            if "failed" in told:
                faults.append(f"{who}, {answers.query.name}: {told['failed']}")
            answers.forget(path)
            seconds.clear()
            break
        saved.append((number, path, told["rows"]))
        if number == 0:
            continue
        seconds.append(told["seconds"])
        if time.monotonic() - began > TURN_SECONDS_MAX:
            break
    for number, path, rows in saved:
        faults.extend(answers.compare(who, number, path, rows))
    return seconds


class Answers:
    """The answers to one query: the first to each question is kept, and the others are compared with it."""

    def __init__(self, query: Query, folder: Path) -> None:
        self.query, self._folder = query, folder
        self._kept: dict[int, tuple[str, int, pl.DataFrame | None]] = {}
        self._is_long = query.kind == "high" and query.hosts == 0

    def place(self, number: int) -> Path | None:
        """Return where the answer is to be saved, if it is."""
        if self._is_long and number >= SETS_COMPARED:
            return None
        return self._folder / f"{number}.arrow"

    def forget(self, path: Path | None) -> None:
        if path is not None:
            path.unlink(missing_ok=True)

    def compare(self, who: str, number: int, path: Path | None, rows: int) -> Iterator[str]:
        answer = None if path is None else _in_order(pl.read_ipc(path))
        self.forget(path)
        other, other_rows, other_answer = self._kept.setdefault(number, (who, rows, answer))
        start = f"{who} and {other} differ on {self.query.name}, set {number}:"
        if rows != other_rows:
            yield f"{start} {rows:,} and {other_rows:,} rows"
        elif answer is not None and other_answer is not None and other != who:
            try:
                assert_frame_equal(answer, other_answer, rel_tol=RELATIVE_TOLERANCE)
            except AssertionError as error:
                yield f"{start} {error}"


def _in_order(answer: pl.DataFrame) -> pl.DataFrame:
    """Bring an answer into the form that all systems' answers have in common."""
    if answer.schema[TIME].is_integer():  # a DateTime of chDB is seconds in Arrow
        answer = answer.with_columns(pl.from_epoch(TIME))
    strings = pl.col(pl.Categorical, pl.Enum).cast(pl.String)
    times = pl.col(TIME).dt.replace_time_zone(None).dt.cast_time_unit("ns")
    named = answer.with_columns(strings, times).select(sorted(answer.columns))
    return named.sort([name for name in (HOST, TIME) if name in named.columns])


# --- first of a process --------------------------------------------------------------------------------------


def measure_first(bench: Bench) -> dict[tuple[str, str, str], list[dict[str, float]]]:
    chosen = [one for one in bench.contestants if one.name != OVERLAPPING]
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    with ExitStack() as stack:
        folders = {one.name: _own_folder(stack, one, store_of(bench, one)) for one in chosen}
        for query in bench.queries:
            questions = bench.questions(query)
            for number in range(bench.arguments.first_rounds):
                for one in chosen:
                    for way in one.ways:
                        question = questions[number % len(questions)]
                        told = _ask_once(bench, one, folders[one.name], question, way)
                        if "first" in told:
                            found.setdefault((query.name, one.name, way), []).append(told)
    return found


def _own_folder(stack: ExitStack, contestant: Contestant, store: Path) -> Path:
    return stack.enter_context(copied(store)) if contestant.code else store


def _ask_once(bench: Bench, contestant: Contestant, folder: Path, question: Question, way: str) -> dict[str, float]:
    more = ["--question", json.dumps(asdict(question)), "--way", way, "--began", repr(time.monotonic())]
    done = subprocess.run(
        bench.command(contestant, "once", folder, *more), check=False, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        return {}
    told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


# --- many files, and memory ----------------------------------------------------------------------------------------


def measure_files(bench: Bench, warm: Warm) -> Warm:
    """Ask for points of a year in few files and in many, turn by turn."""
    chosen = [_year(count) for count in (FEW_FILES, bench.arguments.files)]
    stores = [(one, store_of(bench, one, rows="made")) for one in chosen]
    year = replace(bench, arguments=_with(bench.arguments, hosts=YEAR_HOSTS, hours=YEAR_HOURS))
    found = Warm(times={}, faults=warm.faults, versions={})
    with workers(year, stores) as started:
        for query in POINTS:
            _measure_query(year, query, year.questions(query), started, found)
    return found


def _year(files: int) -> Contestant:
    name, arguments = f"a year in {files} files", ("--state", "files", "--files", str(files))
    return Contestant(name=name, what="other rows", arguments=arguments, **{**_OURS, "ways": (PLAIN,)})


def measure_memory(bench: Bench) -> dict[tuple[str, str], dict[str, float]]:
    """Return what reading all rows took, by way of reading and by store; without what ran out of memory."""
    ours = next(one for one in CONTESTANTS if one.name == OURS)
    found = {}
    for contestant, keys in ((ours, bench.load.keys), (FOURFOLD, bench.load.keys * FOURFOLD_TIMES)):
        with copied(store_of(bench, contestant)) as folder:
            for way in STREAMS:
                command = [sys.executable, str(MEMORY_SCRIPT), "--folder", str(folder), "--way", way]
                done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
                if done.returncode != 0:
                    continue
                told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
                assert told["rows"] == keys, f"{told['rows']} rows were read of {keys}"
                print(f"memory, {contestant.name}, {way}: {_mebibytes(told['peak_bytes'])}", flush=True)
                found[way, contestant.name] = told
    return found


# --- telling ---------------------------------------------------------------------------------------------------


def _best_peer(warm: Warm, query: str) -> tuple[str, float] | None:
    found = [(name, warm.median(query, name)) for name in PEER_NAMES]
    return min(((name, one) for name, one in found if one is not None), key=lambda pair: pair[1], default=None)


def _columns(bench: Bench, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(one.name, way) for one in bench.contestants if one.name in names for way in one.ways]


def _title(contestant: str, way: str) -> str:
    return contestant if contestant not in (OURS, OVERLAPPING) else f"{contestant}, {way}"


def _queries_section(bench: Bench, warm: Warm) -> report.Section:
    columns = _columns(bench, (DUCKDB, CHDB, FLOOR, OURS))
    head = ["query, ms", *(_title(*column) for column in columns), "best of ours over best peer", "plain over Polars"]
    queries = [query for query in bench.queries if query.is_tsbs]
    rows = [
        [
            query.name,
            *(_milliseconds(warm.median(query.name, *column)) for column in columns),
            _times(_ratio(warm.best(query.name, OURS), _peer_seconds(warm, query.name))),
            _times(_ratio(warm.median(query.name, OURS), warm.median(query.name, FLOOR))),
        ]
        for query in queries
    ]
    return report.Section(
        name="queries",
        title="TSBS queries, warm, after compaction",
        command="make bench",
        table=report.Table(head=head, rows=rows),
        targets=[*_peer_targets(warm, queries), *_floor_targets(warm, queries)],
        notes=_queries_notes(bench, warm, queries),
        raw=_raw(warm),
        versions={name: number for name, number in warm.versions.items() if name not in report.PACKAGES},
    )


def _peer_seconds(warm: Warm, query: str) -> float | None:
    best = _best_peer(warm, query)
    return None if best is None else best[1]


def _peer_targets(warm: Warm, queries: Sequence[Query]) -> list[report.Target]:
    targets, ratios = [], []
    for query in queries:
        best, ours = _best_peer(warm, query.name), warm.best(query.name, OURS)
        if best is None or ours is None:
            continue
        ratio = ours / best[1]
        ratios.append(ratio)
        targets.append(_at_most(f"{query.name}, mitoframe over {best[0]}", ratio, PEER_RATIO_MAX))
        if query.kind == "last":
            targets.append(_lastpoint_target(best[0], best[1] / ours))
    if ratios:
        what = f"geometric mean of mitoframe over the best peer, {len(ratios)} queries"
        targets.insert(0, _at_most(what, statistics.geometric_mean(ratios), PEER_MEAN_MAX))
    return targets


def _lastpoint_target(peer: str, times: float) -> report.Target:
    return report.Target(
        what=f"lastpoint, {peer} over mitoframe",
        wanted=f"at least {LASTPOINT_TIMES_MIN:g} times",
        found=f"{times:.1f} times",
        is_met=times >= LASTPOINT_TIMES_MIN,
    )


def _floor_targets(warm: Warm, queries: Sequence[Query]) -> Iterator[report.Target]:
    for query in queries:
        ours, floor = warm.median(query.name, OURS), warm.median(query.name, FLOOR)
        if ours is None or floor is None:
            continue
        most = FLOOR_RATIO_MAX * floor + FLOOR_EXTRA_SECONDS
        yield report.Target(
            what=f"{query.name}, plain Polars on mitoframe, beside plain Polars on one file",
            wanted=f"at most {FLOOR_RATIO_MAX:g} times and 1 ms: {_milliseconds(most)} ms",
            found=f"{_milliseconds(ours)} ms",
            is_met=ours <= most,
        )


def _queries_notes(bench: Bench, warm: Warm, queries: Sequence[Query]) -> list[str]:
    plain = [_ratio(warm.median(one.name, OURS), _peer_seconds(warm, one.name)) for one in queries]
    known = [ratio for ratio in plain if ratio is not None]
    mean = f"{statistics.geometric_mean(known):.2f}" if known else "not known"
    return [
        f"{bench.load.keys:,} rows: {bench.arguments.hosts:,} hosts, {bench.arguments.hours:g} hours.",
        f"Geometric mean of mitoframe asked with plain Polars alone over the best peer: {mean}.",
        _rule(bench),
        "The answers of all systems were compared and are equal."
        if not warm.faults
        else "**Answers differ, or were not given.**",
        *(f"{one.name}: {one.what}." for one in bench.contestants),
    ]


def _rule(bench: Bench) -> str:
    rounds = bench.arguments.rounds
    return (
        f"Medians of {rounds * PARAMETER_SETS} runs, in {rounds} turns of {PARAMETER_SETS} after some to warm up. Each "
        "run has other hosts and times, drawn once and the same for all systems, so that no system answers the same "
        "question twice (but for lastpoint, which has no parameters). A window as long as the data begins up to ten "
        "minutes before or after them. Plain Polars and the verbs are asked in processes of their own."
    )


def _overlapping_section(bench: Bench, warm: Warm) -> report.Section:
    columns = _columns(bench, (OURS, OVERLAPPING))
    rows, targets = [], []
    for query in (one for one in bench.queries if one.is_tsbs):
        ratios = [
            (way, _ratio(warm.median(query.name, OVERLAPPING, way), warm.median(query.name, OURS, way)))
            for way in (PLAIN, VERBS)
        ]
        rows.append(
            [
                query.name,
                *(_milliseconds(warm.median(query.name, *column)) for column in columns),
                *(_times(ratio) for _, ratio in ratios),
            ]
        )
        targets += [
            _at_most(f"{query.name}, {way}, overlapping over compacted", ratio, OVERLAPPING_RATIO_MAX)
            for way, ratio in ratios
            if ratio is not None
        ]
    return report.Section(
        name="overlapping",
        title="TSBS queries on four overlapping runs per window and rows in memory",
        command="make bench",
        table=report.Table(
            head=["query, ms", *(_title(*column) for column in columns), "plain, ratio", "verbs, ratio"], rows=rows
        ),
        targets=targets,
        notes=["The same rows, dealt over four flushes, and two percent of them not flushed.", _rule(bench)],
        raw={},
    )


def _first_section(bench: Bench, warm: Warm) -> report.Section:
    found = measure_first(bench)
    columns = _columns(bench, (DUCKDB, CHDB, FLOOR))
    rows, targets = [], []
    for query in (one for one in bench.queries if one.is_tsbs):
        for way in (PLAIN, VERBS):
            ours = found.get((query.name, OURS, way))
            usual = warm.median(query.name, OURS, way)
            if not ours or usual is None:
                continue
            first, opened, started = (_median_of(ours, name) for name in ("first", "opened", "started"))
            others = [_median_of(found.get((query.name, *column), []), "first") for column in columns]
            rows.append(
                [
                    f"{query.name}, {way}",
                    *map(_milliseconds, (usual, first)),
                    _times(_ratio(first, usual)),
                    *map(_milliseconds, (opened, started)),
                    *map(_milliseconds, others),
                ]
            )
            targets.append(_at_most(f"{query.name}, {way}, first over warm", (first or 0) / usual, FIRST_RATIO_MAX))
    head = ["query, ms", "warm", "first", "first over warm", "with opening", "with the process's start and imports"]
    return report.Section(
        name="first",
        title="TSBS queries, the first of a fresh process",
        command="make bench",
        table=report.Table(head=[*head, *(f"{name}, first" for name, _ in columns)], rows=rows),
        targets=targets,
        notes=[
            f"Medians of {bench.arguments.first_rounds} processes each, which ask one query and end.",
            "*first* is from when the store is open; files are in the system's page cache, compiled kernels on disk.",
        ],
        raw=[[*key, told] for key, told in found.items()],
    )


def _points_section(bench: Bench, warm: Warm) -> report.Section:
    columns = _columns(bench, (DUCKDB, CHDB, FLOOR, OURS))
    rows, targets = [], []
    for query in (one for one in bench.queries if not one.is_tsbs):
        found = [(_title(*column), warm.median(query.name, *column)) for column in columns]
        rows += [[f"{query.name}, {title}", _milliseconds_of(seconds)] for title, seconds in found if seconds]
        for way, how in POINT_WAYS.items():
            ours = warm.median(query.name, OURS, way)
            if ours is not None:
                targets.append(_within(f"{query.name}, {how}", ours, POINT_SECONDS_MAX))
    files = measure_files(bench, warm)
    for query in POINTS:
        seconds = [files.median(query.name, _year(count).name) for count in (FEW_FILES, bench.arguments.files)]
        counts = (f"{FEW_FILES} files", f"{bench.arguments.files:,} files")
        rows += [
            [f"{query.name}, a year in {count}", _milliseconds_of(one)]
            for count, one in zip(counts, seconds, strict=True)
        ]
        ratio = _ratio(seconds[1], seconds[0])
        if ratio is not None:
            targets.append(_at_most(f"{query.name}, {counts[1]} over {counts[0]}", ratio, MANY_FILES_RATIO_MAX))
    memory = measure_memory(bench)
    for way in STREAMS:
        once, fourfold = (memory.get((way, name), {}).get("peak_bytes") for name in (OURS, FOURFOLD.name))
        rows.append([f"memory of reading all, {way}, once", _mebibytes(once)])
        rows.append([f"memory of reading all, {way}, four times the rows", _mebibytes(fourfold)])
        targets.append(_memory_target(way, once, fourfold))
    return report.Section(
        name="points",
        title="Point queries, many files, and the memory of a full scan",
        command="make bench",
        table=report.Table(head=["what", "median"], rows=rows),
        targets=targets,
        notes=[
            "A point query is the rows of one host and one hour; other hosts and times each time.",
            f"Plain is {POINT_WAYS[PLAIN]}; with verbs, {POINT_WAYS[VERBS]}.",
            _note_on_files(bench.arguments.files),
            _note_on_memory(),
        ],
        raw={"files": _raw(files), "memory": [[*key, told] for key, told in memory.items()]},
    )


def _note_on_files(files: int) -> str:
    return (
        f"The year is {round(YEAR_HOURS / 24)} days of {YEAR_HOSTS} hosts with one row a minute, once in about "
        f"{FEW_FILES} files and once in about {files:,}."
    )


def _note_on_memory() -> str:
    return (
        "Memory is how far the resident set rises while every row is read in batches, which are counted and let go. "
        "Four times the rows are the same rows again, each time later."
    )


def _median_of(told: Sequence[Mapping[str, float]], name: str) -> float | None:
    return statistics.median(one[name] for one in told) if told else None


def _at_most(what: str, ratio: float, most: float) -> report.Target:
    return report.Target(what=what, wanted=f"at most {most:g} times", found=f"{ratio:.2f} times", is_met=ratio <= most)


def _within(what: str, seconds: float, most: float) -> report.Target:
    return report.Target(
        what=what,
        wanted=f"at most {_milliseconds(most)} ms",
        found=f"{_milliseconds(seconds)} ms",
        is_met=seconds <= most,
    )


def _memory_target(way: str, once_bytes: float | None, fourfold_bytes: float | None) -> report.Target:
    most_bytes = MEMORY_RATIO_MAX * (once_bytes or 0) + MEMORY_EXTRA_BYTES
    return report.Target(
        what=f"memory of reading all, {way}, four times the rows",
        wanted=f"at most {MEMORY_RATIO_MAX:g} times that of once, and {_mebibytes(MEMORY_EXTRA_BYTES)}",
        found=_mebibytes(fourfold_bytes),
        is_met=fourfold_bytes is not None and fourfold_bytes <= most_bytes,
    )


def _mebibytes(size_bytes: float | None) -> str:
    return "more than it may take" if size_bytes is None else f"{size_bytes / 2**20:.0f} MiB"


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours / theirs


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} times"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _milliseconds_of(seconds: float | None) -> str:
    return f"{_milliseconds(seconds)} ms"


def _raw(warm: Warm) -> list[dict[str, Any]]:
    return [
        {"query": query, "system": contestant, "way": way, "seconds": [round(one, 6) for one in seconds]}
        for (query, contestant, way), seconds in warm.times.items()
    ]


if __name__ == "__main__":
    main()
