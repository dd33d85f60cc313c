"""The words of the key-value store: ends of prefixes, comparisons, and how answers look."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitoframe.model.card import ROWS_MAX
from mitoframe.model.keyvalue import (
    FROM_KEY,
    C,
    Compare,
    DeleteResult,
    Event,
    HashInfo,
    KeyValue,
    L,
    M,
    PutResult,
    RangeResult,
    SnapshotInfo,
    Status,
    TxnResult,
    V,
    Value,
    WatchBatch,
    prefix_end,
)


def kv(key: bytes = b"/a", value: bytes = b"1", lease: int = 0) -> KeyValue:
    return KeyValue(key=key, value=value, create_revision=2, mod_revision=12_345, version=3, lease=lease)


def texts_of(html: str) -> list[str]:
    return [unescape(text).strip() for text in re.findall(r">([^<>]+)<", html)]


def ranged(*kvs: KeyValue, count: int | None = None) -> RangeResult:
    return RangeResult(kvs=kvs, revision=20_000, count=len(kvs) if count is None else count)


@given(prefix=st.binary(min_size=1, max_size=4), key=st.binary(max_size=6))
def test_what_is_below_the_end_of_a_prefix_begins_with_it(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)

    is_within = prefix <= key and (end == FROM_KEY or key < end)

    assert is_within == key.startswith(prefix)


def test_comparisons_are_written_as_python_does() -> None:
    assert (V(b"a") == 0) == Compare(b"a", "version", 0)
    assert (M(b"a") != 1) == Compare(b"a", "mod", 1, "!=")
    assert (C(b"a", b"b") > 2) == Compare(b"a", "create", 2, ">", b"b")
    assert (L(b"a") < 3) == Compare(b"a", "lease", 3, "<")
    assert (Value(b"a") == b"x") == Compare(b"a", "value", b"x")


ANSWERS = {
    "key": (kv(lease=9), ["/a at revision 12,345", "/a", "1", "12,345", "3", "9"]),
    "range": (ranged(kv(), count=7), ["7 keys, 1 of them here; the store is at revision 20,000", "/a"]),
    "empty range": (ranged(), ["0 keys; the store is at revision 20,000"]),
    "put": (PutResult(revision=5), ["put, at revision 5"]),
    "put over": (PutResult(revision=5, prev_kv=kv()), ["put, at revision 5", "Before", "/a"]),
    "delete": (
        DeleteResult(revision=5, deleted=1, prev_kvs=(kv(),)),
        ["deleted 1 key; the store is at revision 5", "/a"],
    ),
    "hash": (HashInfo(hash=255, revision=5, compact_revision=3), ["000000ff, of revision 5", "3"]),
    "snapshot": (
        SnapshotInfo(path="/x.kv", revision=5, size_bytes=4_096, sha256="ab"),
        ["copy of revision 5: /x.kv", "4,096", "ab"],
    ),
    "status": (
        Status(path="/x.kv", revision=5, compact_revision=3, keys=2, leases=1, size_bytes=4_096),
        ["/x.kv: 2 keys at revision 5", "3", "1", "4,096", "False"],
    ),
    "event": (Event(kind="put", kv=kv(), prev_kv=kv(value=b"0")), ["put at revision 12,345", "put", "/a", "1", "0"]),
    "batch": (
        WatchBatch(revision=9, events=(Event(kind="delete", kv=kv(value=b"")),)),
        ["1 event at revision 9", "delete", "/a"],
    ),
    "progress": (WatchBatch(revision=9_999), ["watched through revision 9,999"]),
    "transaction": (
        TxnResult(
            succeeded=True,
            revision=9,
            responses=(
                PutResult(revision=9),
                ranged(kv()),
                ranged(kv(), kv()),
                DeleteResult(revision=9, deleted=2),
                TxnResult(succeeded=False, revision=9),
            ),
        ),
        [
            "every comparison held; the store is at revision 9",
            "put", "/a is 1", "2 keys", "deleted 2 keys", "a comparison did not hold",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_told_in_a_line_with_what_it_holds_below(name: str) -> None:
    answer, expected = ANSWERS[name]

    texts = texts_of(answer._repr_html_())

    assert texts[0] == expected[0]
    assert [text for text in expected if text not in texts] == []


@given(data=st.binary(max_size=300))
def test_any_bytes_can_be_shown(data: bytes) -> None:
    texts = texts_of(ranged(kv(key=b"k" + data, value=data), count=1)._repr_html_())

    assert all(each.isprintable() or each == "\n" for text in texts for each in text)


def test_text_is_shown_as_text_and_what_is_long_is_cut() -> None:
    texts = texts_of(ranged(kv(key="/Öfen/<1>".encode(), value=b"\xff\x00 " + b"x" * 1_000))._repr_html_())

    assert "/Öfen/<1>" in texts
    [value] = [text for text in texts if text.endswith("(1,003 bytes)")]
    assert value.startswith("\\xff\\x00 xxx")
    assert len(value) < 230


def test_of_many_keys_the_first_are_shown() -> None:
    texts = texts_of(ranged(*[kv(key=b"%04d" % number) for number in range(1_000)])._repr_html_())

    assert [text for text in texts if text.isdigit() and len(text) == 4] == [f"{each:04}" for each in range(ROWS_MAX)]
    assert f"and {1_000 - ROWS_MAX} more" in texts
