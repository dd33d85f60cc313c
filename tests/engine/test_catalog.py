"""The catalog: tables by name, over a real `MetaStore`."""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.meta_sqlite import SqliteMetaStore
from mitoframe.engine.catalog import (
    NAME_BYTES_MAX,
    OPERATIONS_PER_TXN_MAX,
    TABLE_ID_MAX,
    Catalog,
    TableEntry,
    validate_table_name,
)
from mitoframe.model.errors import (
    ConfigError,
    ConflictError,
    CorruptionError,
    InvalidInputError,
    LimitExceededError,
    TableExistsError,
    TableNotFoundError,
)
from mitoframe.model.ids import TableId, region_id
from mitoframe.model.keyvalue import Compare, Delete, Put, RangeResult, TxnResult
from mitoframe.ports import MetaStore

SCHEMA = {"columns": [{"name": "ts", "kind": "time"}], "unit": "ms"}
EVERYTHING = (b"\x00", b"\xff")


@pytest.fixture
def meta() -> Iterator[SqliteMetaStore]:
    with closing(SqliteMetaStore(":memory:")) as meta:
        yield meta


@pytest.fixture
def catalog(meta: SqliteMetaStore) -> Catalog:
    return Catalog(meta)


def made(catalog: Catalog, name: str, regions: int = 1) -> TableEntry:
    table_id = catalog.allocate_table_id()
    return catalog.create_table(table_id, name, SCHEMA, [region_id(table_id, number) for number in range(regions)])


def keys(meta: MetaStore) -> list[bytes]:
    return [kv.key for kv in meta.range(*EVERYTHING).kvs]


# --- tables --------------------------------------------------------------------------------------------


def test_a_created_table_is_found_by_name(catalog: Catalog) -> None:
    entry = made(catalog, "cpu", regions=12)

    assert catalog.get("cpu") == catalog.find("cpu") == entry
    assert (entry.table_id, entry.name, entry.schema_version, entry.schema) == (1, "cpu", 1, SCHEMA)
    assert entry.regions == tuple(region_id(1, number) for number in range(12))


def test_tables_are_sorted_by_name_and_whole(catalog: Catalog) -> None:
    entries = [made(catalog, name, regions=2) for name in ("b", "ä", "a b", "A%2F", "a")]

    assert catalog.tables() == tuple(sorted(entries, key=lambda entry: entry.name))


def test_an_empty_catalog_has_no_tables(catalog: Catalog) -> None:
    assert catalog.tables() == ()
    assert catalog.find("cpu") is None


def test_a_missing_table_is_named_with_those_there_are(catalog: Catalog) -> None:
    made(catalog, "cpu")
    made(catalog, "disk")

    with pytest.raises(TableNotFoundError) as caught:
        catalog.get("cpi")

    assert caught.value.existing == ("cpu", "disk")
    assert str(caught.value) == "no table 'cpi'; did you mean 'cpu'? There are 'cpu', 'disk'."


def test_asking_for_what_cannot_be_a_name_finds_nothing(catalog: Catalog) -> None:
    made(catalog, "cpu")

    assert [catalog.find(name) for name in ("", "../cpu", "CPU", "cpu\ud800", "cpu/", "x" * 999)] == [None] * 6
    with pytest.raises(InvalidInputError, match="int"):
        catalog.find(7)


def test_a_taken_name_is_refused_and_nothing_is_changed(catalog: Catalog, meta: SqliteMetaStore) -> None:
    entry = made(catalog, "cpu")
    table_id = catalog.allocate_table_id()
    before = meta.range(*EVERYTHING)

    with pytest.raises(TableExistsError, match="'cpu' exists already"):
        catalog.create_table(table_id, "cpu", {}, [region_id(table_id, 0)])

    assert meta.range(*EVERYTHING) == before
    assert catalog.get("cpu") == entry


@pytest.mark.parametrize(("first", "second"), [("cpu", "CPU"), ("Straße", "STRASSE"), ("Ǆ", "ǆ")])
def test_a_name_that_differs_only_by_case_is_refused_with_its_twin(catalog: Catalog, first: str, second: str) -> None:
    made(catalog, first)

    with pytest.raises(TableExistsError, match=f"only by case from '{first}'"):
        made(catalog, second)

    assert [entry.name for entry in catalog.tables()] == [first]


def test_a_table_id_cannot_name_two_tables(catalog: Catalog) -> None:
    entry = made(catalog, "cpu")

    with pytest.raises(ConflictError):
        catalog.create_table(entry.table_id, "other", {}, entry.regions)

    assert catalog.find("other") is None


def test_the_entry_holds_what_json_made_of_the_schema(catalog: Catalog) -> None:
    table_id = catalog.allocate_table_id()

    entry = catalog.create_table(table_id, "cpu", {"tags": ("a", "b")}, [region_id(table_id, 0)])

    assert entry.schema == {"tags": ["a", "b"]}
    assert catalog.get("cpu") == entry


@pytest.mark.parametrize("schema", [{"a": {1, 2}}, {"a": float("nan")}, {"a": b"bytes"}])
def test_a_schema_that_is_not_json_is_refused(
    catalog: Catalog, meta: SqliteMetaStore, schema: dict[str, object]
) -> None:
    entry = made(catalog, "cpu")
    before = meta.range(*EVERYTHING)

    with pytest.raises(InvalidInputError, match="JSON"):
        catalog.create_table(TableId(9), "disk", schema, [region_id(9, 0)])
    with pytest.raises(InvalidInputError, match="JSON"):
        catalog.update_schema(entry, schema)

    assert meta.range(*EVERYTHING) == before


# --- ids -----------------------------------------------------------------------------------------------


def test_table_ids_start_at_one_and_are_never_used_again(catalog: Catalog) -> None:
    first, second = made(catalog, "a"), made(catalog, "b")
    catalog.drop_table(second)

    assert (first.table_id, second.table_id, catalog.allocate_table_id()) == (1, 2, 3)


def test_table_ids_run_out_with_a_typed_error(catalog: Catalog, meta: SqliteMetaStore) -> None:
    catalog.allocate_table_id()
    meta.txn([], [Put(b"/mf/1/alloc/table_id", json_bytes({"format": 1, "last": TABLE_ID_MAX - 1}))])

    assert catalog.allocate_table_id() == TABLE_ID_MAX
    with pytest.raises(LimitExceededError):
        catalog.allocate_table_id()


def test_processes_never_get_the_same_table_id(tmp_path: Path) -> None:
    path = str(tmp_path / "catalog.sqlite")
    with closing(SqliteMetaStore(path)) as left, closing(SqliteMetaStore(path)) as right:
        taken: list[int] = []

        def take(catalog: Catalog) -> None:
            taken.extend(catalog.allocate_table_id() for _ in range(20))

        threads = [threading.Thread(target=take, args=(Catalog(meta),)) for meta in (left, right)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(taken) == list(range(1, 41))


def test_an_id_taken_by_somebody_else_meanwhile_is_not_given_again(catalog: Catalog, meta: SqliteMetaStore) -> None:
    taken: list[TableId] = []

    given = Catalog(Interrupted(meta, 1, lambda: taken.append(catalog.allocate_table_id()))).allocate_table_id()

    assert (taken, given) == ([1], 2)


def test_of_two_who_make_the_same_name_one_wins(tmp_path: Path) -> None:
    path = str(tmp_path / "catalog.sqlite")
    with closing(SqliteMetaStore(path)) as left, closing(SqliteMetaStore(path)) as right:
        outcomes: list[str] = []

        def make(catalog: Catalog, name: str) -> None:
            try:
                made(catalog, name)
            except TableExistsError:
                outcomes.append("refused")
            else:
                outcomes.append("made")

        for number in range(10):
            names = (f"t{number}", f"T{number}")
            threads = [
                threading.Thread(target=make, args=(Catalog(meta), name))
                for meta, name in zip((left, right), names, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert sorted(outcomes) == ["made"] * 10 + ["refused"] * 10
        assert len(Catalog(left).tables()) == 10


# --- changes -------------------------------------------------------------------------------------------


def test_a_schema_update_raises_the_version_and_keeps_the_rest(catalog: Catalog) -> None:
    entry = made(catalog, "cpu", regions=3)

    updated = catalog.update_schema(entry, {"columns": []})

    assert catalog.get("cpu") == updated
    assert (updated.schema_version, updated.schema) == (2, {"columns": []})
    assert (updated.table_id, updated.name, updated.regions) == (entry.table_id, entry.name, entry.regions)
    assert updated.revision > entry.revision


def test_changes_based_on_an_old_entry_are_refused(catalog: Catalog) -> None:
    old = made(catalog, "cpu")
    current = catalog.update_schema(old, {"v": 2})

    with pytest.raises(ConflictError, match="'cpu' was changed"):
        catalog.update_schema(old, {"v": 3})
    with pytest.raises(ConflictError, match="'cpu' was changed"):
        catalog.drop_table(old)

    assert catalog.get("cpu") == current


def test_a_table_made_again_does_not_obey_entries_of_the_dropped_one(catalog: Catalog) -> None:
    old = made(catalog, "cpu")
    catalog.drop_table(old)
    new = made(catalog, "cpu")

    with pytest.raises(ConflictError):
        catalog.drop_table(old)

    assert catalog.get("cpu") == new


def test_dropping_removes_every_key_of_the_table_and_only_those(catalog: Catalog, meta: SqliteMetaStore) -> None:
    kept = made(catalog, "cpu", regions=11)
    before = keys(meta)
    entry = made(catalog, "cpu 2", regions=OPERATIONS_PER_TXN_MAX + 5)
    for version in range(2, 5):
        entry = catalog.update_schema(entry, {"v": version})

    catalog.drop_table(entry)

    assert keys(meta) == before
    assert catalog.tables() == (kept,)


def test_a_drop_that_is_cut_short_leaves_no_table(catalog: Catalog, meta: SqliteMetaStore) -> None:
    entry = made(catalog, "cpu")
    kept = made(catalog, "disk")

    with pytest.raises(KeyboardInterrupt):
        Catalog(StopsAfter(meta, transactions=1)).drop_table(entry)

    assert catalog.find("cpu") is None
    assert catalog.tables() == (kept,)
    assert made(catalog, "CPU").regions == (region_id(3, 0),)


@pytest.mark.parametrize("reads", [1, 2, 3])
def test_a_table_dropped_while_it_is_read_is_not_half_seen(catalog: Catalog, meta: SqliteMetaStore, reads: int) -> None:
    entry = made(catalog, "cpu", regions=3)

    seen = Catalog(Interrupted(meta, reads, lambda: catalog.drop_table(entry))).find("cpu")

    assert seen is None


@pytest.mark.parametrize("reads", [1, 2, 3])
def test_a_table_made_again_while_it_is_read_is_seen_as_the_new_one(
    catalog: Catalog, meta: SqliteMetaStore, reads: int
) -> None:
    entry = made(catalog, "cpu", regions=3)

    def make_again() -> None:
        catalog.drop_table(entry)
        made(catalog, "cpu", regions=2)

    seen = Catalog(Interrupted(meta, reads, make_again)).get("cpu")

    assert seen == catalog.get("cpu")
    assert seen.regions == (region_id(2, 0), region_id(2, 1))


def test_poll_names_what_was_made_changed_and_dropped(catalog: Catalog) -> None:
    kept, changed, dropped = made(catalog, "kept"), made(catalog, "chänged"), made(catalog, "dropped")
    start, everything = catalog.poll(0)
    catalog.update_schema(changed, {"v": 2})
    catalog.drop_table(dropped)
    made(catalog, "new")

    revision, names = catalog.poll(start)

    assert everything == ("chänged", "dropped", "kept")
    assert names == ("chänged", "dropped", "new")
    assert catalog.poll(revision) == (revision, ())
    assert catalog.get("kept") == kept


def test_taking_an_id_changes_no_table(catalog: Catalog) -> None:
    revision, _ = catalog.poll(0)

    catalog.allocate_table_id()

    assert catalog.poll(revision) == (revision + 1, ())


# --- stored form ---------------------------------------------------------------------------------------


def test_the_stored_form_of_a_table(catalog: Catalog, meta: SqliteMetaStore) -> None:
    entry = made(catalog, "Cpu 100%", regions=2)
    catalog.update_schema(entry, {"b": "é", "a": 1})

    stored = {kv.key: kv.value for kv in meta.range(*EVERYTHING).kvs}

    assert stored == {
        b"/mf/1/alloc/table_id": b'{"format":1,"last":1}',
        b"/mf/1/fold/default/cpu%20100%25": b'{"format":1,"name":"Cpu 100%"}',
        b"/mf/1/region/1/0": b'{"format":1,"state":"open"}',
        b"/mf/1/region/1/1": b'{"format":1,"state":"open"}',
        b"/mf/1/schema/1/1": b'{"format":1,"schema":{"columns":[{"kind":"time","name":"ts"}],"unit":"ms"}}',
        b"/mf/1/schema/1/2": b'{"format":1,"schema":{"a":1,"b":"\\u00e9"}}',
        b"/mf/1/table/default/Cpu%20100%25": b'{"format":1,"schema_version":2,"table_id":1}',
        b"/mf/1/tableid/1": b'{"database":"default","format":1,"name":"Cpu 100%"}',
    }


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[1]",
        b"{}",
        b'{"format":1}',
        b'{"format":1,"schema_version":1}',
        b'{"format":1,"schema_version":"1","table_id":1}',
        b'{"format":1,"schema_version":1,"table_id":true}',
        b'{"format": 1,"schema_version":1,"table_id":1}',
        b'{"format":1,"schema_version":1,"schema_version":1,"table_id":1}',
        b'{"format":1,"schema_version":NaN,"table_id":1}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_value_that_we_did_not_write_is_refused(catalog: Catalog, meta: SqliteMetaStore, value: bytes) -> None:
    made(catalog, "cpu")
    meta.txn([], [Put(b"/mf/1/table/default/cpu", value)])

    for read in (lambda: catalog.get("cpu"), catalog.tables):
        with pytest.raises(CorruptionError, match="/mf/1/table/default/cpu"):
            read()


@pytest.mark.parametrize("key", [b"/mf/1/schema/1/1", b"/mf/1/region/1/0"])
def test_a_table_that_lost_a_key_is_refused(catalog: Catalog, meta: SqliteMetaStore, key: bytes) -> None:
    made(catalog, "cpu")
    meta.txn([], [Delete(key)])

    for read in (lambda: catalog.get("cpu"), catalog.tables):
        with pytest.raises(CorruptionError, match="missing"):
            read()


def test_a_newer_format_is_refused_by_name(catalog: Catalog, meta: SqliteMetaStore) -> None:
    made(catalog, "cpu")
    meta.txn([], [Put(b"/mf/1/table/default/cpu", b'{"format":2,"anything":[]}')])

    with pytest.raises(ConfigError, match="newer mitoframe"):
        catalog.get("cpu")


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["cpu", "CON", "-rf", "~x", "a..b", ".hidden", "cpu load, °C", "表", "x" * NAME_BYTES_MAX, "%2F"]
)
def test_names_that_are_merely_unusual_work(catalog: Catalog, name: str) -> None:
    entry = made(catalog, name)

    assert catalog.tables() == (entry,)
    assert catalog.poll(0)[1] == (name,)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (None, "NoneType"),
        (7, "int"),
        (b"cpu", "bytes"),
        ("", "empty"),
        ("é" * 128, "256 bytes"),
        ("x" * 10_000, "10000 bytes"),
        ("a\x00b", "U\\+0000"),
        ("a\nb", "U\\+000A"),
        ("a\x7fb", "U\\+007F"),
        ("a\x85b", "U\\+0085"),
        ("a\u2028b", "U\\+2028"),
        ("e\u0301", "NFC"),
        (" cpu", "white space"),
        ("cpu\u3000", "white space"),
        ("a\ud800", "surrogate"),
        ("cpu\u200b", "U\\+200B"),
        ("a\u202eb", "U\\+202E"),
        ("\ufeffcpu", "U\\+FEFF"),
        ("../x", "names are not paths"),
        ("/etc", "names are not paths"),
        ("a\\b", "names are not paths"),
        (".", "names are not paths"),
        ("..", "names are not paths"),
    ],
)
def test_a_bad_name_is_refused_with_its_fault(catalog: Catalog, name: object, fault: str) -> None:
    with pytest.raises(InvalidInputError, match=fault) as caught:
        made(catalog, name)

    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()
    assert catalog.tables() == ()


@given(st.text(alphabet=st.characters(), max_size=300))
@settings(deadline=None, max_examples=120)
def test_every_accepted_name_comes_back_exactly(name: str) -> None:
    try:
        validate_table_name(name)
    except InvalidInputError:
        return

    with closing(SqliteMetaStore(":memory:")) as meta:
        entry = made(Catalog(meta), name)

        assert Catalog(meta).tables() == (entry,)
        assert Catalog(meta).get(name).name == name
        assert unicodedata.normalize("NFC", name) == name
        assert all(key.isascii() and key.count(b"/") <= 5 for key in keys(meta))


# --- stores that misbehave -----------------------------------------------------------------------------


def json_bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class StopsAfter:
    """A store whose process is interrupted after some transactions."""

    def __init__(self, inner: MetaStore, transactions: int) -> None:
        self.inner, self.left = inner, transactions

    def txn(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete], failure: Sequence[Put | Delete] = ()
    ) -> TxnResult:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.inner.txn(compare, success, failure)


class Interrupted:
    """A store on which somebody else acts after some calls."""

    def __init__(self, inner: MetaStore, calls: int, action: Callable[[], None]) -> None:
        self.inner, self.left, self.action = inner, calls, action

    def range(self, key: bytes, end: bytes | None = None) -> RangeResult:
        self._count()
        return self.inner.range(key, end)

    def txn(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete], failure: Sequence[Put | Delete] = ()
    ) -> TxnResult:
        self._count()
        return self.inner.txn(compare, success, failure)

    def _count(self) -> None:
        if self.left == 0:
            self.action()
        self.left -= 1
