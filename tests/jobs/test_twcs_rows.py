"""Whatever is picked, and in whatever order it is merged, what is seen stays the same: no delete is ever undone,
and no value is filled from a row that something newer hides.

Files are lists of rows here, and a merge is the slow one: versions of a key, the newest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import pytest
from builders import file_id_of, file_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.jobs.picking import PATIENCE_MAX
from mitoframe.jobs.tasks import AUTOMATIC, WHOLE_TABLE, CompactionScope, CompactionTask
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.model.file import LEVEL_COMPACTED, LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import FileId, ManifestVersion, Sequence
from mitoframe.model.options import CompactionOptions, Dedup
from mitoframe.model.timerange import EVERYTHING, TimeRange

WINDOW = 1000
STEP = 250


@dataclass(frozen=True, slots=True)
class Row:
    """A row with two fields; one without fields is a delete marker."""

    key: tuple[str, int]
    sequence: int
    fields: tuple[int | None, int | None] | None


def by_key(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    """Return the versions of each key, the newest first."""
    found: dict[tuple[str, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: -row.sequence):
        found.setdefault(row.key, []).append(row)
    return found


def merged(rows: Iterable[Row], dedup: Dedup, *, drop_deletes: bool) -> list[Row]:
    """Return what a merge leaves of some rows."""
    if dedup == "none":
        return sorted(rows, key=lambda row: (row.key, -row.sequence))
    kept: list[Row] = []
    for versions in by_key(rows).values():
        until = next((n for n, row in enumerate(versions) if row.fields is None), len(versions))
        if dedup == "last":
            kept += [versions[0]] if until or not drop_deletes else []
            continue
        if until:
            fields = tuple(
                next((row.fields[n] for row in versions[:until] if row.fields and row.fields[n] is not None), None)
                for n in (0, 1)
            )
            kept.append(Row(versions[0].key, versions[0].sequence, (fields[0], fields[1])))
        if until < len(versions) and not drop_deletes:
            kept.append(versions[until])
    return kept


def seen(rows: Iterable[Row], dedup: Dedup) -> list[tuple[tuple[str, int], object]]:
    return [(row.key, row.fields) for row in merged(rows, dedup, drop_deletes=True)]


def described(file_id: FileId, rows: list[Row], *, level: int, created_ms: int, derived: int = 0) -> FileMeta:
    times, sequences = [row.key[1] for row in rows], [row.sequence for row in rows]
    return file_of(
        file_id,
        min(times),
        max(times),
        level=level,
        size_bytes=len(rows),
        row_count=len(rows),
        delete_count=sum(row.fields is None for row in rows),
        min_sequence=Sequence(min(sequences)),
        max_sequence=Sequence(max(sequences)),
        created_ms=created_ms,
        derived_version=ManifestVersion(derived),
    )


def outputs(task: CompactionTask, rows: list[Row], dedup: Dedup, rows_max: int) -> list[list[Row]]:
    """Return the rows of each output: those of a window, divided by series if they are too many."""
    parts = []
    for times in task.output_windows or (EVERYTHING,):
        inside = [row for row in rows if times.holds(row.key[1])]
        left = merged(inside, dedup, drop_deletes=task.drop_deletes)
        tags = "ab" if len(left) > rows_max else ["ab"]
        parts += [[row for row in left if row.key[0] in tag] for tag in tags]
    return [part for part in parts if part]


keys = st.tuples(st.sampled_from("ab"), st.integers(-4, 11).map(lambda n: n * STEP))
values = st.none() | st.integers(0, 9)
writes = st.lists(st.lists(st.tuples(keys, st.none() | st.tuples(values, values)), min_size=1, max_size=5), max_size=9)
spans = st.tuples(st.integers(-4, 11), st.integers(1, 8)).map(
    lambda span: TimeRange(span[0] * STEP, (span[0] + span[1]) * STEP)
)
asked = st.builds(
    lambda mode, times: CompactionScope(mode=mode, times=times), st.sampled_from(["all", "strict"]), spans
)
scopes = st.lists(
    st.sampled_from([AUTOMATIC, AUTOMATIC, WHOLE_TABLE, CompactionScope(mode="strict")]) | asked, min_size=1, max_size=6
)


class Table:
    """Files and their rows; ``written`` are all rows that ever came."""

    def __init__(self, options: CompactionOptions) -> None:
        self.options = options
        self.written: list[Row] = []
        self.rows: dict[FileId, list[Row]] = {}
        self.files: dict[FileId, FileMeta] = {}
        self._numbers = count(1)

    def flush(self, write: Iterable[tuple[tuple[str, int], tuple[int | None, int | None] | None]], now: int) -> None:
        dedup = self.options.dedup
        facts = [(key, fields) for key, fields in write if fields is not None or dedup != "none"]
        new = [Row(key, len(self.written) + n, fields) for n, (key, fields) in enumerate(facts, 1)]
        self.written += new
        if new:
            self._add(next(self._numbers), 0, merged(new, dedup, drop_deletes=False), now, level=LEVEL_FLUSHED)

    def plan(self, now: int, scope: CompactionScope = AUTOMATIC) -> tuple[CompactionTask, ...]:
        return plan_compaction(self.files.values(), self.options, now, scope=scope).tasks

    def merge(self, task: CompactionTask, now: int) -> None:
        number = next(self._numbers)
        inputs = [row for file in task.inputs for row in self.rows.pop(file.file_id)]
        for file in task.inputs:
            del self.files[file.file_id]
        parts = outputs(task, inputs, self.options.dedup, self.options.output_size_max_bytes)
        for part, left in enumerate(parts):
            self._add(number, part, left, now, level=LEVEL_COMPACTED, derived=number)

    def _add(self, number: int, part: int, rows: list[Row], now: int, **known: int) -> None:
        file_id = file_id_of(f"{number:016x}{part:016x}")
        self.rows[file_id] = rows
        self.files[file_id] = described(file_id, rows, created_ms=now, **known)

    def seen(self) -> list[tuple[tuple[str, int], object]]:
        return seen((row for rows in self.rows.values() for row in rows), self.options.dedup)

    def expected(self) -> list[tuple[tuple[str, int], object]]:
        return seen(self.written, self.options.dedup)


@pytest.mark.parametrize("dedup", ["last", "merge", "none"])
@settings(deadline=None, max_examples=70)
@given(
    writes=writes,
    scopes=scopes,
    policy=st.sampled_from(["count", "runs"]),
    inputs_max=st.integers(2, 4),
    output_max=st.sampled_from([3, 100]),
    settle_ms=st.sampled_from([0, 50]),
    keeps=st.randoms(use_true_random=False),
)
def test_no_sequence_of_picks_and_merges_changes_what_is_seen(
    dedup, writes, scopes, policy, inputs_max, output_max, settle_ms, keeps
):
    options = CompactionOptions(
        policy=policy,
        window_ms=WINDOW,
        trigger_files=2,
        settled_trigger_files=2,
        settle_ms=settle_ms,
        input_files_max=inputs_max,
        output_size_max_bytes=output_max,
        dedup=dedup,
    )
    table = Table(options)
    later = writes[: len(scopes)]
    for now, write in enumerate(writes[len(scopes) :]):
        table.flush(write, now)

    for turn, scope in enumerate(scopes, 1):
        now = turn * PATIENCE_MAX * 60
        tasks = table.plan(now, scope)
        for task in keeps.sample(tasks, keeps.randint(0, len(tasks))):  # The others fail, or come later.
            table.merge(task, now)
            assert table.seen() == table.expected()
        if later:
            table.flush(later.pop(), now)

    while tasks := table.plan(now := now + PATIENCE_MAX * 60):  # What it comes to, if nothing comes any more.
        assert now < 1000 * PATIENCE_MAX * 60, "picking does not come to an end"
        for task in tasks:
            table.merge(task, now)
    assert table.seen() == table.expected()
