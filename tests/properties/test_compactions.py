"""Compactions of any kind, in any order, of a table whose every earlier moment is remembered: each goes on reading as
it was, the journal tells of the files there are, and in the end there is nothing left to merge.
"""

from __future__ import annotations

import os
from typing import Any

from builders import DELETE, REGION, Row
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import HOUR_MS, Remembered, many_puts, modes, writes

from mitoframe.model.options import Dedup
from mitoframe.model.request import AlterRequest, CompactRequest
from mitoframe.model.timerange import TimeRange
from mitoframe.storage.journal import replay

MAX_EXAMPLES = 2_000 if os.environ.get("MITOFRAME_NIGHTLY") else 40
FOR_EVER_MS = 10**12
times = st.integers(-1, 4) | st.integers(-1, 4).map(lambda time: HOUR_MS + time)
ranges = st.tuples(times, st.integers(1, 5) | st.just(HOUR_MS)).map(lambda span: TimeRange(span[0], sum(span)))
requests = st.builds(
    CompactRequest,
    mode=st.sampled_from(["due", "all", "strict"]),
    time_range=st.just(TimeRange()) | ranges,
    window_ms=st.sampled_from([None, None, 1000, 2 * HOUR_MS]),
)
deeds = (
    writes
    | writes.map(lambda write: (*write, "flush"))
    | st.tuples(st.just("backfill"), many_puts)
    | st.tuples(st.just("ask"), requests)
    | st.tuples(st.just("ask"), requests)
    | st.tuples(st.just("pass_time"), st.sampled_from([0, 1000, HOUR_MS]))
    | st.tuples(st.just("choose"), st.sampled_from(["runs", "count"]))
    | st.sampled_from(["flush", "reopen", "vacuum_old"]).map(lambda name: (name,))
)


class Compacted(Remembered):
    """``engine`` merges by itself as well, whenever something is due."""

    def ask(self, request: CompactRequest) -> None:
        self.engine.compact(REGION, request)
        self.note()

    def pass_time(self, by_ms: int) -> None:
        self.clock.advance(by_ms)
        self.engine.maintain()
        self.note()

    def choose(self, policy: str) -> None:
        self.engine.alter(REGION, AlterRequest(options={"compaction_policy": policy}))
        self.note()

    def vacuum_old(self) -> None:
        """Delete what is old enough: of the files of any moment, none."""
        self.engine.vacuum(REGION)
        self.note()

    def come_to_rest(self) -> None:
        """Let time pass, as nothing comes any more, until nothing is done by itself."""
        self.flush()
        for _ in range(20):
            version = self.state.version
            self.pass_time(100 * HOUR_MS)
            if self.state.version == version:
                return
        raise AssertionError("merging does not come to an end")

    def carry_out(self, name: str, *given: Any) -> None:
        if name == "write":
            rows, *then = given
            if self.dedup == "none":
                rows = [row for row in rows if row.op_type is not DELETE]
            if rows:
                self.write(rows)
            if then:
                self.flush()
            return
        getattr(self, name)(*given)

    def check(self) -> None:
        assert self.found() == self.expected()
        assert self.check_sequences() == sum(sequence < self.visible for sequence in self.moments)
        assert self.check_versions() == len(self.versions)
        history = self.engine.history(REGION)
        assert not history.damage
        assert replay(history.entries) == {file.file_id for file in self.files}


@settings(deadline=None, max_examples=MAX_EXAMPLES)
@given(
    dedup=modes,
    actions=st.lists(deeds, min_size=2, max_size=16),
    policy=st.sampled_from(["runs", "count"]),
    trigger=st.integers(2, 4),
    files_max=st.sampled_from([None, 4]),
    size_bytes=st.sampled_from([1, 4_000, 10**9]),
    checkpoint_distance=st.sampled_from([1, 3]),
)
def test_whatever_is_merged_every_moment_reads_as_it_was_and_it_comes_to_an_end(
    dedup: Dedup,
    actions: list[Any],
    policy: Any,
    trigger: int,
    files_max: int | None,
    size_bytes: int,
    checkpoint_distance: int,
) -> None:
    table = Compacted(
        dedup,
        window_ms=HOUR_MS,
        gc_grace_ms=FOR_EVER_MS,
        compaction_policy=policy,
        compaction_trigger_files=trigger,
        compaction_settled_trigger_files=trigger,
        compaction_input_files_max=files_max,
        compaction_settle_ms=1000,
        sst_size_bytes=size_bytes,
        checkpoint_distance=checkpoint_distance,
        row_group_rows=2,
    )

    for name, *given_ in actions:
        table.carry_out(name, *given_)
        assert table.found() == table.expected()
    table.check()

    table.come_to_rest()
    table.check()
    plan = table.engine.compaction_plan(REGION, CompactRequest(mode="due"))
    assert plan.is_empty()
    if dedup != "none":  # There, merging makes fewer files and nothing else better.
        assert [window.reason for window in plan.windows if window.run_count > 1] == []


def test_a_delete_is_not_undone_by_any_merge_of_what_it_hides() -> None:
    table = Compacted("last", window_ms=HOUR_MS, gc_grace_ms=FOR_EVER_MS, compaction_mode="manual")
    key = [Row(0, 1, ("a",), (1, None))]
    marker = [Row(0, 1, ("a",), (None, None), DELETE)]
    for rows in (key, [Row(0, HOUR_MS, ("a",), (2, None)), *key], marker, [Row(0, 2, ("a",), (3, None))]):
        table.carry_out("write", rows, "flush")

    for request in (
        CompactRequest(time_range=TimeRange(HOUR_MS, HOUR_MS + 1)),
        CompactRequest(time_range=TimeRange(0, 1)),
        CompactRequest(mode="strict", window_ms=1000),
        CompactRequest(),
    ):
        table.ask(request)
        table.check()

    assert [row[:2] for row in table.found()] == [("a", 2), ("a", HOUR_MS)]
