"""A table of which every earlier moment is remembered, to be compared with what can be read of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from builders import DELETE, REGION, Row
from hypothesis import strategies as st
from truth import Tracked, seen, values

from mitoframe.model.errors import SnapshotExpiredError
from mitoframe.model.file import LEVEL_HISTORY
from mitoframe.model.ids import ManifestVersion, Sequence
from mitoframe.model.request import TruncateRequest, Written
from mitoframe.model.timerange import TimeRange
from mitoframe.read.history import moment_of_version

HOUR_MS = 3_600_000


class Remembered(Tracked):
    """``moments``: the rows there were when each sequence had come. ``versions``: those after each manifest version."""

    def __init__(self, *args: Any, **config: Any) -> None:
        super().__init__(*args, **config)
        self.moments: dict[int, list[Row]] = {0: []}
        self.versions: dict[int, list[Row]] = {0: []}
        self.names: dict[str, list[Row]] = {}

    @property
    def state(self) -> Any:
        return self.engine.region(REGION).state

    @property
    def visible(self) -> int:
        return self.engine.region(REGION).control.current().visible

    def write(self, rows: list[Row], key: str = "") -> Written:
        before = list(self.rows)
        return self._came(before, super().write(rows, key))

    def backfill(self, *batches: list[Row], key: str = "") -> Written:
        written = super().backfill(*batches, key=key)
        self.note()  # Only what there is after it: of rows that supersede each other within it the last is kept.
        return written

    def _came(self, before: list[Row], written: Written) -> Written:
        new = self.rows[len(before) :]
        for number, row in enumerate(new):
            self.moments[row.sequence] = [*before, *new[: number + 1]]
        self.clock.advance(1)
        return written

    def note(self) -> None:
        """Remember what there is now, for the version and the sequence if they are new."""
        self.versions.setdefault(self.state.version, list(self.rows))
        self.moments.setdefault(self.visible, list(self.rows))
        self.clock.advance(1)

    def flush(self) -> None:
        super().flush()
        self.note()

    def compact(self) -> None:
        super().compact()
        self.note()

    def vacuum(self) -> None:
        self.engine.vacuum(REGION, 0)
        self.note()

    def undo(self, written: Written) -> int:
        count = super().undo(written)
        self.note()
        return count

    def truncate(self) -> None:
        self.engine.truncate(REGION, TruncateRequest())
        self.rows = []
        self.note()

    def replace(self, first: int, end: int, rows: list[Row]) -> None:
        self.engine.replace(REGION, [TimeRange(first, end)], [self.batch(rows)] if rows else [])
        self.rows = [row for row in self.rows if not first <= row.time < end]
        first_sequence = Sequence(self.visible - len(rows) + 1)
        self.remember(rows, Written(first_sequence=first_sequence, row_count=len(rows), at_ms=0))
        self.note()

    def restore(self, version: int) -> None:
        current = self.engine.region(REGION).control.current()
        self.engine.restore(REGION, moment_of_version(current, version))
        assert all(file.level != LEVEL_HISTORY for file in self.files)
        self.rows = list(self.versions[version])
        self.note()

    def snapshot(self, name: str) -> None:
        made = self.engine.snapshot(REGION, name)
        self.names[name] = list(self.rows)
        assert made.sequence == self.visible
        self.note()

    def drop_snapshot(self, name: str) -> None:
        self.engine.drop_snapshot(REGION, name)
        del self.names[name]
        self.note()

    # --- what is to be found ----------------------------------------------------------------------------

    def shown(self, rows: list[Row]) -> list[tuple[Any, ...]]:
        return values(seen(rows, self.dedup))

    def check_sequences(self, *, may_expire: bool = False) -> int:
        """Compare every sequence with what is remembered, and return how many could be read."""
        return sum(
            self._is_as_it_was(rows, may_expire, sequence=Sequence(sequence))
            for sequence, rows in self.moments.items()
            if sequence < self.visible
        )

    def check_versions(self, *, may_expire: bool = False) -> int:
        return sum(
            self._is_as_it_was(rows, may_expire, version=ManifestVersion(version))
            for version, rows in self.versions.items()
        )

    def check_names(self) -> None:
        for name, rows in self.names.items():
            moment = self.state.past.snapshot(name).moment
            assert self.found(version=moment.version) == self.shown(rows), name

    def _is_as_it_was(self, rows: list[Row], may_expire: bool, **request: Any) -> bool:
        try:
            found = self.found(**request)
        except SnapshotExpiredError:
            if not may_expire:
                raise
            return False
        assert found == self.shown(rows), request
        return True


# --- what is done to it ---------------------------------------------------------------------------------

times = st.integers(0, 3) | st.integers(0, 2).map(lambda n: HOUR_MS - 1 + n)
hosts = st.sampled_from([None, "a"])
fields = st.tuples(st.none() | st.integers(0, 9), st.none() | st.sampled_from(["", "x"]))
puts = st.builds(lambda time, host, values: Row(0, time, (host,), values), times, hosts, fields)
deletes = st.builds(lambda time, host: Row(0, time, (host,), (None, None), DELETE), times, hosts)
modes = st.sampled_from(["last", "merge", "none"])
many_puts = st.lists(puts, min_size=1, max_size=4)
writes = st.tuples(st.just("write"), many_puts) | st.tuples(st.just("write"), st.lists(deletes, min_size=1, max_size=3))
spans = st.tuples(st.integers(0, 2), st.integers(1, 4)).filter(lambda span: span[0] < span[1])
changes = (
    st.tuples(st.just("backfill"), many_puts)
    | st.tuples(st.just("replace"), spans, many_puts)
    | st.tuples(st.just("replace"), spans, st.just([]))
    | st.tuples(st.sampled_from(["truncate", "undo", "restore"]), st.integers(0, 20))
)
upkeep = st.sampled_from(["flush", "flush", "flush", "compact", "compact", "reopen"]).map(lambda name: (name,))
steps = st.lists(writes | writes | upkeep | upkeep | changes, min_size=1, max_size=14)


def carry_out(table: Remembered, actions) -> None:
    """Do what was drawn, as far as it can be done."""
    written = []
    for name, *given_ in actions:
        match name, given_:
            case "write", [rows]:
                if table.dedup != "none" or rows[0].op_type is not DELETE:
                    written.append(table.write(rows))
            case "backfill", [rows]:
                written.append(table.backfill(rows))
            case "replace", [(first, end), rows]:
                table.replace(first, end, [row for row in rows if first <= row.time < end])
            case "undo", [number]:
                if written:
                    take_back(table, written[number % len(written)])
            case "restore", [number]:
                go_back(table, list(table.versions)[number % len(table.versions)])
            case "truncate", _:
                table.truncate()
            case _:
                getattr(table, name)(*given_)


def take_back(table: Remembered, written) -> None:
    with suppress(SnapshotExpiredError):  # Rows were truncated, exchanged or restored since.
        table.undo(written)


def go_back(table: Remembered, version: int) -> None:
    with suppress(SnapshotExpiredError):
        table.restore(version)
