"""Everything that can be exchanged: ten protocols and the few values they pass.

They are structural: an implementation imports nothing of ours except the errors it must raise. Each has a
class of contract tests in `mitoframe.testing.contracts`; give it a fixture and inherit the tests.

    Vfs            files under one root folder            drivers/vfs_os.py, testing/vfs_*.py
    ObjectStore    immutable objects by key               drivers/object_local.py, object_memory.py
    LogStore       one durable log for all regions        drivers/log_file.py, log_memory.py
    MetaStore      small values, compare-and-swap         drivers/meta_sqlite.py
    Scheduler      who runs background jobs               drivers/scheduler.py
    Compactor      who merges files elsewhere             drivers/compactor_processes.py, testing/compactors.py
    Clock          what time it is                        drivers/clock.py
    Randomness     where identifiers come from            drivers/clock.py
    RegionHook     who is told of what a region did       engine/journal.py
    Pins           what other processes read              drivers/pins_file.py, pins_memory.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from mitoframe.model.ids import ManifestVersion

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mitoframe.model.edit import Edit
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import EntryId, FileId, RegionId
    from mitoframe.model.job import CompactionJob
    from mitoframe.model.keyvalue import Change, Compare, Delete, Put, RangeResult, TxnResult
    from mitoframe.model.schema import RegionMetadata

Result = TypeVar("Result")

Bytes: TypeAlias = "bytes | memoryview | object"
"""Anything with the buffer protocol; ``pyarrow.Buffer`` included."""


# --- files ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    size_bytes: int
    modified_ms: int


class WritableFile(Protocol):
    """An open file that is written at its end only."""

    def write(self, data: Bytes) -> None:
        """Append all of ``data``, or raise. After an error the file's length is unknown."""

    def sync(self) -> None:
        """Return when everything written so far survives a power loss (the directory entry is not included)."""

    def truncate(self, size_bytes: int) -> None:
        """Cut the file to ``size_bytes``."""

    def close(self) -> None:
        """Let the file go. Does not sync. Closing twice is harmless."""


class FileLock(Protocol):
    """An exclusive lock held by this process; the kernel frees it when the process dies."""

    def release(self) -> None:
        """Give the lock up. Releasing twice is harmless."""


class Vfs(Protocol):
    """Files under one root. Paths are relative, with ``/`` between parts and no ``..``.

    Raises ``FileNotFoundError``, ``FileExistsError`` and other ``OSError`` as the operating system does:
    the drivers above translate them.
    """

    root: str
    """The absolute path of the root folder, or a name such as ``memory://`` where there is none."""

    def create(self, path: str) -> WritableFile:
        """Make a new, empty file. ``FileExistsError`` if there is one."""

    def append(self, path: str) -> WritableFile:
        """Open an existing file at its end."""

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """Return up to ``length`` bytes from ``start`` (to the end if None); fewer only at the end of the file."""

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return what `read` does for each (start, length), for the price of one opening."""

    def stat(self, path: str) -> FileStat: ...

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a folder. ``FileNotFoundError`` if there is no such folder."""

    def make_dirs(self, path: str) -> None:
        """Make a folder and its parents, durably. Harmless if it is there."""

    def link(self, source: str, target: str) -> None:
        """Give a file a second name. ``FileExistsError`` if the name is taken: this is put-if-absent."""

    def rename(self, source: str, target: str) -> None:
        """Change a file's name, replacing a file of that name."""

    def unlink(self, path: str) -> None:
        """Remove a name."""

    def sync_dir(self, path: str) -> None:
        """Return when all names made or removed in a folder so far survive a power loss."""

    def lock(self, path: str) -> FileLock:
        """Take the lock called ``path`` at once. ``BlockingIOError`` if another process has it."""

    def boot_id(self) -> str:
        """Tell one run of the machine from the next; empty where that is unknown."""


# --- objects -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    key: str
    size_bytes: int
    modified_ms: int


class ObjectStore(Protocol):
    """Immutable objects by key. A key is written once, whole or not at all, and never again with other bytes.

    Raises `UnavailableError` (its subclasses where they fit) for a failing medium, ``FileNotFoundError`` for a
    missing key and ``FileExistsError`` for one that is taken.
    """

    def get(self, key: str) -> bytes: ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``; `CorruptionError` if the object is shorter."""

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return what `get_range` does for each (start, length), for the price of one request."""

    def put_if_absent(self, key: str, data: Bytes) -> None:
        """Store ``data`` durably under ``key``; ``FileExistsError`` if the key is taken."""

    def put_parts_if_absent(self, key: str, parts: Iterable[Bytes]) -> None:
        """Store parts after each other as `put_if_absent` would the whole, which need never be in memory.

        A part is done with when the next is asked for. What the iterable raises is raised here, and nothing is stored.
        """

    def head(self, key: str) -> ObjectMeta: ...

    def list(self, prefix: str) -> list[ObjectMeta]:
        """Return all objects directly under the folder ``prefix`` (no trailing slash), sorted by key."""

    def delete(self, key: str) -> None:
        """Remove an object. A missing key is not an error. Durable only after `sync`."""

    def sync(self, prefix: str) -> None:
        """Return when every removal directly under the folder ``prefix`` is durable. A missing folder is fine."""

    def url(self, key: str) -> str | None:
        """Return where other programs can read this object, or None if they cannot."""


# --- log -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    entry_id: EntryId
    region_id: RegionId
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDamage:
    """What opening a log found broken. ``torn`` damage is what a crash leaves behind: no acknowledged entry is lost."""

    path: str
    offset: int
    reason: str
    bytes_lost: int
    torn: bool


class LogStore(Protocol):
    """One log shared by all regions of a store. Entry ids are contiguous from 1 over the whole log.

    An error from `append` or `sync` poisons the log: later calls raise `PoisonedError` with that cause, because
    whether the bytes are durable is unknown. Only a full disk is undone and leaves the log usable.
    """

    damage: LogDamage | None

    def append(self, entries: Sequence[tuple[RegionId, Sequence[Bytes]]]) -> EntryId:
        """Write entries together and return the id of the last. Durable only after `sync`.

        A payload comes as parts that are written one after another, so that nobody has to join them.
        """

    def sync(self) -> None:
        """Return when every appended entry survives a power loss."""

    def read(self, region_id: RegionId, after: EntryId) -> Iterator[LogEntry]:
        """Yield a region's entries with an id above ``after``, in order."""

    def obsolete(self, region_id: RegionId, through: EntryId) -> None:
        """Forget a region's entries up to ``through``; space is given back when nobody needs it."""

    def regions(self) -> frozenset[RegionId]:
        """Return the regions of which there are entries that are not obsolete."""

    def last_id(self) -> EntryId:
        """Return the id of the newest entry, 0 if there never was one."""

    def refresh(self) -> None:
        """Notice what another process has appended. For logs opened for reading."""

    def close(self) -> None: ...


# --- metadata ------------------------------------------------------------------------------------------


class MetaStore(Protocol):
    """Small values by key, with etcd's revisions: one counter for the store, raised by each changing transaction."""

    def range(self, key: bytes, end: bytes | None = None) -> RangeResult:
        """Return the key, or all keys in [key, end), sorted."""

    def txn(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete], failure: Sequence[Put | Delete] = ()
    ) -> TxnResult:
        """Apply ``success`` if every comparison holds, else ``failure``; atomically and durably.

        The catalog compares numbers of single keys for equality, and puts and deletes single keys without leases: a
        store has to know no more than that.
        """

    def changes(self, key: bytes, end: bytes | None, *, after: int) -> tuple[int, tuple[Change, ...]]:
        """Poll: return the current revision and every key of the range that changed after revision ``after``."""

    def close(self) -> None: ...


# --- readers in other processes ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldVersions:
    """Which versions of regions are read by processes that live.

    Attributes:
        oldest: of each region that is read the oldest version; every later one may be read too.
        is_partial: somebody says what he reads in a way that cannot be understood: it may be anything.

    """

    oldest: Mapping[RegionId, ManifestVersion]
    is_partial: bool = False

    def of(self, region_id: RegionId) -> ManifestVersion | None:
        """Return the oldest version of a region that may be read; None if none is."""
        return ManifestVersion(-1) if self.is_partial else self.oldest.get(region_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A process that says what it reads.

    Attributes:
        identifier: what `Pins.forget` takes.
        process_id: its number where it runs; None if that cannot be understood.
        host: the machine; None likewise.
        since_ms: when it last began or ceased to read an older version of something; None if that is unknown.
        held: what it reads.
        is_dead: it has ended, and whoever counts what is held cannot tell. Never true of one whose lock is held.

    """

    identifier: str
    process_id: int | None
    host: str | None
    since_ms: int | None
    held: HeldVersions
    is_dead: bool = False


class Pins(Protocol):
    """How processes that only read tell the one that writes which files it must not delete yet.

    What a process says is true until it says something else, lets it go or dies, however it dies. Nobody ever waits for
    anybody here, and nothing that goes wrong keeps a reader from reading.
    """

    def hold(self, oldest: Mapping[RegionId, ManifestVersion]) -> bool:
        """Say that these versions and all later ones are read, in place of what was said before.

        Tells whether others will know: they do not where nothing can be written or locked. Never raises for that.
        """

    def held(self) -> HeldVersions:
        """Return what all processes that live say, and clear away what those left that do not."""

    def readers(self) -> Sequence[Reader]:
        """Return who says something that `held` counts, and clear away as that does. Never raises."""

    def forget(self, identifier: str) -> bool:
        """Remove what a reader left if he is dead by now; tells whether nothing is left of him. Never raises."""

    def close(self) -> None:
        """Read nothing any more. Closing twice is harmless."""


# --- running -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneHealth:
    """What a lane of a scheduler is doing, and what became of its jobs.

    Attributes:
        lane: its name.
        threads: threads that were started for it and should be there.
        alive: those of them that are; fewer mean that the lane does nothing any more.
        running: jobs under way.
        waiting: jobs that have not begun.
        finished: jobs that have ended, whether well or not.
        failed: those of them that raised.
        last_error: what the last of these raised.

    """

    lane: str
    threads: int
    alive: int
    running: int
    waiting: int
    finished: int
    failed: int
    last_error: BaseException | None


class Scheduler(Protocol):
    """Runs background jobs. Lanes do not wait for each other: a long compaction never holds up a flush.

    A driver may have lanes that neither `drain` nor `close` waits for, because their jobs may never end.
    """

    def submit(self, lane: str, job: Callable[[], Result]) -> Future[Result]:
        """Run a job in its lane; what it returns or raises is in the future. One that is cancelled in time never runs.

        Raises:
            PoisonedError: something that ran this lane's jobs has died; so do the futures of the jobs it had.
            ClosedError: the scheduler was closed.

        """

    def every(self, interval_ms: int, lane: str, job: Callable[[], object]) -> Callable[[], None]:
        """Run a job again and again in its lane, never two runs at once, until the function returned here is called.

        A run that raises is told in `health`, and the next one still comes. A run under way is not waited for when it
        is stopped, and `drain` waits for no run that has not begun.
        """

    def health(self) -> tuple[LaneHealth, ...]:
        """Tell how each lane is."""

    def check(self) -> None:
        """Raise `PoisonedError` if something that runs jobs has died. Cheap."""

    def drain(self) -> None:
        """Return when every submitted job has ended."""

    def close(self) -> None:
        """Stop what is periodic, drain, then take no more jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """How a job that was submitted is.

    Attributes:
        row_count: rows of its inputs that have been merged so far.
        files: what was stored, once it is done; None before.
        refusal: why it will not be done, if it will not. Nothing is left of it, and who submitted it may do it himself.

    """

    row_count: int = 0
    files: tuple[FileMeta, ...] | None = None
    refusal: str | None = None

    @property
    def is_ended(self) -> bool:
        return self.files is not None or self.refusal is not None


class Compactor(Protocol):
    """Merges files elsewhere: in other processes, on other machines. It reads and writes the same store by itself.

    What mito2 calls a remote job scheduler and a compactor node.

    A job changes nothing but that objects of the names it gives are stored. They count for nothing before the engine
    has committed them, and it does so only if the files they were made of are still the ones there are. So a job may be
    lost, repeated or late, and harms nobody: what nobody lists is collected.

    May be used by several threads, each with jobs of its own.
    """

    def submit(self, job: CompactionJob) -> None:
        """Take a job on, and return at once. Whatever is raised, the caller does it himself.

        Raises:
            BusyError: it has as many as it does at a time.
            UnavailableError: it cannot be reached, or not be started.
            ClosedError: it was closed.

        """

    def poll(self, job_id: str, timeout_ms: int = 0) -> JobStatus:
        """Say how a job is, and wait so long for news of it. What it came to is told until it is forgotten.

        Raises:
            UnavailableError: whoever had begun it has vanished, or it is not known here. It may have harmed him: it is
                to be tried again later, elsewhere.

        """

    def cancel(self, job_id: str) -> None:
        """Stop a job, if it has not ended, and forget it. Nothing is stored by it any more when this returns.

        One that is not known is fine. Raises nothing.
        """

    def close(self) -> None:
        """Stop what is under way and take no more jobs. Closing twice is harmless."""


class Clock(Protocol):
    def now_ms(self) -> int:
        """Return milliseconds since 1970 UTC by the wall clock."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""


class Randomness(Protocol):
    def hex128(self) -> str:
        """Return 32 random lower-case hexadecimal digits."""


# --- hooks ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SstFileInfo:
    """An SST that was just stored, as hooks are told of it.

    Attributes:
        file: all that is known of it: its identifier, rows, size, times, sequences, indexes and so on.
        key: its name in the store.
        url: where others can read it; None if they cannot, because it is in memory.

    Example:
        >>> import mitoframe as mito, polars as pl
        >>> class Sizes:
        ...     rows = 0
        ...     def on_sst_files_written(self, region_id, metadata, files):
        ...         self.rows += sum(info.file.row_count for info in files)
        >>> sizes = Sizes()
        >>> frame = pl.DataFrame({"n": [1, 2, 3]}).with_columns(ts=pl.datetime(2024, 1, pl.col("n")))
        >>> with mito.open("memory://", hooks=[sizes]) as db:
        ...     _ = db.write(frame, "cpu", time="ts")
        ...     _ = db["cpu"].flush()
        >>> sizes.rows
        3

    """

    file: FileMeta
    key: str
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionGcInfo:
    """What a pass of the garbage collector did, as hooks are told of it.

    Attributes:
        removed_files: the SSTs that were deleted.
        size_bytes: how large they were together.
        version: that of the manifest which forgot them; None if it knew none of them, or is gone itself.
        begun_ms: when the pass began.
        is_region_dropped: the region was given up, and these were all its files.
        full_file_listing: all files that are stored were looked at.

    Example:
        >>> import mitoframe as mito, polars as pl
        >>> class Counting:
        ...     files = 0
        ...     def on_region_gc(self, region_id, metadata, store, info):
        ...         self.files += len(info.removed_files)
        >>> counting = Counting()
        >>> frame = pl.DataFrame({"n": [1, 2, 3]}).with_columns(ts=pl.datetime(2024, 1, pl.col("n")))
        >>> with mito.open("memory://", hooks=[counting]) as db:
        ...     _ = db.write(frame, "cpu", time="ts")
        ...     _ = db["cpu"].truncate()
        ...     _ = db["cpu"].vacuum(older_than="0s")
        >>> counting.files
        1

    """

    removed_files: tuple[FileId, ...]
    size_bytes: int
    version: ManifestVersion | None
    begun_ms: int
    is_region_dropped: bool
    full_file_listing: bool


class RegionHook(Protocol):
    """Told what regions did. A hook has those of these methods that it needs; one that inherits them has all.

    ===================================  ====================  ===================
    what happened                        on_sst_files_written  on_manifest_updated
    ===================================  ====================  ===================
    flush                                yes                   yes
    compaction                           yes                   yes
    backfill, replace, undo, restore     if files were made    yes
    create, alter                        no (no SST)           yes
    truncate                             no (files go)         yes
    files go because they have expired   no (files go)         yes
    an index built in the background     no (no SST)           yes
    a snapshot made or dropped           no (no SST)           yes
    a write, a delete                    no (in the log)       no
    gc, checkpoint, drop                 no                    no
    what another process did is noticed  no                    no
    ===================================  ====================  ===================

    Methods are called on a thread of the engine, while nobody holds the lock of the region's versions, one at a time
    for each hook, in the order in which things were told. Of changes that were made at once by several threads the
    later one may be told first: ``version`` says which it is. What raises is logged, told by ``health()`` and harms
    nothing. What takes longer than a second is not waited for: the region goes on, and the hook is told the rest when
    it comes to it, or never if the store is closed before that.

    Hooks are given to ``mitoframe.open(hooks=)``, or offered by a package as entry points of the group
    ``mitoframe.hooks``.

    Example:
        >>> class Counting(RegionHook):
        ...     versions = 0
        ...     def on_manifest_updated(self, region_id, actions, version):
        ...         self.versions += len(actions)

    """

    def on_sst_files_written(self, region_id: RegionId, metadata: RegionMetadata, files: Sequence[SstFileInfo]) -> None:
        """Come after SSTs are stored, and before the manifest knows them. It may never come to know them.

        SSTs that only keep superseded versions of rows are not among them: the edit of the flush tells of those.
        """
        return

    def on_manifest_updated(self, region_id: RegionId, actions: Sequence[Edit], version: ManifestVersion) -> None:
        """Come after a version of the manifest is durable and visible, with all that it does."""
        return

    def on_region_opened(self, region_id: RegionId, metadata: RegionMetadata) -> None:
        """Come after a region was made or opened; not if it is only looked at again."""
        return

    def on_region_closed(self, region_id: RegionId) -> None:
        """Come after a region was let go. It may be opened again."""
        return

    def on_region_dropped(self, region_id: RegionId) -> None:
        """Come after a region was given up. Its files are still there."""
        return

    def on_region_files_removed(self, region_id: RegionId) -> None:
        """Come after the last file of a region that was given up has gone."""
        return

    def on_region_gc(
        self, region_id: RegionId, metadata: RegionMetadata | None, store: ObjectStore, info: RegionGcInfo
    ) -> None:
        """Come after files that nobody needs were looked for; without ``metadata`` if the region was given up."""
        return
