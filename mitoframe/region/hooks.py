"""Tells every registered `RegionHook` what a region did, and remembers which of them failed.

The table of what is told when is the docstring of `RegionHook`. Whoever changes a region makes a `PendingManifestHook`
of it while the region's edit lock is held, and hands it over here when the lock has been given back. An exception of a
hook is logged and kept for `failures`, until the same hook is told the same thing without one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from mitoframe.model.errors import ConfigError
from mitoframe.ports import RegionGcInfo, RegionHook, SstFileInfo
from mitoframe.storage.paths import sst_key

if TYPE_CHECKING:
    from mitoframe.model.edit import Edit
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import ManifestVersion, RegionId
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectStore

_log = logging.getLogger("mitoframe")

Run: TypeAlias = "Callable[[RegionHook, Callable[[], None]], None]"
"""Sees to it that a hook is told something, here or elsewhere. What it is given to call raises nothing."""

EVENTS = tuple(name for name in vars(RegionHook) if name.startswith("on_"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingManifestHook:
    """A version of a manifest that hooks are still to be told of."""

    region_id: RegionId
    actions: tuple[Edit, ...]
    version: ManifestVersion


def check_hook(hook: object) -> None:
    """Raise `ConfigError` if this has none of the methods of a `RegionHook`."""
    if isinstance(hook, type) or not any(hasattr(hook, event) for event in EVENTS):
        raise ConfigError(f"{hook!r} is not a hook; give an object with methods of RegionHook, such as {EVENTS[0]}.")


def run_here(hook: RegionHook, tell: Callable[[], None]) -> None:  # noqa: ARG001 - it is the same for every hook
    """Tell a hook at once."""
    tell()


class Hooks:
    """All hooks of an engine, told in the order they were given.

    Args:
        hooks: those who are told.
        run: how each of them is.
        url: where others can read an object of the store.

    Raises:
        ConfigError: one of them has none of the methods of a `RegionHook`.

    """

    def __init__(
        self,
        hooks: Sequence[RegionHook] = (),
        run: Run = run_here,
        url: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        for hook in hooks:
            check_hook(hook)
        self._hooks, self._run, self._url = tuple(zip(_names(hooks), hooks, strict=True)), run, url
        self._failures: dict[RegionId, dict[str, BaseException]] = {}

    def failures(self, region_id: RegionId) -> dict[str, BaseException]:
        """Return the last error of each hook that failed when it was last told the same kind of thing."""
        return dict(self._failures.get(region_id, {}))

    # --- what is told -----------------------------------------------------------------------------------

    def sst_files_written(self, metadata: RegionMetadata, files: Sequence[FileMeta]) -> None:
        if not self._hooks or not files:
            return
        region_id = metadata.region_id
        keys = [sst_key(region_id, file.file_id) for file in files]
        infos = [SstFileInfo(file=file, key=key, url=self._url(key)) for file, key in zip(files, keys, strict=True)]
        self._tell("on_sst_files_written", region_id, metadata, tuple(infos))

    def manifest_updated(self, pending: PendingManifestHook) -> None:
        self._tell("on_manifest_updated", pending.region_id, pending.actions, pending.version)

    def region_opened(self, metadata: RegionMetadata) -> None:
        self._tell("on_region_opened", metadata.region_id, metadata)

    def region_closed(self, region_id: RegionId) -> None:
        self._tell("on_region_closed", region_id)

    def region_dropped(self, region_id: RegionId) -> None:
        self._tell("on_region_dropped", region_id)

    def region_files_removed(self, region_id: RegionId) -> None:
        self._tell("on_region_files_removed", region_id)

    def region_gc(
        self, region_id: RegionId, metadata: RegionMetadata | None, store: ObjectStore, info: RegionGcInfo
    ) -> None:
        self._tell("on_region_gc", region_id, metadata, store, info)

    # --- how --------------------------------------------------------------------------------------------

    def _tell(self, event: str, region_id: RegionId, *details: Any) -> None:
        for name, hook in self._hooks:
            method = getattr(hook, event, None)
            if method is not None:
                self._run(hook, partial(self._call, name, event, region_id, partial(method, region_id, *details)))

    def _call(self, name: str, event: str, region_id: RegionId, method: Callable[[], object]) -> None:
        kind = f"hook {name}.{event}"
        try:
            method()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a hook is somebody else's code
            _log.exception("hook failed hook=%s event=%s region=%d", name, event.removeprefix("on_"), region_id)
            self._failures.setdefault(region_id, {})[kind] = error
            return
        if region_id in self._failures:
            self._failures[region_id].pop(kind, None)


def _names(hooks: Sequence[RegionHook]) -> list[str]:
    """Name each by its class, and by a number too if it is not the first of it."""
    classes = [type(hook).__qualname__ for hook in hooks]
    counts = [classes[: place + 1].count(name) for place, name in enumerate(classes)]
    return [name if count == 1 else f"{name} ({count})" for name, count in zip(classes, counts, strict=True)]
