"""What `verify` finds in a whole store, and that it only looks."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import mitoframe as mito
from mitoframe.model.card import card

START = datetime(2024, 1, 1)
GOLDEN_STORES = Path(__file__).parent / "golden" / "stores"
CPU = "regions/1_0000000000"


def frame(first: int = 0, hosts: str = "ab", load: float = 0.5) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ts": [START + timedelta(minutes=first + minute) for minute in range(10) for _ in hosts],
            "host": list(hosts) * 10,
            "load": [load + minute for minute in range(10) for _ in hosts],
        }
    )


def fill(path: Path, **config: object) -> None:
    """Make a store with files, an index, a snapshot, checkpoints, a journal, and rows that are only in the log."""
    with mito.open(path, flush_on_close=False, compaction_mode="manual", checkpoint_distance=3, **config) as db:
        options = {"index_mode": "sync"}
        db.create_table(
            "cpu",
            {"ts": pl.Datetime("us"), "host": pl.String, "load": pl.Float64},
            time="ts",
            tags=["host"],
            options=options,
        )
        cpu = db["cpu"]
        cpu.alter(indexes={"load": ["inverted", "skipping"]})
        for first in range(0, 40, 10):
            cpu.write(frame(first))
            cpu.flush()
        cpu.snapshot("first")
        cpu.compact()
        cpu.delete(tags={"host": "a"}, end=START + timedelta(minutes=2))
        for first in range(0, 90, 10):
            cpu.write(frame(first, load=0.7))
            cpu.flush()
        cpu.write(frame(50))
        db.write(frame(), "mem", time="ts", tags=["host"], options={"dedup": "none"})


def tree(path: Path) -> dict[str, tuple[bytes, int]]:
    found = [item for item in sorted(path.rglob("*")) if item.is_file()]
    return {str(item.relative_to(path)): (item.read_bytes(), item.stat().st_mtime_ns) for item in found}


def verify(path: Path, *tables: str) -> mito.VerifyReport:
    with mito.open(path, mode="r", gc_grace_ms=0, gc_unknown_grace_ms=0) as db:
        return db.verify(*tables)


def only(path: Path, pattern: str) -> Path:
    return min(path.glob(pattern))


def newest_sst(path: Path) -> Path:
    """Return a file that a table lists; among the older ones are some that nothing needs any more."""
    return max(path.glob(f"{CPU}/sst/*.parquet"), key=lambda file: file.stat().st_mtime_ns)


def flip(path: Path, place: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made")
    fill(path)
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "store")


def test_nothing_is_wrong_with_a_store_as_it_was_written(store: Path) -> None:
    report = verify(store)

    assert report.flaws == ()
    assert not report.is_damaged
    assert report.tables == ("cpu", "mem")
    assert report.files > 9
    assert report.log_entries == 2
    assert report.rows > 200
    assert report.size_bytes > 10_000
    report.raise_if_damaged()


def test_verifying_changes_no_byte_of_the_folder(store: Path) -> None:
    before = tree(store)

    verify(store)

    assert tree(store) == before


def test_the_writing_process_verifies_too_and_writes_on(store: Path) -> None:
    with mito.open(store) as db:
        assert db.verify("cpu").flaws == ()
        assert db.verify().tables == ("cpu", "mem")

        db["cpu"].write(frame(200))
        assert db.verify().flaws == ()


@pytest.mark.parametrize("name", sorted(item.name for item in GOLDEN_STORES.iterdir() if item.is_dir()))
def test_nothing_is_wrong_with_a_store_of_an_earlier_format(name: str) -> None:
    with mito.open(GOLDEN_STORES / name, mode="r") as db:
        report = db.verify()

    assert report.flaws == ()
    assert report.files


def test_a_table_that_is_not_there_is_an_error(store: Path) -> None:
    with pytest.raises(mito.TableNotFoundError), mito.open(store, mode="r") as db:
        db.verify("cpu", "disk")


DAMAGE = {
    "a file's footer": ("file", lambda path: flip(newest_sst(path))),
    "a file's rows": ("file", lambda path: flip(newest_sst(path), 50)),
    "the newest checkpoint": ("manifest", lambda path: flip(max(path.glob(f"{CPU}/manifest/*.checkpoint")))),
    "an older checkpoint": ("manifest", lambda path: flip(only(path, f"{CPU}/manifest/*.checkpoint"))),
    "the newest delta": ("manifest", lambda path: flip(max(path.glob(f"{CPU}/manifest/*.json")))),
    "a missing file": ("file", lambda path: newest_sst(path).unlink()),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_its_path_is_told(store: Path, name: str) -> None:
    kind, damage = DAMAGE[name]
    before = tree(store)
    damage(store)
    after = tree(store)
    [path] = [key for key in before if after.get(key, (b"",))[0] != before[key][0]]

    report = verify(store)

    assert {(flaw.kind, flaw.grade, flaw.path, flaw.table) for flaw in report.flaws} == {(kind, "damage", path, "cpu")}
    assert report.is_damaged
    with pytest.raises(mito.CorruptionError, match=path.rpartition("/")[2]):
        report.raise_if_damaged()


def test_damage_that_came_after_the_bytes_were_compared_is_found(store: Path) -> None:
    with mito.open(store, mode="r") as db:
        db["cpu"].scan().collect()
        assert not db.verify().is_damaged

        flip(newest_sst(store))

        assert db.verify().is_damaged


def test_a_file_that_only_a_snapshot_needs_is_read_too(store: Path) -> None:
    with mito.open(store, mode="r") as db:
        listed = set(db["cpu"].files()["file_id"])
        pinned = [name for name in (store / CPU / "sst").iterdir() if name.stem not in listed]
    for path in pinned:
        flip(path)

    report = verify(store)

    assert {flaw.kind for flaw in report.flaws} == {"file"}
    assert len(report.flaws) == 4


@pytest.mark.parametrize("place", [2, 20])
def test_a_damaged_index_is_a_hint(store: Path, place: int) -> None:
    flip(only(store, f"{CPU}/index/*.index"), place)

    report = verify(store)

    assert {(flaw.kind, flaw.grade) for flaw in report.flaws} == {("index", "hint")}
    assert not report.is_damaged


def test_a_damaged_journal_is_a_hint(store: Path) -> None:
    flip(only(store, f"{CPU}/journal/*.jsonl"))

    report = verify(store)

    assert {(flaw.kind, flaw.grade) for flaw in report.flaws} == {("journal", "hint")}


def test_a_damaged_log_is_found_while_the_store_is_open(store: Path) -> None:
    with mito.open(store, mode="r") as db:
        assert db["cpu"].scan().count()
        segments = sorted((store / "wal").glob("*.wal"), key=lambda path: path.stat().st_size)
        flip(segments[-1], -200)

        report = db.verify("mem")

    assert {(flaw.kind, flaw.grade, flaw.table) for flaw in report.flaws} == {("log", "damage", "mem")}


def test_a_catalog_that_lags_behind_is_a_hint(store: Path) -> None:
    with mito.open(store) as db:
        catalog = db._shared.connection.catalog
        before = catalog.get("cpu").schema
        db["cpu"].alter(add={"room": pl.String})
        catalog.update_schema(catalog.get("cpu"), before)

        report = db.verify("cpu")

    assert [(flaw.kind, flaw.grade, flaw.path) for flaw in report.flaws] == [("catalog", "hint", "catalog.sqlite3")]


def test_what_nobody_lists_is_waste(store: Path) -> None:
    (store / CPU / "sst" / ("0" * 32 + ".parquet")).write_bytes(b"left behind")
    (store / CPU / "index" / ("0" * 32 + ".0000000001.index")).write_bytes(b"left behind")
    (store / CPU / "sst" / "notes.txt").write_bytes(b"somebody else's")

    report = verify(store)

    assert sorted((flaw.kind, flaw.grade, flaw.size_bytes) for flaw in report.flaws) == [("orphan", "waste", 11)] * 2
    assert not report.is_damaged


def test_what_was_just_stored_may_be_listed_soon(store: Path) -> None:
    (store / CPU / "sst" / ("0" * 32 + ".parquet")).write_bytes(b"being written")

    with mito.open(store, mode="r") as db:
        assert db.verify().flaws == ()


def test_a_table_whose_manifest_is_gone_keeps_no_other_from_being_looked_at(store: Path) -> None:
    for path in (store / CPU / "manifest").iterdir():
        path.unlink()
    flip(only(store, "regions/2_0000000000/manifest/*.json"))

    report = verify(store)

    assert [(flaw.table, flaw.kind) for flaw in report.flaws] == [("cpu", "manifest"), ("mem", "manifest")]


def test_a_report_is_a_frame_and_a_text(store: Path) -> None:
    flip(newest_sst(store))

    report = verify(store)

    assert report.to_polars().columns == ["table", "kind", "grade", "path", "what"]
    assert report.to_polars().height == 1
    assert repr(report).startswith("1 flaw in 2 tables (1 damaged): ")
    assert "damage  file        regions/1_0000000000/sst/" in repr(report)
    html = report._repr_html_()
    assert html.startswith(card(repr(report).partition("\n")[0]).removesuffix("</div>"))
    assert (">damage</td>" in html, ">cpu</td>" in html, report.flaws[0].path in html) == (True, True, True)


def test_a_report_without_flaws_says_what_was_looked_at() -> None:
    report = mito.VerifyReport(tables=("a",), files=2, rows=1000, size_bytes=5, log_entries=1)

    assert repr(report) == "nothing is wrong with 1 table: 2 files, 1,000 rows, 5 bytes, 1 log entry"
    assert report._repr_html_() == card(repr(report))


def test_a_long_report_is_cut_as_text() -> None:
    flaws = tuple(
        mito.verifying.Flaw(kind="orphan", grade="waste", path=f"sst/{number}", what="left") for number in range(25)
    )

    text = repr(mito.VerifyReport(tables=("a",), flaws=flaws))

    assert text.splitlines()[0].startswith("25 flaws in 1 table (25 only waste)")
    assert text.endswith("… and 5 more")


def test_files_may_be_exchanged_and_deleted_by_a_writer_meanwhile(tmp_path: Path) -> None:
    with mito.open(tmp_path, compaction_mode="manual", gc_grace_ms=0, gc_unknown_grace_ms=0) as db:
        for first in range(0, 30, 10):
            db.write(frame(first), "cpu", time="ts", tags=["host"])
            db["cpu"].flush()
        told: list[int] = []

        def compact_once(size_bytes: int) -> None:
            if not told:
                db["cpu"].compact()
                db["cpu"].vacuum()
            told.append(size_bytes)

        checked = db.engine.verifying.verify(db["cpu"].region_id, compact_once)

    assert checked.flaws == ()
    assert len(told) == 3
