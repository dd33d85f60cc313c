"""Earlier moments of a region: to give one a name, to let it go, and to go back to it.

A name is one edit, and costs nothing but what is kept for it. Going back is one edit too: files of then are listed
again and those of now are not, so that it can be taken back by going back once more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mitoframe.engine.changes import Exchange
from mitoframe.engine.errand import done
from mitoframe.engine.parts import CHANGE_LANE
from mitoframe.jobs.restore import restore_files
from mitoframe.model.edit import FileEdit, SnapshotEdit
from mitoframe.model.errors import InvalidInputError, LimitExceededError, unknown_name
from mitoframe.read.history import expired

if TYPE_CHECKING:
    from mitoframe.engine.background import Background, Draft
    from mitoframe.engine.changes import Changes
    from mitoframe.engine.lifecycle import Regions
    from mitoframe.engine.parts import Parts
    from mitoframe.model.edit import RegionState
    from mitoframe.model.ids import ManifestVersion
    from mitoframe.model.past import Moment, NamedSnapshot
    from mitoframe.region.region import Region

SNAPSHOTS_MAX = 1_000
"""How many names a region can give."""


class Moments:
    def __init__(self, parts: Parts, regions: Regions, background: Background, changes: Changes) -> None:
        self._parts, self._regions, self._background, self._changes = parts, regions, background, changes

    # --- names ------------------------------------------------------------------------------------------

    def snapshot(self, region: Region, name: str) -> NamedSnapshot:
        """Give what is there now a name, and keep it until the name is dropped.

        Raises:
            InvalidInputError: the name is taken.
            LimitExceededError: there are too many.

        """
        region.check_writable()
        if self._keeps_memory(region):
            return done(self._parts.scheduler, CHANGE_LANE, partial(self._name, region, name))
        return self._changes.alone(region, partial(self._flush_and_name, region, name))

    def _keeps_memory(self, region: Region) -> bool:
        """Tell whether all that is in memory now can still be told when it has been flushed, or after a crash."""
        return self._background.keeps_history(region.state) and region.options.wal == "log"

    def _flush_and_name(self, region: Region, name: str) -> NamedSnapshot:
        self._regions.flush_now(region, "snapshot")
        return self._name(region, name)

    def _name(self, region: Region, name: str) -> NamedSnapshot:
        with region.editing():
            past = region.state.past
            if past.snapshot(name) is not None:
                raise InvalidInputError(f"there is a snapshot {name!r} already; drop it, or choose another name.")
            if len(past.snapshots) >= SNAPSHOTS_MAX:
                raise LimitExceededError(f"there are {SNAPSHOTS_MAX:,} snapshots, the most there can be; drop some.")
            edit = SnapshotEdit(name=name, at_ms=self._parts.clock.now_ms())
            made = region.commit_edit(edit).state.past.snapshot(name)
        assert made is not None
        return made

    def drop_snapshot(self, region: Region, name: str) -> NamedSnapshot:
        """Let a name go; what was kept for it goes like any other file.

        Raises:
            InvalidInputError: there is no such name.

        """

        def drop() -> NamedSnapshot:
            with region.editing():
                region.check_writable()
                past = region.state.past
                known = past.snapshot(name)
                if known is None:
                    raise InvalidInputError(unknown_name("snapshot", name, [other.name for other in past.snapshots]))
                region.commit_edit(SnapshotEdit(name=name, is_dropped=True, at_ms=self._parts.clock.now_ms()))
                return known

        return done(self._parts.scheduler, CHANGE_LANE, drop)

    # --- going back -------------------------------------------------------------------------------------

    def restore(self, region: Region, moment: Moment) -> tuple[ManifestVersion, bool]:
        """Be as at an earlier moment, in the columns of today.

        Returns the version that there was before, to go back to, and whether anything changed.

        Raises:
            SnapshotExpiredError: what it needs is not kept any more.
            InvalidInputError: the table deduplicated otherwise then.

        """
        with self._background.drafting(region) as draft:
            return self._changes.alone(region, partial(self._restore, region, draft, moment))

    def _restore(self, region: Region, draft: Draft, moment: Moment) -> tuple[ManifestVersion, bool]:
        self._regions.flush_now(region, "restore")

        def plan(state: RegionState) -> Exchange | None:
            self._check_restorable(region, moment)
            now_ms = self._parts.clock.now_ms()
            found = restore_files(
                state,
                moment,
                store=self._parts.store,
                reader=self._parts.reader,
                new_file_id=draft.new_file_id,
                row_group_rows=state.options.row_group_rows or self._parts.config.row_group_rows,
                now_ms=now_ms,
            )
            if not (found.removed or found.added or found.written):
                return None
            edit = FileEdit(
                added=(*found.added, *found.written),
                removed=found.removed,
                lost_history=region.control.current().visible,
                forget_writes=True,
                at_ms=now_ms,
                reason="restore",
            )
            return Exchange(written=found.written, edit=edit)

        exchanged = self._changes.exchange(region, draft, plan)
        return (region.state.version, False) if exchanged is None else (exchanged[0].version, True)

    def _check_restorable(self, region: Region, moment: Moment) -> None:
        state = region.state
        if not state.past.is_kept(moment):
            raise expired(state, f"version {moment.version}")
        former = state.past.metadata_at(moment.version)
        if former is not None and former.options.dedup != state.options.dedup:
            raise InvalidInputError(
                f"the table had dedup={former.options.dedup!r} then and has {state.options.dedup!r} now, so it cannot "
                "be as it was; read it with scan(as_of=...) and write it to another table."
            )
