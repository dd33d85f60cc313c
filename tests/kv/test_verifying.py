"""Looking for damage: whatever rows say that does not fit is named, although each row by itself is in order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mitoframe import kv
from mitoframe.kv.backend_sqlite import SqliteBackend
from mitoframe.kv.revision import Entry, Revision, head_to_bytes, seal
from mitoframe.kv.rows import ChangingRows
from mitoframe.model.errors import ConfigError, CorruptionError


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "plant.kv")
    with kv.open(path) as store:
        store._ledger.grant(5, 60)
        store.put(b"a", b"1")
        store.put(b"a", b"2", lease=5)
        store.put(b"b", b"3")
        store.delete(b"b")
        store.put(b"c", b"4")
        store.verify()
    return path


def change(path: str, work: Callable[[ChangingRows], None], **state: int) -> None:
    """Change rows as no store does, with checksums that are right."""
    with closing(SqliteBackend(path)) as backend, backend.begin_write() as transaction:
        rows = ChangingRows(transaction, path)
        work(rows)
        rows.finish(replace(rows.state(), **state))


def entry(main: int, created: int, version: int, sub: int = 0) -> Entry:
    return Entry(Revision(main, sub), created, version, 0)


def raw_rows(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as raw:
        return list(raw.iterdump())


DAMAGES: list[tuple[str, Callable[[ChangingRows], None], dict[str, int]]] = [
    ("is missing", lambda rows: rows._delete("rev", Revision(2).to_bytes()), {}),
    ("number of changes", lambda rows: rows._put("rev", Revision(9).to_bytes(), b"\0" * 28 + b"x"), {}),
    ("is another one's", lambda rows: rows._put("rev", Revision(2).to_bytes(), b"\0" * 28, replaces=True), {}),
    ("newest of key b'c'", lambda rows: rows._delete("head", b"c"), {}),
    ("newest of key b'a'", lambda rows: rows._put("head", b"a", head_to_bytes(entry(2, 2, 1)), replaces=True), {}),
    ("keys with a newest change", lambda rows: rows._put("head", b"z", head_to_bytes(entry(2, 2, 1))), {}),
    ("number of keys", lambda rows: None, {"keys": 3}),
    ("versions of key b'd'", lambda rows: rows.add(b"d", entry(6, 6, 2, sub=1), b""), {"keys": 3}),
    ("versions of key b'd'", lambda rows: rows.add(b"d", entry(6, 5, 1, sub=1), b""), {"keys": 3}),
    ("versions of key b'c'", lambda rows: rows.add(b"c", entry(7, 6, 3), b""), {"revision": 7}),
    ("versions of key b'c'", lambda rows: rows.add(b"c", entry(7, 7, 2), b""), {"revision": 7}),
    ("versions of key b'b'", lambda rows: rows.add(b"b", entry(7, 2, 2), b""), {"revision": 7, "keys": 3}),
    ("in the future", lambda rows: rows.add(b"d", entry(7, 7, 1), b""), {"keys": 3}),
    ("changes that were compacted", lambda rows: None, {"compact_scheduled": 4, "compact_finished": 4}),
    ("ahead of the revisions", lambda rows: None, {"compact_scheduled": 9, "compact_finished": 4}),
    ("ahead of the revisions", lambda rows: None, {"compact_finished": 4}),
    ("number of leases", lambda rows: None, {"leases": 2}),
    ("number of leases", lambda rows: rows.drop_lease(5), {}),
    ("leases that are not there: 5", lambda rows: rows.drop_lease(5), {"leases": 0}),
    ("do not name each other", lambda rows: rows.detach(5, b"a"), {}),
    ("do not name each other", lambda rows: rows.attach(5, b"c"), {}),
]


@pytest.mark.parametrize(("what", "work", "state"), DAMAGES, ids=range(len(DAMAGES)))
def test_rows_that_do_not_fit_are_named(
    path: str, what: str, work: Callable[[ChangingRows], None], state: dict[str, int]
) -> None:
    change(path, work, **state)

    # Each row by itself is what was written, so that opening has nothing to say, and changes nothing.
    with kv.open(path, mode="r") as store, pytest.raises(CorruptionError, match=what) as caught:
        store.verify()

    assert caught.value.path == path


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rev WHERE key = (SELECT min(key) FROM rev)",
        "DELETE FROM idx WHERE key = (SELECT min(key) FROM idx)",
        "DELETE FROM head WHERE key = x'61'",
        "DELETE FROM lease",
        "DELETE FROM leasekey",
        "DELETE FROM meta WHERE key = CAST('state' AS BLOB)",
        "DELETE FROM meta WHERE key = CAST('format' AS BLOB)",
        "UPDATE head SET value = zeroblob(length(value)) WHERE key = x'61'",
        "UPDATE head SET key = x'7A' WHERE key = x'61'",
        "UPDATE head SET value = CAST(value AS TEXT)",
        "UPDATE head SET value = 7",
        "UPDATE rev SET value = x''",
        "INSERT INTO leasekey SELECT key, value FROM head",
        "INSERT INTO head SELECT CAST(key || 'x' AS BLOB), value FROM head",
        "DROP TABLE lease",
        "CREATE INDEX extra ON head(value)",
        "CREATE TABLE theirs(a)",
    ],
)
@pytest.mark.parametrize("mode", ["rw", "r"])
def test_rows_changed_by_another_program_are_refused_at_opening(path: str, statement: str, mode: str) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(statement)

    with pytest.raises(CorruptionError) as caught:
        kv.open(path, mode=mode)

    assert caught.value.path == path


def test_an_earlier_row_in_the_place_of_a_later_one_is_refused_at_opening(path: str) -> None:
    earlier = seal("head", b"a", head_to_bytes(entry(2, 2, 1)))
    with closing(SqliteBackend(path)) as backend, backend.begin_write() as transaction:
        transaction.put("head", b"a", earlier)

    with pytest.raises(CorruptionError, match="missing or changed"):
        kv.open(path)


def test_damage_while_open_is_refused_when_read_and_found_by_verify(path: str) -> None:
    with kv.open(path) as store:
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("UPDATE rev SET value = zeroblob(length(value)) WHERE key = ?", (Revision(3).to_bytes(),))

        assert store.get(b"c").value == b"4"
        with pytest.raises(CorruptionError):
            store.get(b"a")
        with pytest.raises(CorruptionError):
            store.verify()


@pytest.mark.parametrize("mode", ["rw", "r"])
def test_a_newer_format_is_refused_by_name_and_left_alone(path: str, mode: str) -> None:
    with closing(SqliteBackend(path)) as backend, backend.begin_write() as transaction:
        transaction.put("meta", b"format", seal("meta", b"format", b"\x02\0\0\0"))
    before = raw_rows(path)

    with pytest.raises(ConfigError, match="newer mitoframe"):
        kv.open(path, mode=mode)

    assert raw_rows(path) == before


def test_verify_changes_nothing(path: str) -> None:
    before = Path(path).read_bytes()

    with kv.open(path, mode="r") as store:
        store.verify()

    assert Path(path).read_bytes() == before
