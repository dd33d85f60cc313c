r"""A region's manifest: the list of its edits, and a checkpoint of them now and then.

    delta       = body "\n" checksum "\n"      body: {"format", "version", "commit_id", "edits": [...]}
    checkpoint  = body "\n" checksum "\n"      body: {"format", "version", "state": {...}}
    body        = one line of JSON; checksum = CRC32C of the body, eight hexadecimal digits
    packed body = {"format", "version", "zlib": "..."}: a body, compressed and in Base64

A body is packed if that is wanted and it gets shorter.

Delta N is stored with put-if-absent: that is the commit point of everything but a write, and nobody can commit N twice.
Versions are contiguous. The newest checkpoint that reads well is the start; deltas above it follow without a gap. The
deltas since the checkpoint before are kept, so that one damaged checkpoint loses nothing. There is no pointer file to
go stale. Damage is told as what it is: a part that is missing, one that was cut short, one whose bytes have changed,
one that is whole and does not fit what comes before it.
"""

from __future__ import annotations

import binascii
import json
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c

from mitoframe.failpoints import reached
from mitoframe.model.edit import Change, RegionState, edit_from_json
from mitoframe.model.errors import ConfigError, ConflictError, CorruptionError
from mitoframe.model.ids import ManifestVersion, RegionId
from mitoframe.storage.paths import ManifestKind, manifest_folder, manifest_key, parse_manifest_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mitoframe.model.edit import Edit
    from mitoframe.ports import ObjectStore, Randomness

MANIFEST_FORMAT = 6
_SEAL_BYTES = 9
"""What follows the body and its end of line: the checksum and an end of line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A manifest read from the store. ``checkpoints`` are the versions that have one, oldest first."""

    version: ManifestVersion
    state: RegionState
    checkpoints: tuple[ManifestVersion, ...]


class Manifest:
    """One region's manifest, opened. Not safe to use from several threads at once: the region's edit lock is taken."""

    def __init__(
        self,
        store: ObjectStore,
        randomness: Randomness,
        region_id: RegionId,
        loaded: Loaded,
        distance: int,
        *,
        packs: bool = False,
    ) -> None:
        self._store, self._randomness, self._region_id = store, randomness, region_id
        self._packs = packs
        self._checkpoints = list(loaded.checkpoints)
        self._distance = distance
        self.version = loaded.version
        self.state = loaded.state

    @staticmethod
    def create(
        store: ObjectStore, randomness: Randomness, first: Change, distance: int, *, packs: bool = False
    ) -> Manifest:
        """Write version 0. Requires: the region is new."""
        region_id = first.metadata.region_id
        state = RegionState(metadata=first.metadata, options=first.options)
        manifest = Manifest(
            store,
            randomness,
            region_id,
            Loaded(version=ManifestVersion(-1), state=state, checkpoints=()),
            distance,
            packs=packs,
        )
        manifest.append(first)
        return manifest

    @staticmethod
    def open(
        store: ObjectStore, randomness: Randomness, region_id: RegionId, distance: int, *, packs: bool = False
    ) -> Manifest:
        """Read what is there. ``packs``: what is written from now on is compressed.

        Raises:
            CorruptionError: a delta is damaged or missing, or there is no manifest.
            ConfigError: it was written by a newer mitoframe.

        """
        return Manifest(store, randomness, region_id, load(store, region_id), distance, packs=packs)

    def append(self, edit: Edit) -> ManifestVersion:
        """Commit an edit as the next version.

        Raises:
            ConflictError: it does not fit the current state, or another writer took this version. Nothing changed.

        """
        following = self.state.apply(edit)
        version = ManifestVersion(self.version + 1)
        commit_id = self._randomness.hex128()
        body = {"format": MANIFEST_FORMAT, "version": version, "commit_id": commit_id, "edits": [edit.to_json()]}
        key = manifest_key(self._region_id, version, "json")
        try:
            self._store.put_if_absent(key, _seal(body, packs=self._packs))
        except FileExistsError:
            if _read(self._store, key, version)["commit_id"] != commit_id:
                raise ConflictError(f"manifest version {version} was written by somebody else; open again.") from None
        self.version, self.state = version, following
        return version

    def checkpoint_if_due(self) -> None:
        """Fold the deltas into a checkpoint when there are many, and drop those that two checkpoints cover."""
        last = self._checkpoints[-1] if self._checkpoints else ManifestVersion(-1)
        if self.version - last < self._distance:
            return
        body = {"format": MANIFEST_FORMAT, "version": self.version, "state": self.state.to_json()}
        key = manifest_key(self._region_id, self.version, "checkpoint")
        try:
            self._store.put_if_absent(key, _seal(body, packs=self._packs))
        except FileExistsError:
            # Left by a writer that died before it could clean up: the same state, so as good as ours.
            _read(self._store, key, self.version)
        reached("checkpoint.stored")
        self._checkpoints.append(self.version)
        self._clean()
        reached("checkpoint.cleaned")

    def _clean(self) -> None:
        kept = self._checkpoints[-2:]
        if len(kept) < 2:
            return
        for item in self._store.list(manifest_folder(self._region_id)):
            parsed = parse_manifest_key(item.key)
            if parsed is None:
                continue
            version, kind = parsed
            if version <= kept[0] and not (kind == "checkpoint" and version == kept[0]):
                self._store.delete(item.key)
        self._checkpoints = kept


def load(store: ObjectStore, region_id: RegionId) -> Loaded:
    """Fold a region's manifest, from the newest checkpoint that reads well."""
    listed = _list(store, region_id)
    while True:
        try:
            return _load(store, region_id, *listed)
        except CorruptionError:
            # A writer in another process may have cleaned up between our listing and our reading.
            before, listed = listed, _list(store, region_id)
            if listed == before:
                raise


def _load(
    store: ObjectStore, region_id: RegionId, deltas: Sequence[ManifestVersion], checkpoints: Sequence[ManifestVersion]
) -> Loaded:
    version, state = _start(store, region_id, checkpoints, deltas)
    readable = tuple(checkpoint for checkpoint in checkpoints if checkpoint <= version)
    for delta in [v for v in deltas if v > version]:
        if delta != version + 1:
            missing = ManifestVersion(version + 1)
            raise CorruptionError(
                f"this manifest delta is missing, but {delta} is there",
                path=manifest_key(region_id, missing, "json"),
            )
        state = _fold(store, region_id, delta, state)
        version = delta
    if state is None:
        raise CorruptionError("the region has no manifest", path=manifest_folder(region_id))
    return Loaded(version=version, state=state, checkpoints=readable)


def advance(store: ObjectStore, region_id: RegionId, version: ManifestVersion, state: RegionState) -> Loaded:
    """Return a manifest as it is by now, from what it was once; of what is known since nothing is read again.

    Raises:
        CorruptionError: as `load` does, which is what is done if what followed has been cleaned up meanwhile.

    """
    while _is_there(store, manifest_key(region_id, ManifestVersion(version + 1), "json")):
        try:
            state = _fold(store, region_id, ManifestVersion(version + 1), state)
        except CorruptionError:
            return load(store, region_id)
        version = ManifestVersion(version + 1)
    if not is_newest(store, region_id, version):
        return load(store, region_id)
    return Loaded(version=version, state=state, checkpoints=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A version that is still there as it was committed. ``before`` is None for the first of a region."""

    version: ManifestVersion
    edit: Edit
    before: RegionState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfolded:
    """The end of a manifest. ``base`` is the state before the steps, None if they begin with the region."""

    base: RegionState | None
    steps: tuple[Step, ...]


def unfold(store: ObjectStore, region_id: RegionId) -> Unfolded:
    """Return the versions that no checkpoint has swallowed, from the oldest checkpoint that reads well on.

    Raises:
        CorruptionError: not even the state can be read, as in `load`.

    """
    listed = _list(store, region_id)
    while True:
        deltas, checkpoints = listed
        damage: CorruptionError | None = None
        for start in [ManifestVersion(-1), *checkpoints] if 0 in deltas else checkpoints:
            try:
                return _unfold(store, region_id, start, [version for version in deltas if version > start])
            except CorruptionError as error:
                damage = error
        # A writer in another process may have cleaned up between our listing and our reading.
        before, listed = listed, _list(store, region_id)
        if listed == before:
            raise damage or CorruptionError("the region has no manifest", path=manifest_folder(region_id))


def _unfold(
    store: ObjectStore, region_id: RegionId, start: ManifestVersion, deltas: Sequence[ManifestVersion]
) -> Unfolded:
    base: RegionState | None = None
    if start >= 0:
        base = _state_of_checkpoint(store, region_id, start)
    state, steps = base, []
    for expected, version in enumerate(deltas, start + 1):
        key = manifest_key(region_id, version, "json")
        if version != expected:
            raise CorruptionError("a manifest delta before this one is missing", path=key)
        for edit in _edits(store, key, version):
            steps.append(Step(version=version, edit=edit, before=state))
            state = _applied(edit, state, key)
    return Unfolded(base=base, steps=tuple(steps))


def find_damage(store: ObjectStore, region_id: RegionId) -> Iterator[CorruptionError]:
    """Yield what is wrong with the parts of a manifest that count: from the last checkpoint but one on.

    Opening can do without some of them, as long as the others read well. Each is read, its checksum compared, and each
    checkpoint held against what the deltas make of the one before. What a writer in another process drops meanwhile
    does not count any more.

    Raises:
        ConfigError: it was written by a newer mitoframe.

    """
    deltas, checkpoints = _list(store, region_id)
    if not deltas and not checkpoints:
        yield CorruptionError("the region has no manifest", path=manifest_folder(region_id))
    state: RegionState | None = None
    begin, is_known = _begin_of(checkpoints), True
    for version in map(ManifestVersion, range(begin, max([*deltas, *checkpoints], default=-1) + 1)):
        try:
            if version > begin or version not in checkpoints:
                edits = _edits(store, manifest_key(region_id, version, "json"), version)
                state = _folded(region_id, version, state, edits) if is_known else None
        except CorruptionError as error:
            is_known = False
            if version >= _begin_of(_list(store, region_id)[1]):
                yield error
        if version not in checkpoints:
            continue
        try:
            told = _state_of_checkpoint(store, region_id, version)
        except CorruptionError as error:
            is_known = is_known and state is not None
            if version >= _begin_of(_list(store, region_id)[1]):
                yield error
            continue
        if is_known and state is not None and _essence(state) != _essence(told):
            key = manifest_key(region_id, version, "checkpoint")
            yield CorruptionError("the checkpoint says otherwise than the deltas before it", path=key)
        state, is_known = told, True


def _begin_of(checkpoints: Sequence[ManifestVersion]) -> ManifestVersion:
    """Return the first version that counts: everything before may be half gone."""
    return checkpoints[-2] if len(checkpoints) > 1 else ManifestVersion(0)


def _essence(state: RegionState) -> tuple[object, ...]:
    """Return what a state says of today; of earlier moments, times are thinned out as it goes."""
    removed = frozenset(file.file_id for file in state.removed_files)
    reached = state.flushed_entry_id, state.flushed_sequence, state.committed_sequence
    return state.metadata, state.options, dict(state.files), removed, reached, state.version


def exists(store: ObjectStore, region_id: RegionId) -> bool:
    return latest_version(store, region_id) >= 0


def latest_version(store: ObjectStore, region_id: RegionId) -> ManifestVersion:
    """Return the newest version there is, without reading it; -1 if there is none."""
    deltas, checkpoints = _list(store, region_id)
    return max([*deltas[-1:], *checkpoints[-1:]], default=ManifestVersion(-1))


def is_newest(store: ObjectStore, region_id: RegionId, version: ManifestVersion) -> bool:
    """Tell whether nothing follows a version that was the newest once. Two questions, however many versions there are.

    Deltas go in the order of their versions, many versions later: while a version's own is there, so is the next one's.
    """
    if _is_there(store, manifest_key(region_id, ManifestVersion(version + 1), "json")):
        return False
    if _is_there(store, manifest_key(region_id, version, "json")):
        return True
    return latest_version(store, region_id) == version


def _is_there(store: ObjectStore, key: str) -> bool:
    try:
        store.head(key)
    except FileNotFoundError:
        return False
    return True


def _list(store: ObjectStore, region_id: RegionId) -> tuple[list[ManifestVersion], list[ManifestVersion]]:
    found: dict[ManifestKind, list[ManifestVersion]] = {"json": [], "checkpoint": []}
    for item in store.list(manifest_folder(region_id)):
        parsed = parse_manifest_key(item.key)
        if parsed is not None:
            found[parsed[1]].append(parsed[0])
    return sorted(found["json"]), sorted(found["checkpoint"])


def _start(
    store: ObjectStore, region_id: RegionId, checkpoints: Sequence[ManifestVersion], deltas: Sequence[ManifestVersion]
) -> tuple[ManifestVersion, RegionState | None]:
    damage: CorruptionError | None = None
    for version in reversed(checkpoints):
        try:
            return version, _state_of_checkpoint(store, region_id, version)
        except CorruptionError as error:
            damage = error
    if damage is not None and 0 not in deltas:
        raise damage
    return ManifestVersion(-1), None


def _state_of_checkpoint(store: ObjectStore, region_id: RegionId, version: ManifestVersion) -> RegionState:
    body = _read(store, manifest_key(region_id, version, "checkpoint"), version)
    return RegionState.from_json({"version": version} | body["state"])


def _fold(store: ObjectStore, region_id: RegionId, version: ManifestVersion, state: RegionState | None) -> RegionState:
    return _folded(region_id, version, state, _edits(store, manifest_key(region_id, version, "json"), version))


def _folded(
    region_id: RegionId, version: ManifestVersion, state: RegionState | None, edits: Sequence[Edit]
) -> RegionState:
    for edit in edits:
        state = _applied(edit, state, manifest_key(region_id, version, "json"))
    assert state is not None, "a delta holds at least one edit"
    return state


def _edits(store: ObjectStore, key: str, version: ManifestVersion) -> list[Edit]:
    values = _read(store, key, version)["edits"]
    try:
        return [edit_from_json(value) for value in values]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"the edit does not fit the state before it: {error}", path=key) from error


def _applied(edit: Edit, state: RegionState | None, key: str) -> RegionState:
    """Return the state after an edit that was read from ``key``."""
    try:
        if state is None:
            if not isinstance(edit, Change):
                raise ValueError("the first action does not define the region")
            state = RegionState(metadata=edit.metadata, options=edit.options)
        return state.apply(edit)
    except (ConflictError, ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"the edit does not fit the state before it: {error}", path=key) from error


def _seal(body: dict[str, Any], *, packs: bool) -> bytes:
    line = _line(body)
    if packs:
        packed = b64encode(zlib.compress(line)).decode("ascii")
        line = min(line, _line({"format": MANIFEST_FORMAT, "version": body["version"], "zlib": packed}), key=len)
    return line + b"\n%08x\n" % google_crc32c.value(line)


def _line(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _read(store: ObjectStore, key: str, version: ManifestVersion) -> dict[str, Any]:
    try:
        data = store.get(key)
    except FileNotFoundError as error:
        raise CorruptionError("this part of the manifest was listed and is not there", path=key) from error
    line, _, rest = data.partition(b"\n")
    if len(rest) < _SEAL_BYTES:
        raise CorruptionError(
            "this part of the manifest was cut short",
            path=key,
            offset=len(data),
            expected="a checksum",
            found="the end",
        )
    found = b"%08x\n" % google_crc32c.value(line)
    if rest != found:
        raise CorruptionError(
            "the manifest's bytes are not those that were written",
            path=key,
            expected=f"CRC32C {rest[:8].decode('ascii', 'replace')}",
            found=found[:8].decode("ascii"),
        )
    body: dict[str, Any] = json.loads(line)
    if body["format"] > MANIFEST_FORMAT:
        raise ConfigError(
            f"{key} has manifest format {body['format']}, newer than {MANIFEST_FORMAT}; update mitoframe."
        )
    if body["version"] != version:
        raise CorruptionError("this is another version's file", path=key, expected=version, found=body["version"])
    return _unpack(body, key) if "zlib" in body else body


def _unpack(packed: dict[str, Any], key: str) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(zlib.decompress(b64decode(packed["zlib"], validate=True)))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise CorruptionError(f"what is packed in this part of the manifest is damaged: {error}", path=key) from error
    return body
