"""What the tests of the log share: a history that knows what must be found again, and ways to harm a log."""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from typing import NoReturn

from mitoframe.drivers.clock import SeededRandomness
from mitoframe.drivers.log_file import SegmentLog
from mitoframe.model.ids import EntryId, RegionId
from mitoframe.testing.vfs_memory import MemoryVfs

STORE_ID = "0123456789abcdef" * 2
REGIONS = (1, 2, 3)
_seeds = count()


class Killed(BaseException):
    """The process is dead; nothing may catch this."""


def die() -> NoReturn:
    raise Killed


def open_log(vfs, **options) -> SegmentLog:
    options = {"store_id": STORE_ID, "segment_size_bytes": 400, "randomness": SeededRandomness(next(_seeds))} | options
    return SegmentLog(vfs, **options)


def entries_of(log) -> dict[int, tuple[int, bytes]]:
    found = [entry for region in REGIONS for entry in log.read(RegionId(region), EntryId(0))]
    assert len({entry.entry_id for entry in found}) == len(found), "an entry is there twice"
    return {entry.entry_id: (entry.region_id, entry.payload) for entry in found}


class History:
    """Everything that was appended, and of it what was acknowledged and what was given up."""

    def __init__(self) -> None:
        self.appended: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
        self.pending: set[int] = set()
        self.synced: dict[int, tuple[int, bytes]] = {}
        self.obsolete_through: dict[int, int] = defaultdict(int)

    def append(self, log, *entries: tuple[int, bytes]) -> None:
        first = log.last_id() + 1
        for entry_id, entry in enumerate(entries, start=first):
            self.appended[entry_id].append(entry)
        assert log.append([(RegionId(region), [payload]) for region, payload in entries]) == first + len(entries) - 1
        self.pending.update(range(first, first + len(entries)))

    def sync(self, log) -> None:
        log.sync()
        self._acknowledge()

    def close(self, log) -> None:
        log.close()
        self._acknowledge()

    def _acknowledge(self) -> None:
        for entry_id in self.pending:
            self.synced[entry_id] = self.appended[entry_id][-1]
        self.pending.clear()

    def obsolete(self, log, region: int, through: int) -> None:
        self.obsolete_through[region] = max(self.obsolete_through[region], through)
        log.obsolete(RegionId(region), EntryId(through))

    def must_be_found(self) -> dict[int, tuple[int, bytes]]:
        return {
            entry_id: entry for entry_id, entry in self.synced.items() if entry_id > self.obsolete_through[entry[0]]
        }

    def check(self, log) -> None:
        found = entries_of(log)
        lost = {entry_id for entry_id, entry in self.must_be_found().items() if found.get(entry_id) != entry}
        assert not lost, f"acknowledged entries are lost: {sorted(lost)}"
        for entry_id, entry in found.items():
            assert entry in self.appended[entry_id], f"entry {entry_id} was never written"
        assert log.last_id() >= max([*self.synced, *found], default=0), "an id would be given again"
        kept = sorted(entry_id for entry_id in found)
        unkept = [entry_id for entry_id in range(kept[0], log.last_id() + 1) if entry_id not in found] if kept else []
        assert all(self._may_be_gone(entry_id) for entry_id in unkept), "there is a hole"

    def _may_be_gone(self, entry_id: int) -> bool:
        return any(entry_id <= self.obsolete_through[region] for region, _ in self.appended[entry_id])

    def check_and_go_on(self, vfs) -> None:
        """Open, compare, write on, and open once more."""
        log = open_log(vfs)
        self.check(log)
        before = entries_of(log)
        entry_id = log.append([(RegionId(3), [b"after"])])
        log.sync()
        log.close()
        log = open_log(vfs)
        assert entries_of(log) == before | {entry_id: (3, b"after")}
        log.close()


def live_through_everything(vfs, history: History) -> None:
    """Open, append, sync, roll, give back, close, reopen, and be emptied."""
    log = open_log(vfs)
    history.append(log, (1, b"a" * 50), (2, b"b" * 30))
    history.sync(log)
    history.append(log, (1, b""))
    history.append(log, (2, b"c" * 700))
    history.sync(log)
    history.append(log, (1, b"d" * 100))
    history.obsolete(log, 1, 3)
    history.sync(log)
    history.append(log, (3, b"e" * 300))
    history.obsolete(log, 2, 4)
    history.append(log, (1, b"never acknowledged"))
    history.close(log)

    log = open_log(vfs)
    history.append(log, (1, b"f" * 20_000))
    history.sync(log)
    for region in REGIONS:
        history.obsolete(log, region, log.last_id())
    history.append(log, (2, b"g"))
    history.sync(log)
    log.close()


def overwrite(vfs: MemoryVfs, path: str, data: bytes) -> None:
    if path.rpartition("/")[2] in vfs.list(path.rpartition("/")[0]):
        vfs.unlink(path)
    file = vfs.create(path)
    file.write(data)
    file.sync()
    file.close()
    vfs.sync_dir(path.rpartition("/")[0])


def segment_paths(vfs) -> list[str]:
    return [f"wal/{name}" for name in vfs.list("wal") if name.endswith(".wal")]
