"""The rules on frames written by hand: where each has something to say, and right beside it where it has not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from builders import file_of

import mitoframe as mito
from mitoframe.diagnosis import (
    SERIES_MIN,
    SMALL_BYTES,
    SMALL_FILES_MIN,
    STALE_MS,
    WINDOWS_MIN,
    Facts,
    Pinned,
    Sample,
    findings_of,
)
from mitoframe.model.card import card
from mitoframe.model.flaw import Flaw
from mitoframe.model.ids import ManifestVersion, RegionId
from mitoframe.ports import HeldVersions, Reader

START = datetime(2024, 1, 1)
HOUR_MS = 3_600_000
REGION = RegionId(1)


def files(count: int, size_bytes: int) -> pl.DataFrame:
    return pl.DataFrame({"size_bytes": [size_bytes] * count}, schema={"size_bytes": pl.UInt64})


def plan(windows: int, size_bytes: int, *, file_count: int = 1, merges: int = 0, hours: float = 1) -> pl.DataFrame:
    starts = [START + timedelta(hours=number * hours) for number in range(windows)]
    return pl.DataFrame(
        {
            "window_start": pl.Series(starts, dtype=pl.Datetime("ms")),
            "window_end": pl.Series([start + timedelta(hours=hours) for start in starts], dtype=pl.Datetime("ms")),
            "files": pl.Series([file_count] * windows, dtype=pl.UInt64),
            "size_bytes": pl.Series([size_bytes] * windows, dtype=pl.UInt64),
            "merges": pl.Series([merges] * windows, dtype=pl.UInt64),
        }
    )


HEALTHY = Facts(table="cpu", files=files(3, 9 * SMALL_BYTES), plan=plan(3, 9 * SMALL_BYTES), window_ms=HOUR_MS)
FLAW = Flaw(kind="file", grade="damage", path="sst/a.parquet", what="it is missing", file_id=file_of("a", 0, 9).file_id)
ORPHAN = Flaw(kind="orphan", grade="waste", path="sst/b.parquet", what="nobody lists it", size_bytes=1000)
INDEX = Flaw(kind="index", grade="hint", path="index/a", what="its footer is damaged", file_id=FLAW.file_id)


def kinds(**facts: Any) -> list[str]:
    return [finding.kind for finding in findings_of(replace(HEALTHY, **facts))]


def only(**facts: Any) -> mito.Finding:
    [finding] = findings_of(replace(HEALTHY, **facts))
    return finding


def test_there_is_nothing_to_say_about_a_healthy_table() -> None:
    assert findings_of(HEALTHY) == ()


def test_there_is_nothing_to_say_about_a_table_without_files() -> None:
    assert kinds(files=files(0, 0), plan=plan(0, 0)) == []


def test_small_files_that_could_be_joined_are_found() -> None:
    many = files(SMALL_FILES_MIN, SMALL_BYTES - 1)
    joined = plan(1, SMALL_BYTES, file_count=SMALL_FILES_MIN, merges=1)

    finding = only(files=many, plan=joined)

    assert finding.kind == "tiny_files"
    assert finding.what == "16 of 16 files have less than 1 MiB, and 16 could be joined"
    assert finding.evidence == {
        "files": 16, "small_files": 16, "could_be_joined": 16, "windows": 1, "mean_bytes": SMALL_BYTES - 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("count", "size_bytes", "joined", "merges"),
    [
        (SMALL_FILES_MIN - 1, 1, SMALL_FILES_MIN - 1, 1),
        (SMALL_FILES_MIN, SMALL_BYTES, SMALL_FILES_MIN, 1),
        (SMALL_FILES_MIN, 1, SMALL_FILES_MIN - 1, 1),
        (SMALL_FILES_MIN, 1, SMALL_FILES_MIN, 0),
    ],
    ids=["too few", "large enough", "few to join", "nothing to join"],
)
def test_few_or_large_files_or_such_as_cannot_be_joined_are_not(
    count: int, size_bytes: int, joined: int, merges: int
) -> None:
    assert kinds(files=files(count, size_bytes), plan=plan(1, 10, file_count=joined, merges=merges)) == []


def test_windows_that_hold_too_little_are_found_with_one_that_would_hold_enough() -> None:
    finding = only(plan=plan(WINDOWS_MIN * 100, SMALL_BYTES - 1))

    assert finding.kind == "narrow_windows"
    assert finding.evidence["window"] == "1h"
    assert finding.evidence["wider_window"] == "12h"
    assert 'alter(options={"compaction_window": "12h"})' in finding.advice


@pytest.mark.parametrize(
    ("windows", "size_bytes", "window_ms"),
    [
        (WINDOWS_MIN - 1, 1, HOUR_MS),
        (WINDOWS_MIN, SMALL_BYTES, HOUR_MS),
        (WINDOWS_MIN, 1, 364 * 24 * HOUR_MS),
    ],
    ids=["too few", "full enough", "wide enough"],
)
def test_few_or_full_or_wide_windows_are_not(windows: int, size_bytes: int, window_ms: int) -> None:
    assert kinds(plan=plan(windows, size_bytes), window_ms=window_ms) == []


def test_a_window_need_not_be_wider_than_all_there_is() -> None:
    assert only(plan=plan(WINDOWS_MIN, 10)).evidence["wider_window"] == "7d"


def test_a_sparse_table_gets_the_widest_window_there_is() -> None:
    assert only(plan=plan(WINDOWS_MIN, 10, hours=24 * 28)).evidence["wider_window"] == "364d"


def test_tags_that_are_different_in_nearly_every_row_are_found() -> None:
    sample = Sample(rows=7 * SERIES_MIN, series=SERIES_MIN, values={"host": 3, "request": SERIES_MIN})

    finding = only(sample=sample)

    assert finding.kind == "many_series"
    assert finding.evidence["tag"] == "request"
    assert not finding.can_fix


@pytest.mark.parametrize(
    ("rows", "series"), [(8 * SERIES_MIN, SERIES_MIN), (SERIES_MIN - 1, SERIES_MIN - 1)], ids=["long", "few"]
)
def test_long_or_few_series_are_not(rows: int, series: int) -> None:
    assert kinds(sample=Sample(rows=rows, series=series, values={"host": series})) == []


def test_times_in_the_future_are_found_in_a_table_with_a_time_to_live() -> None:
    finding = only(ttl_ms=1, future_rows=2, future_from=1_704_067_200_000)

    assert finding.kind == "future_times"
    assert finding.is_dangerous
    assert finding.what.startswith("2 rows not before 2024-01-01 00:00:00")


@pytest.mark.parametrize("facts", [{"ttl_ms": None, "future_rows": 2}, {"ttl_ms": 1, "future_rows": 0}])
def test_times_in_the_future_do_not_matter_without_one(facts: dict[str, Any]) -> None:
    assert kinds(**facts) == []


def pinned(overdue_ms: int, *, is_dead: bool = False, is_partial: bool = False) -> Pinned:
    held = HeldVersions(oldest={} if is_partial else {REGION: ManifestVersion(7)}, is_partial=is_partial)
    reader = Reader(
        identifier="0" * 32,
        process_id=None if is_partial else 77,
        host=None if is_partial else "box",
        since_ms=0,
        held=held,
        is_dead=is_dead,
    )
    version = held.of(REGION)
    assert version is not None
    return Pinned(reader=reader, version=version, files=2, size_bytes=3000, overdue_ms=overdue_ms)


def test_a_reader_for_whom_files_stay_for_a_long_time_is_found() -> None:
    finding = only(pins=(pinned(STALE_MS),))

    assert (finding.kind, finding.severity) == ("stale_pin", "warning")
    assert finding.what == "process 77 on box may read version 7, for which 2 files of 3,000 bytes cannot go"
    assert finding.evidence == {
        "pid": 77,
        "host": "box",
        "since": "1970-01-01 00:00:00+00:00",
        "version": 7,
        "files": 2,
        "size_bytes": 3000,
        "overdue_ms": STALE_MS,
        "identifier": "0" * 32,
        "is_dead": False,
    }


def test_a_reader_for_whom_they_have_not_stayed_so_long_is_not() -> None:
    assert kinds(pins=(pinned(STALE_MS - 1), pinned(0))) == []


def test_a_reader_who_has_died_is_found_at_once() -> None:
    assert only(pins=(pinned(0, is_dead=True),)).what.startswith("process 77 on box has died")


def test_a_reader_who_is_not_understood_is_found_too() -> None:
    finding = only(pins=(pinned(STALE_MS, is_partial=True),))

    assert finding.what.startswith("a process may read anything, ")
    assert (finding.evidence["pid"], finding.evidence["version"]) == (None, None)


def test_each_such_reader_is_found() -> None:
    assert kinds(pins=(pinned(STALE_MS), pinned(0), pinned(0, is_dead=True))) == ["stale_pin", "stale_pin"]


def test_orphans_are_found_together() -> None:
    finding = only(flaws=(ORPHAN, replace(ORPHAN, path="sst/c.parquet")))

    assert finding.kind == "orphans"
    assert finding.severity == "info"
    assert finding.evidence == {"paths": ["sst/b.parquet", "sst/c.parquet"], "size_bytes": 2000}


def test_a_damaged_file_is_found_once_with_the_rows_that_are_in_it() -> None:
    file = file_of("a", 1_704_067_200_000, 1_704_067_260_000)
    listed = {file.file_id: file}

    finding = only(flaws=(FLAW, replace(FLAW, what="and more")), listed=listed)

    assert finding.kind == "damaged_file"
    assert finding.severity == "damage"
    assert finding.is_dangerous
    assert finding.what == "sst/a.parquet: it is missing"
    assert (finding.evidence["rows"], finding.evidence["last_time"]) == (10, "2024-01-01 00:01:00")


def test_a_damaged_manifest_has_no_fix() -> None:
    finding = only(flaws=(replace(FLAW, kind="manifest", file_id=None),))

    assert (finding.kind, finding.is_dangerous, finding.can_fix) == ("damaged_file", False, False)


def test_a_damaged_index_is_found_and_is_no_damaged_file() -> None:
    finding = only(flaws=(INDEX,))

    assert (finding.kind, finding.severity) == ("damaged_index", "warning")


def test_damage_comes_first_and_wider_windows_before_joined_files() -> None:
    found = kinds(
        files=files(40, 1),
        plan=plan(40, 1, file_count=2, merges=1),
        flaws=(ORPHAN, INDEX, FLAW),
    )

    assert found == ["damaged_file", "damaged_index", "narrow_windows", "tiny_files", "orphans"]


def test_a_finding_without_a_fix_says_what_to_do_instead() -> None:
    finding = only(flaws=(FLAW,))

    with pytest.raises(mito.InvalidInputError, match="Restore it from a copy"):
        finding.fix(dangerous=True)


def test_a_dangerous_fix_is_done_only_for_who_says_so() -> None:
    done: list[str] = []
    finding = replace(only(ttl_ms=1, future_rows=2), _fix=lambda: done.append("deleted"))

    with pytest.raises(mito.InvalidInputError, match="dangerous=True"):
        finding.fix()
    assert done == []

    finding.fix(dangerous=True)
    assert done == ["deleted"]


def test_a_finding_is_a_line() -> None:
    finding = only(flaws=(ORPHAN,))

    text = (
        "info     orphans         'cpu': 1 object of 1,000 bytes that nobody lists. A crash left them; vacuum() deletes"
    )
    assert repr(finding).startswith(text)
    html = finding._repr_html_()
    assert html.startswith(card(repr(finding)).removesuffix("</div>"))
    assert ">size_bytes</td>" in html
