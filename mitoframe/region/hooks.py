"""Tells every registered `RegionHook` what a region did. A hook that raises is logged and harms nothing.

| what happened        | on_sst_files_written          | on_manifest_updated |
|----------------------|-------------------------------|---------------------|
| flush                | yes, before the manifest      | yes, after          |
| compaction           | yes, before the manifest      | yes, after          |
| create, alter        | no (no SST)                   | yes                 |
| gc, checkpoint       | no                            | no                  |
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mitoframe.model.edit import Edit
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import ManifestVersion
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import RegionHook

_log = logging.getLogger("mitoframe")


class Hooks:
    """All hooks of an engine, called in the order they were given."""

    def __init__(self, hooks: Sequence[RegionHook] = ()) -> None:
        self._hooks = tuple(hooks)

    def sst_files_written(self, metadata: RegionMetadata, files: Sequence[FileMeta]) -> None:
        for hook in self._hooks:
            try:
                hook.on_sst_files_written(metadata, files)
            except Exception:  # noqa: BLE001 - a hook is somebody else's code
                _log.exception("hook failed hook=%r event=sst_files_written region=%d", hook, metadata.region_id)

    def manifest_updated(self, metadata: RegionMetadata, edit: Edit, version: ManifestVersion) -> None:
        for hook in self._hooks:
            try:
                hook.on_manifest_updated(metadata, edit, version)
            except Exception:  # noqa: BLE001 - a hook is somebody else's code
                _log.exception("hook failed hook=%r event=manifest_updated region=%d", hook, metadata.region_id)
