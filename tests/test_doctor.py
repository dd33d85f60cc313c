"""What the doctor sees in real stores, and what its fixes do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import mitoframe as mito
from mitoframe import registry
from mitoframe.diagnosis import SERIES_MIN
from mitoframe.drivers.clock import SystemClock
from mitoframe.model.card import ROWS_MAX, card

START = datetime(2024, 1, 1)


def frame(start: datetime, hosts: list[str] | None = None, load: float = 0.5) -> pl.DataFrame:
    names = hosts or ["a"]
    return pl.DataFrame({"ts": [start] * len(names), "host": names, "load": [load] * len(names)})


def fill(db: mito.Database, starts: list[datetime], **options: Any) -> mito.Table:
    """Write a file per time."""
    for place, start in enumerate(starts):
        db.write(frame(start), "cpu", time="ts", tags=["host"], options=options if options and not place else None)
        db["cpu"].flush()
    return db["cpu"]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[mito.Database]:
    with mito.open(tmp_path, compaction_mode="manual", gc_grace_ms=1000, gc_unknown_grace_ms=1000) as database:
        yield database


def kinds(report: mito.DoctorReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def values(table: mito.Table) -> list[tuple[Any, ...]]:
    return table.scan().collect().sort("ts", "host").rows()


def hours(count: int, step: int = 1) -> list[datetime]:
    return [START + timedelta(hours=step * number) for number in range(count)]


def test_small_files_are_found_and_joined(db: mito.Database) -> None:
    cpu = fill(db, hours(20), compaction_window="7d")
    before = values(cpu)

    report = db.doctor()
    result = report.fix()

    assert kinds(report) == ["tiny_files"]
    assert [type(done).__name__ for _, done in result.done] == ["CompactResult"]
    assert cpu.files().height == 1
    assert db.doctor().findings == ()
    assert values(cpu) == before


def test_a_few_small_files_are_not_found(db: mito.Database) -> None:
    fill(db, hours(4), compaction_window="7d")

    assert kinds(db.doctor()) == []


def test_narrow_windows_are_found_and_widened(db: mito.Database) -> None:
    cpu = fill(db, hours(40), compaction_window="1h")
    before = values(cpu)

    report = db.doctor()
    report.fix()

    assert kinds(report) == ["narrow_windows"]
    assert db.engine.region(cpu.region_id).options.compaction_window_ms == 7 * 86_400_000
    assert cpu.files().height <= 2
    assert db.doctor().findings == ()
    assert values(cpu) == before


def test_wide_windows_are_not_found(db: mito.Database) -> None:
    fill(db, hours(10), compaction_window="1h")

    assert kinds(db.doctor()) == []


def test_many_series_are_found_and_cannot_be_mended(db: mito.Database) -> None:
    names = [f"request-{number}" for number in range(SERIES_MIN)]
    db.write(frame(START, names), "cpu", time="ts", tags=["host"])
    db["cpu"].flush()

    report = db.doctor()
    result = report.fix(dangerous=True)

    assert kinds(report) == ["many_series"]
    assert report.findings[0].evidence["tag"] == "host"
    assert report.to_polars()["fix"].to_list() == [None]
    assert [finding.kind for finding in result.left] == ["many_series"]


def test_series_that_go_on_from_file_to_file_are_not_found(db: mito.Database) -> None:
    names = [f"sensor-{number}" for number in range(SERIES_MIN)]
    for start in hours(9, 24):
        db.write(frame(start, names), "cpu", time="ts", tags=["host"], options=None)
        db["cpu"].flush()

    assert kinds(db.doctor()) == []


@pytest.mark.parametrize("dedup", ["last", "none"])
def test_rows_of_the_future_are_found_and_deleted_only_for_who_says_so(db: mito.Database, dedup: str) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    cpu = fill(db, [now - timedelta(hours=1), now + timedelta(days=40)], ttl="365d", dedup=dedup)

    report = db.doctor()

    assert kinds(report) == ["future_times"]
    assert report.findings[0].evidence["rows"] == 1
    assert [finding.kind for finding in report.fix().left] == ["future_times"]
    assert cpu.scan().count() == 2
    with pytest.raises(mito.InvalidInputError, match="gives rows up for good"):
        report.findings[0].fix()

    assert report.fix(dangerous=True).left == ()
    assert [row[0] if isinstance(row[0], datetime) else row[1] for row in values(cpu)] == [now - timedelta(hours=1)]
    assert kinds(db.doctor()) == []


def test_rows_of_this_evening_are_not_found(db: mito.Database) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    fill(db, [now, now + timedelta(hours=12)], ttl="365d")

    assert kinds(db.doctor()) == []


def test_orphans_are_found_and_deleted(db: mito.Database, tmp_path: Path) -> None:
    fill(db, hours(1))
    left = tmp_path / "regions" / "1_0000000000" / "sst" / ("0" * 32 + ".parquet")
    left.write_bytes(b"left behind")
    os.utime(left, (0, 0))

    report = db.doctor()
    report.fix()

    assert kinds(report) == ["orphans"]
    assert not left.exists()
    assert kinds(db.doctor()) == []


def test_what_was_just_stored_is_no_orphan(db: mito.Database, tmp_path: Path) -> None:
    fill(db, hours(1))
    (tmp_path / "regions" / "1_0000000000" / "sst" / ("0" * 32 + ".parquet")).write_bytes(b"being written")

    assert kinds(db.doctor()) == []


def test_files_that_were_replaced_and_wait_for_their_deletion_are_no_orphans(tmp_path: Path) -> None:
    with mito.open(tmp_path, compaction_mode="manual", gc_grace_ms=1000, gc_unknown_grace_ms=1000) as db:
        fill(db, hours(3), compaction_window="7d")
        db["cpu"].compact()
        for path in (tmp_path / "regions" / "1_0000000000" / "sst").iterdir():
            os.utime(path, (0, 0))
        time.sleep(1.1)

        assert kinds(db.doctor()) == []


class SlowClock(SystemClock):
    """Is behind by so many hours."""

    def __init__(self, hours: int) -> None:
        self._behind_ms = hours * 3_600_000

    def now_ms(self) -> int:
        return super().now_ms() - self._behind_ms


def merged_beside_a_reader(path: Path, hours_ago: int) -> None:
    """Merge the files of a table, so many hours ago."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "SystemClock", partial(SlowClock, hours_ago))
        with mito.open(path, compaction_mode="manual", gc_grace_ms=1000) as writing:
            writing["cpu"].compact()


@pytest.mark.parametrize(("hours_ago", "found"), [(26, ["stale_pin"]), (23, [])])
def test_a_reader_for_whom_files_stay_is_found_and_not_mended(tmp_path: Path, hours_ago: int, found: list[str]) -> None:
    with mito.open(tmp_path, compaction_mode="manual", gc_grace_ms=1000) as writing:
        fill(writing, [START, START])
    with mito.open(tmp_path, mode="r") as reading:
        changes = reading["cpu"].diff(1, 2)
        merged_beside_a_reader(tmp_path, hours_ago)

        with mito.open(tmp_path, compaction_mode="manual", gc_grace_ms=1000) as db:
            report, kept = db.doctor(), db["cpu"].vacuum(dry_run=True).kept
            result = report.fix()

            assert kinds(report) == found
            assert {file.why for file in kept} == {"reader"}
            assert result.left == report.findings, "the process lives"
            for finding in report.findings:
                assert (finding.evidence["pid"], finding.evidence["host"]) == (os.getpid(), socket.gethostname())
                assert finding.evidence["files"] == len(kept) == 2
                assert finding.evidence["size_bytes"] == sum(file.size_bytes for file in kept)
        assert kinds(reading.doctor()) == found
        assert changes.collect().height == 0, "the second time nothing else was written"

    with mito.open(tmp_path, compaction_mode="manual", gc_grace_ms=1000) as db:
        assert db.doctor().findings == ()


def ended() -> int:
    """Return the number of a process that there is no more."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        pass
    return process.pid


def leave_pin(path: Path, process_id: int, *tables: mito.Table) -> None:
    """Leave what a process does that was killed, with a lock that cannot be tried."""
    oldest = {str(table.region_id): 1 for table in tables}
    body = {"format": 1, "pid": process_id, "host": socket.gethostname(), "oldest": oldest}
    (path / "readers" / f"{'0' * 32}.lock").mkdir(parents=True)
    (path / "readers" / f"{'0' * 32}.json").write_text(json.dumps(body))


def test_what_a_reader_left_who_has_died_is_found_and_removed(db: mito.Database, tmp_path: Path) -> None:
    cpu = fill(db, [START, START])
    db.write(frame(START), "disk", time="ts", tags=["host"])
    db["disk"].flush()
    cpu.compact()
    leave_pin(tmp_path, ended(), cpu, db["disk"])
    assert {file.why for file in cpu.vacuum("0s", dry_run=True).kept} == {"reader"}

    report = db.doctor()
    result = report.fix()

    assert [(finding.kind, finding.table) for finding in report.findings] == [
        ("stale_pin", "cpu"),
        ("stale_pin", "disk"),
    ]
    assert [finding.evidence["files"] for finding in report.findings] == [2, 0]
    assert [type(done).__name__ for _, done in result.done] == ["VacuumResult", "VacuumResult"]
    assert db.doctor().findings == ()
    assert len(cpu.vacuum("0s").removed) == 2


def test_a_reader_who_lives_is_not_taken_for_dead(db: mito.Database, tmp_path: Path) -> None:
    leave_pin(tmp_path, os.getpid(), fill(db, [START]))

    assert kinds(db.doctor()) == []


def test_a_reader_who_lives_after_all_is_left_alone(db: mito.Database, tmp_path: Path) -> None:
    leave_pin(tmp_path, ended(), fill(db, [START]))
    report = db.doctor()
    said = tmp_path / "readers" / f"{'0' * 32}.json"
    said.write_text(json.dumps(json.loads(said.read_text()) | {"pid": os.getpid()}))

    [(finding, error)] = report.fix().failed

    assert finding.kind == "stale_pin"
    assert isinstance(error, mito.UnavailableError)
    assert said.exists()


def test_who_only_reads_does_not_remove_what_a_dead_one_left(tmp_path: Path) -> None:
    with mito.open(tmp_path, compaction_mode="manual") as writing:
        leave_pin(tmp_path, ended(), fill(writing, [START]))

    with mito.open(tmp_path, mode="r") as db:
        report = db.doctor()
        with pytest.raises(mito.ReadOnlyError):
            report.fix()

        assert kinds(report) == kinds(db.doctor()) == ["stale_pin"]


def test_a_missing_file_is_found_and_its_rows_given_up_only_for_who_says_so(db: mito.Database, tmp_path: Path) -> None:
    cpu = fill(db, hours(3), compaction_window="1h")
    lost = cpu.files().sort("min_time")["file_id"][1]
    (tmp_path / "regions" / "1_0000000000" / "sst" / f"{lost}.parquet").unlink()

    report = db.doctor()

    assert kinds(report) == ["damaged_file"]
    assert report.findings[0].evidence["file_id"] == lost
    assert report.fix().left == report.findings
    with pytest.raises(mito.CorruptionError):
        cpu.scan().collect()

    assert report.fix(dangerous=True).failed == ()
    assert [row[1] for row in values(cpu)] == [START, START + timedelta(hours=2)]
    assert kinds(db.doctor()) == []


def test_a_flipped_bit_is_found_by_a_thorough_look_alone(db: mito.Database, tmp_path: Path) -> None:
    cpu = fill(db, hours(2), compaction_window="1h")
    path = tmp_path / "regions" / "1_0000000000" / "sst" / f"{cpu.files()['file_id'][0]}.parquet"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))

    assert kinds(db.doctor()) == []
    report = db.doctor(thorough=True)

    assert kinds(report) == ["damaged_file"]
    assert report.fix(dangerous=True).failed == ()
    assert db.doctor(thorough=True).findings == ()
    assert cpu.scan().count() == 1


def test_a_damaged_index_is_found_by_a_thorough_look_and_built_anew(db: mito.Database, tmp_path: Path) -> None:
    cpu = fill(db, hours(2), index_mode="manual")
    cpu.alter(indexes={"load": ["inverted"]})
    cpu.build_index()
    path = min((tmp_path / "regions" / "1_0000000000" / "index").iterdir())
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))

    report = db.doctor(thorough=True)
    result = report.fix()

    assert kinds(report) == ["damaged_index"]
    assert [type(done).__name__ for _, done in result.done] == ["IndexResult"]
    assert db.doctor(thorough=True).findings == ()


def test_a_damaged_manifest_is_found_and_keeps_no_other_table_from_being_looked_at(tmp_path: Path) -> None:
    with mito.open(tmp_path, compaction_mode="manual") as db:
        fill(db, hours(20), compaction_window="7d")
        db.write(frame(START), "other", time="ts", tags=["host"])
    for path in (tmp_path / "regions" / "2_0000000000" / "manifest").iterdir():
        path.unlink()

    with mito.open(tmp_path, mode="r") as db:
        report = db.doctor()

    assert [(finding.table, finding.kind) for finding in report.findings] == [
        ("cpu", "tiny_files"),
        ("other", "damaged_file"),
    ]
    assert not report.findings[1].can_fix


def test_who_only_reads_is_told_and_cannot_mend(tmp_path: Path) -> None:
    with mito.open(tmp_path, compaction_mode="manual") as db:
        fill(db, hours(20), compaction_window="7d")

    with mito.open(tmp_path, mode="r") as db:
        report = db.doctor("cpu")

        assert kinds(report) == ["tiny_files"]
        with pytest.raises(mito.ReadOnlyError):
            report.fix()


def test_what_fails_keeps_none_of_the_others_from_being_mended() -> None:
    done: list[str] = []

    def fails() -> None:
        raise mito.BusyError("somebody else is at it")

    plain = {"table": "cpu", "severity": "info", "what": "w", "evidence": {}, "advice": "Do it."}
    findings = (
        mito.Finding(kind="first", _fix=fails, **plain),
        mito.Finding(kind="second", _fix=lambda: done.append("second"), **plain),
        mito.Finding(kind="third", **plain),
    )

    result = mito.DoctorReport(tables=("cpu",), findings=findings).fix()

    assert done == ["second"]
    assert repr(result).splitlines() == [
        "mended  second of 'cpu': None",
        "failed  first of 'cpu': somebody else is at it",
        "left    third of 'cpu': Do it.",
    ]
    html = result._repr_html_()
    assert html.startswith(card("1 mended, 1 failed, 1 left").removesuffix("</div>"))
    assert [f">{word}</td>" in html for word in ("None", "somebody else is at it", "Do it.")] == [True] * 3
    assert mito.FixResult()._repr_html_() == card("nothing to mend")


def test_a_report_is_a_frame_and_a_text(db: mito.Database) -> None:
    fill(db, hours(20), compaction_window="7d")

    report = db.doctor()

    assert report.to_polars().columns == ["table", "kind", "severity", "what", "advice", "fix", "evidence"]
    assert report.to_polars()["fix"].to_list() == ["yes"]
    assert repr(report).startswith("1 finding in 1 table\n  warning  tiny_files      'cpu': 20 of 20 files")
    assert repr(mito.DoctorReport(tables=())) == "nothing to say about 0 tables"


def test_a_report_is_a_card_in_a_notebook() -> None:
    plain: dict[str, Any] = {"kind": "orphans", "severity": "info", "evidence": {}, "advice": "Do it."}
    findings = [mito.Finding(table="<b>", what=f"seen {number}", **plain) for number in range(ROWS_MAX)]
    perilous = mito.Finding(table="cpu", what="seen", is_dangerous=True, _fix=list, **plain)

    html = mito.DoctorReport(tables=("cpu",), findings=(perilous, *findings))._repr_html_()

    assert html.startswith(card(f"{ROWS_MAX + 1} findings in 1 table").removesuffix("</div>"))
    assert (">dangerous</td>" in html, "&lt;b&gt;" in html, "<b>" in html) == (True, True, False)
    assert f">seen {ROWS_MAX - 2}</td>" in html
    assert f">seen {ROWS_MAX - 1}</td>" not in html
    assert "and 1 more" in html
    assert mito.DoctorReport(tables=())._repr_html_() == card("nothing to say about 0 tables")
