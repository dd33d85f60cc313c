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
from mitoframe.jobs.tasks import AUTOMATIC, WHOLE_TABLE, CompactionScope
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.model.file import LEVEL_COMPACTED, LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import FileId, ManifestVersion, Sequence
from mitoframe.model.options import CompactionOptions, Dedup

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


def seen(files: dict[FileId, list[Row]], dedup: Dedup) -> dict[tuple[str, int], object]:
    rows = [row for each in files.values() for row in each]
    return {row.key: row.fields for row in merged(rows, dedup, drop_deletes=True)}


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


keys = st.tuples(st.sampled_from("ab"), st.integers(-4, 11).map(lambda n: n * STEP))
values = st.none() | st.integers(0, 9)
writes = st.lists(st.lists(st.tuples(keys, st.none() | st.tuples(values, values)), min_size=1, max_size=5), max_size=9)
scopes = st.lists(
    st.sampled_from([AUTOMATIC, AUTOMATIC, WHOLE_TABLE, CompactionScope.window_of(0)]), min_size=1, max_size=6
)


@pytest.mark.parametrize("dedup", ["last", "merge"])
@settings(deadline=None, max_examples=150)
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
    sequences, numbers = count(1), count(1)
    rows: dict[FileId, list[Row]] = {}
    files: dict[FileId, FileMeta] = {}
    for n, write in enumerate(writes):
        file_id = file_id_of(f"{n:032x}")
        rows[file_id] = merged([Row(key, next(sequences), fields) for key, fields in write], dedup, drop_deletes=False)
        files[file_id] = described(file_id, rows[file_id], level=LEVEL_FLUSHED, created_ms=n)
    expected = seen(rows, dedup)

    for turn, scope in enumerate(scopes, 1):
        now = turn * PATIENCE_MAX * 60
        plan = plan_compaction(files.values(), options, now, scope=scope)
        for task in keeps.sample(plan.tasks, keeps.randint(0, len(plan.tasks))):  # The others fail, or come later.
            number = next(numbers)
            inputs = [row for file in task.inputs for row in rows.pop(file.file_id)]
            for file in task.inputs:
                del files[file.file_id]
            left = merged(inputs, dedup, drop_deletes=task.drop_deletes)
            for tag in "ab" if len(left) > output_max else ["ab"]:  # Divided by series if it is too much.
                part = [row for row in left if row.key[0] in tag]
                if part:
                    file_id = file_id_of(f"{number:016x}{ord(tag[0]):016x}")
                    rows[file_id] = part
                    files[file_id] = described(file_id, part, level=LEVEL_COMPACTED, created_ms=now, derived=number)

        assert seen(rows, dedup) == expected
