"""Which tables there are: names, ids, schema versions and regions, kept in a `MetaStore`.

What it promises: each change is one transaction, so a table is there whole or not at all; table ids are never used
twice; a change based on a table that somebody else has changed meanwhile is refused (`ConflictError`). Names are
values: on disk there are only numbers. A table is reached by its exact name, and no two names differ by case alone.

Keys (names percent-encoded), each with a value of canonical JSON that carries ``format``:

    /mf/1/alloc/table_id               last                            the highest id ever given away
    /mf/1/table/default/<name>         table_id, schema_version        made and removed with the three below
    /mf/1/fold/default/<folded name>   name                            reserves the name in every case
    /mf/1/tableid/<id>                 database, name
    /mf/1/region/<id>/<number>         state
    /mf/1/schema/<id>/<version>        schema                          never changed

A stored value that is not canonical is refused (`CorruptionError`), one of a newer format too (`ConfigError`).
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from mitoframe.model.errors import (
    ConfigError,
    ConflictError,
    CorruptionError,
    InvalidInputError,
    LimitExceededError,
    TableExistsError,
    TableNotFoundError,
)
from mitoframe.model.ids import RegionId, TableId, region_id, region_number_of, table_id_of
from mitoframe.model.keyvalue import Compare, Delete, KeyValue, Put
from mitoframe.ports import MetaStore

FORMAT = 1
NAME_BYTES_MAX = 255
TABLE_ID_MAX = 2**32 - 1
ATTEMPTS_MAX = 100
"""How often an operation starts again because somebody else was faster."""
OPERATIONS_PER_TXN_MAX = 100
"""Remote stores refuse transactions with many operations."""

_ROOT = b"/mf/1/"
_DATABASE = "default"
_REGIONS = _ROOT + b"region/"
_TABLES = _ROOT + b"table/default/"
_ALLOCATED = _ROOT + b"alloc/table_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """What the catalog knows of a table. ``revision`` says which state of it this is."""

    table_id: TableId
    name: str
    schema_version: int
    schema: dict[str, Any]
    regions: tuple[RegionId, ...]
    revision: int


class Catalog:
    """The tables of one store.

    >>> from mitoframe.drivers.meta_sqlite import SqliteMetaStore
    >>> catalog = Catalog(SqliteMetaStore(":memory:"))
    >>> number = catalog.allocate_table_id()
    >>> catalog.create_table(number, "cpu", {"columns": []}, [region_id(number, 0)]).schema_version
    1
    >>> [entry.name for entry in catalog.tables()]
    ['cpu']
    """

    def __init__(self, meta: MetaStore, hidden: Collection[RegionId] = ()) -> None:
        """Tables with one of the ``hidden`` regions are not there for whoever asks."""
        self._meta = meta
        self._hidden = frozenset(hidden)
        self._known: dict[str, tuple[KeyValue, TableEntry]] = {}

    # --- reading ---------------------------------------------------------------------------------------

    def get(self, name: str) -> TableEntry:
        """Return the table, or raise `TableNotFoundError` with the names there are."""
        entry = self.find(name)
        if entry is None:
            raise TableNotFoundError(name, self._names())
        return entry

    def find(self, name: str) -> TableEntry | None:
        """Return the table, or None if there is none of exactly this name."""
        _require_text(name)
        for _ in range(ATTEMPTS_MAX):
            named = self._one(_table_key(name))
            if named is None:
                self._known.pop(name, None)
                return None
            # Whatever changes of a table changes its name's entry, if only the revision.
            known, entry = self._known.get(name, (None, None))
            if known == named:
                return entry
            table_id, version = _table_and_version(named)
            schema = self._one(_schema_key(table_id, version))
            regions = self._meta.range(*_folder(_region_folder(table_id))).kvs
            # Dropping removes the name first, so an unchanged name says that all of the rest was still there.
            if self._one(named.key) == named:
                entry = _to_entry(named, schema, regions)
                if self._is_hidden(entry):
                    return None
                self._known[name] = named, entry
                return entry
        raise ConflictError(f"table {name!r} is being changed all the time; retry")

    def tables(self) -> tuple[TableEntry, ...]:
        """Return all tables, sorted by name."""
        regions: defaultdict[bytes, list[KeyValue]] = defaultdict(list)
        others: dict[bytes, KeyValue] = {}
        for kv in self._meta.range(_REGIONS, _folder(_TABLES)[1]).kvs:
            if kv.key.startswith(_REGIONS):
                regions[kv.key[: kv.key.rindex(b"/") + 1]].append(kv)
            else:
                others[kv.key] = kv
        entries = []
        for named in (kv for key, kv in others.items() if key.startswith(_TABLES)):
            table_id, version = _table_and_version(named)
            schema = others.get(_schema_key(table_id, version))
            entries.append(_to_entry(named, schema, regions[_region_folder(table_id)]))
        shown = (entry for entry in entries if not self._is_hidden(entry))
        return tuple(sorted(shown, key=lambda entry: entry.name))

    def poll(self, after: int) -> tuple[int, tuple[str, ...]]:
        """Return the catalog's revision, and the names made, changed or dropped after revision ``after``."""
        revision, changes = self._meta.changes(*_folder(_TABLES), after=after)
        return revision, tuple(sorted(_name_of(change.key) for change in changes))

    def last_table_id(self) -> TableId:
        """Return the highest id ever given out, 0 if there was none."""
        seen = self._one(_ALLOCATED)
        return TableId(_decode(seen, last=int)["last"] if seen else 0)

    # --- changing --------------------------------------------------------------------------------------

    def allocate_table_id(self) -> TableId:
        """Return an id that no table ever had."""
        for _ in range(ATTEMPTS_MAX):
            seen = self._one(_ALLOCATED)
            following = (_decode(seen, last=int)["last"] if seen else 0) + 1
            if following > TABLE_ID_MAX:
                raise LimitExceededError(f"all {TABLE_ID_MAX} table ids were given away; start a new store")
            unchanged = Compare(_ALLOCATED, "mod", seen.mod_revision if seen else 0)
            if self._meta.txn([unchanged], [Put(_ALLOCATED, _encode({"last": following}))]).succeeded:
                return TableId(following)
        raise ConflictError("others are taking table ids all the time; retry")

    def create_table(
        self, table_id: TableId, name: str, schema: dict[str, Any], regions: Sequence[RegionId]
    ) -> TableEntry:
        """Name a table whose regions are there already.

        Requires: ``table_id`` comes from `allocate_table_id`, and the regions are of that table.
        """
        validate_table_name(name)
        assert regions, "a table has at least one region"
        assert all(table_id_of(region) == table_id for region in regions)
        version, stored = 1, _encode({"schema": schema})
        puts = [
            Put(_table_key(name), _encode({"table_id": table_id, "schema_version": version})),
            Put(_fold_key(name), _encode({"name": name})),
            Put(_table_id_key(table_id), _encode({"database": _DATABASE, "name": name})),
            Put(_schema_key(table_id, version), stored),
            *(Put(_region_key(region), _encode({"state": "open"})) for region in regions),
        ]
        free = [Compare(key, "create", 0) for key in (_table_key(name), _fold_key(name), _table_id_key(table_id))]
        result = self._meta.txn(free, puts)
        if not result.succeeded:
            raise self._name_taken(name)
        return TableEntry(
            table_id=table_id,
            name=name,
            schema_version=version,
            schema=json.loads(stored)["schema"],
            regions=tuple(sorted(regions)),
            revision=result.revision,
        )

    def update_schema(self, entry: TableEntry, schema: dict[str, Any]) -> TableEntry:
        """Give a table its next schema version; `ConflictError` if it is no longer what ``entry`` says."""
        version, stored = entry.schema_version + 1, _encode({"schema": schema})
        result = self._meta.txn(
            [_is_unchanged(entry)],
            [
                Put(_table_key(entry.name), _encode({"table_id": entry.table_id, "schema_version": version})),
                Put(_schema_key(entry.table_id, version), stored),
            ],
        )
        if not result.succeeded:
            raise _changed_meanwhile(entry)
        return TableEntry(
            table_id=entry.table_id,
            name=entry.name,
            schema_version=version,
            schema=json.loads(stored)["schema"],
            regions=entry.regions,
            revision=result.revision,
        )

    def drop_table(self, entry: TableEntry) -> None:
        """Forget a table; `ConflictError` if it is no longer what ``entry`` says.

        One transaction removes the names, and with them the table. Sweeping its other keys comes after; if that is
        cut short they stay, unreachable, because ids are not used twice.
        """
        names = [Delete(_table_key(entry.name)), Delete(_fold_key(entry.name)), Delete(_table_id_key(entry.table_id))]
        if not self._meta.txn([_is_unchanged(entry)], names).succeeded:
            raise _changed_meanwhile(entry)
        leftovers = [
            *(_region_key(region) for region in entry.regions),
            *(_schema_key(entry.table_id, version) for version in range(1, entry.schema_version + 1)),
        ]
        for start in range(0, len(leftovers), OPERATIONS_PER_TXN_MAX):
            self._meta.txn([], [Delete(key) for key in leftovers[start : start + OPERATIONS_PER_TXN_MAX]])

    # --- pieces ----------------------------------------------------------------------------------------

    def _one(self, key: bytes) -> KeyValue | None:
        return next(iter(self._meta.range(key).kvs), None)

    def _is_hidden(self, entry: TableEntry) -> bool:
        return not self._hidden.isdisjoint(entry.regions)

    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(_name_of(kv.key) for kv in self._meta.range(*_folder(_TABLES)).kvs))

    def _name_taken(self, name: str) -> TableExistsError | ConflictError:
        folded = self._one(_fold_key(name))
        if folded is None:
            return ConflictError(f"table {name!r} was being made or dropped by somebody else; retry")
        twin = _decode(folded, name=str)["name"]
        if twin == name:
            return TableExistsError(f"table {name!r} exists already; open it, or choose another name")
        return TableExistsError(f"table {name!r} differs only by case from {twin!r}; choose another name")


def _table_and_version(named: KeyValue) -> tuple[TableId, int]:
    fields = _decode(named, table_id=int, schema_version=int)
    return TableId(fields["table_id"]), fields["schema_version"]


def _to_entry(named: KeyValue, schema: KeyValue | None, regions: Iterable[KeyValue]) -> TableEntry:
    table_id, version = _table_and_version(named)
    numbers = sorted(_region_number(kv) for kv in regions)
    if schema is None or not numbers:
        raise CorruptionError("the table's schema or regions are missing", path=_shown(named.key))
    return TableEntry(
        table_id=table_id,
        name=_name_of(named.key),
        schema_version=version,
        schema=_decode(schema, schema=dict)["schema"],
        regions=tuple(region_id(table_id, number) for number in numbers),
        revision=named.mod_revision,
    )


def _region_number(kv: KeyValue) -> int:
    _decode(kv, state=str)
    return int(kv.key.rpartition(b"/")[2])


# --- names ---------------------------------------------------------------------------------------------


def validate_table_name(name: object) -> None:
    """Raise `InvalidInputError` if this cannot be the name of a table.

    >>> validate_table_name("cpu load, °C")
    >>> validate_table_name("cpu ")
    Traceback (most recent call last):
    mitoframe.model.errors.InvalidInputError: table name 'cpu ' begins or ends with white space; strip it
    """
    fault = _fault_of_name(_require_text(name))
    if fault:
        raise InvalidInputError(f"table name {fault}")


def _require_text(name: object) -> str:
    if isinstance(name, str):
        return name
    raise InvalidInputError(f"a table name is a str, not {type(name).__name__} ({_shortened(name)})")


def _fault_of_name(name: str) -> str | None:
    if not name:
        return "'' is empty; give it at least one character"
    categories = {unicodedata.category(character): character for character in name}
    shown = _shortened(name)
    if "Cs" in categories:
        return f"{shown} has half of a surrogate pair, which is not text; decode it as UTF-8 first"
    size_bytes = len(name.encode())
    if size_bytes > NAME_BYTES_MAX:
        return f"{shown} has {size_bytes} bytes in UTF-8; use at most {NAME_BYTES_MAX}"
    if "/" in name or "\\" in name or name in (".", ".."):
        return f"{shown} looks like a path; names are not paths: use letters, digits, '_' or '.' between words"
    for category, kind in _FORBIDDEN.items():
        if category in categories:
            return f"{shown} has {kind} U+{ord(categories[category]):04X}; remove it"
    if name != name.strip():
        return f"{shown} begins or ends with white space; strip it"
    if not unicodedata.is_normalized("NFC", name):
        return f'{shown} is not in Unicode form NFC; pass it through unicodedata.normalize("NFC", name)'
    return None


_FORBIDDEN = {
    "Cc": "the control character",
    "Cf": "the invisible character",  # zero-width, bidirectional and other format controls
    "Zl": "the line separator",
    "Zp": "the paragraph separator",
}


def _shortened(name: object) -> str:
    shown = repr(name)
    return shown if len(shown) <= 60 else shown[:60] + "..."


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


# --- keys ----------------------------------------------------------------------------------------------


def _table_key(name: str) -> bytes:
    # A name that is not text has no key, but asking for it is not an error.
    return _TABLES + quote(name, safe="", errors="surrogatepass").encode()


def _fold_key(name: str) -> bytes:
    return _ROOT + b"fold/default/" + quote(_folded(name), safe="").encode()


def _table_id_key(table_id: TableId) -> bytes:
    return _ROOT + b"tableid/%d" % table_id


def _schema_key(table_id: TableId, version: int) -> bytes:
    return _ROOT + b"schema/%d/%d" % (table_id, version)


def _region_folder(table_id: TableId) -> bytes:
    return _REGIONS + b"%d/" % table_id


def _region_key(region: RegionId) -> bytes:
    return _region_folder(table_id_of(region)) + b"%d" % region_number_of(region)


def _folder(prefix: bytes) -> tuple[bytes, bytes]:
    """Return the range of all keys that begin with ``prefix``."""
    assert prefix.endswith(b"/")
    return prefix, prefix[:-1] + b"0"  # '0' follows '/' in ASCII


def _name_of(key: bytes) -> str:
    return unquote(key.removeprefix(_TABLES).decode())


def _is_unchanged(entry: TableEntry) -> Compare:
    return Compare(_table_key(entry.name), "mod", entry.revision)


def _changed_meanwhile(entry: TableEntry) -> ConflictError:
    return ConflictError(f"table {entry.name!r} was changed or dropped meanwhile; read it again and retry")


# --- values --------------------------------------------------------------------------------------------


def _encode(fields: dict[str, Any]) -> bytes:
    return _canonical({"format": FORMAT, **fields})


def _canonical(value: object) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the catalog keeps JSON only, and this is not: {error}") from error


def _decode(kv: KeyValue, **types: type) -> dict[str, Any]:
    """Read a value back; it must have been written by `_encode` and have the named fields of these types."""
    try:
        fields = json.loads(kv.value)
        canonical = _canonical(fields) == kv.value
    except (ValueError, RecursionError) as error:
        raise _not_ours(kv.key) from error
    if not isinstance(fields, dict) or not isinstance(fields.get("format"), int):
        raise _not_ours(kv.key)
    if fields["format"] > FORMAT:
        raise ConfigError(
            f"{_shown(kv.key)} has catalog format {fields['format']}, this version of mitoframe reads {FORMAT}. "
            "Open the store with a newer mitoframe."
        )
    if not canonical or any(type(fields.get(name)) is not expected for name, expected in types.items()):
        raise _not_ours(kv.key)
    return fields


def _not_ours(key: bytes) -> CorruptionError:
    return CorruptionError("the value is not what mitoframe writes", path=_shown(key))


def _shown(key: bytes) -> str:
    return "catalog key " + key.decode(errors="backslashreplace")
