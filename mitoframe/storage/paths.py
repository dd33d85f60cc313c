"""Every name on disk, made and parsed here and nowhere else. They are built from numbers and random identifiers only.

mitoframe.json                                    which format, which store
writer.lock, writer.json                          who writes
catalog.sqlite3                                   table names, identifiers, schemas
wal/{first_entry_id:020}.wal                      the log (the segment names are the log driver's own)
regions/{table_id}_{region_number:010}/
manifest/{version:020}.json                   a delta
manifest/{version:020}.checkpoint             all deltas up to that version, folded
sst/{file_id}.parquet
index/{file_id}.{version:010}.index           the indexes of an SST
journal/{first:010}-{last:010}.{through:020}.{entries:010}.jsonl
                                                  a part of the journal; see storage/journal.py
dropped/{table_id}_{region_number:010}.json       a region that was given up; its files are on their way out
readers/                                          what other processes read (the names are the pins driver's own)
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from mitoframe.model.ids import FileId, ManifestVersion, RegionId, region_id, region_number_of, table_id_of

STORE_FILE = "mitoframe.json"
LOCK_FILE = "writer.lock"
HOLDER_FILE = "writer.json"
CATALOG_FILE = "catalog.sqlite3"
LOG_FOLDER = "wal"
REGIONS_FOLDER = "regions"
DROPPED_FOLDER = "dropped"
READERS_FOLDER = "readers"

ManifestKind = Literal["json", "checkpoint"]

_REGION = re.compile(r"([0-9]{1,10})_([0-9]{10})")
_SST = re.compile(r"([0-9a-f]{32})\.parquet")
_INDEX = re.compile(r"([0-9a-f]{32})\.([0-9]{10})\.index")
_MANIFEST = re.compile(r"([0-9]{20})\.(json|checkpoint)")
_JOURNAL = re.compile(r"([0-9]{10})-([0-9]{10})\.([0-9]{20})\.([0-9]{10})\.jsonl")


def region_folder(region: RegionId) -> str:
    """Name a region's folder.

    >>> region_folder(RegionId((7 << 32) + 1))
    'regions/7_0000000001'
    """
    return f"{REGIONS_FOLDER}/{table_id_of(region)}_{region_number_of(region):010}"


def parse_region_folder(name: str) -> RegionId | None:
    """Return the region whose folder has this name (without ``regions/``), or None for a name we did not make."""
    match = _REGION.fullmatch(name)
    if match is None or max(int(match[1]), int(match[2])) >= 2**32:
        return None
    region = region_id(int(match[1]), int(match[2]))
    return region if region_folder(region) == f"{REGIONS_FOLDER}/{name}" else None


def dropped_key(region: RegionId) -> str:
    return f"{DROPPED_FOLDER}/{table_id_of(region)}_{region_number_of(region):010}.json"


def parse_dropped_key(key: str) -> RegionId | None:
    """Return the region a marker stands for, or None for a name `dropped_key` did not make."""
    folder, _, name = key.rpartition("/")
    region = parse_region_folder(name.removesuffix(".json"))
    return region if folder == DROPPED_FOLDER and region is not None and dropped_key(region) == key else None


def manifest_folder(region_id: RegionId) -> str:
    return f"{region_folder(region_id)}/manifest"


def manifest_key(region_id: RegionId, version: ManifestVersion, kind: ManifestKind) -> str:
    return f"{manifest_folder(region_id)}/{version:020}.{kind}"


def parse_manifest_key(key: str) -> tuple[ManifestVersion, ManifestKind] | None:
    """Return what `manifest_key` was given, or None for a name it did not make."""
    match = _MANIFEST.fullmatch(key.rpartition("/")[2])
    if match is None:
        return None
    return ManifestVersion(int(match[1])), "json" if match[2] == "json" else "checkpoint"


def sst_folder(region_id: RegionId) -> str:
    return f"{region_folder(region_id)}/sst"


def sst_key(region_id: RegionId, file_id: FileId) -> str:
    return f"{sst_folder(region_id)}/{file_id}.parquet"


def parse_sst_key(key: str) -> FileId | None:
    """Return the file id in an SST's key, or None for a name `sst_key` did not make."""
    match = _SST.fullmatch(key.rpartition("/")[2])
    return None if match is None else FileId(match[1])


def index_folder(region_id: RegionId) -> str:
    return f"{region_folder(region_id)}/index"


def index_key(region_id: RegionId, file_id: FileId, version: int) -> str:
    return f"{index_folder(region_id)}/{file_id}.{version:010}.index"


def parse_index_key(key: str) -> tuple[FileId, int] | None:
    """Return the file and version that `index_key` was given, or None for a name it did not make."""
    match = _INDEX.fullmatch(key.rpartition("/")[2])
    return None if match is None else (FileId(match[1]), int(match[2]))


def journal_folder(region_id: RegionId) -> str:
    return f"{region_folder(region_id)}/journal"


class JournalName(NamedTuple):
    """What a part of a journal is called by.

    Attributes:
        first: the number of the oldest part whose entries are in it.
        last: its own number, the newest of those.
        through: the newest manifest version that it tells of; -1 if it tells of none.
        entries: how many it has.

    """

    first: int
    last: int
    through: ManifestVersion
    entries: int


def journal_key(region_id: RegionId, name: JournalName) -> str:
    """Name a part of a journal. The version is counted from 1 there, so that none is 0.

    >>> journal_key(RegionId((7 << 32) + 1), JournalName(2, 3, ManifestVersion(-1), 4)).rpartition("/")[2]
    '0000000002-0000000003.00000000000000000000.0000000004.jsonl'
    """
    numbers = f"{name.first:010}-{name.last:010}.{name.through + 1:020}.{name.entries:010}"
    return f"{journal_folder(region_id)}/{numbers}.jsonl"


def parse_journal_key(key: str) -> JournalName | None:
    """Return what `journal_key` was given, or None for a name it did not make."""
    match = _JOURNAL.fullmatch(key.rpartition("/")[2])
    if match is None:
        return None
    return JournalName(int(match[1]), int(match[2]), ManifestVersion(int(match[3]) - 1), int(match[4]))
