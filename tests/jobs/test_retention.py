"""What has expired: more the later it is, nothing for a few rows in the future, and nothing that still hides rows."""

from __future__ import annotations

import pytest
from builders import file_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.jobs.retention import GUARD_SHARE, Expiry, expiry_of
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import Sequence
from mitoframe.model.timerange import TIME_MIN
from mitoframe.storage.memtable import RangeStats

TTL = 100


def names(files: tuple[FileMeta, ...]) -> str:
    return "".join(file.file_id[0] for file in files)


def test_a_file_goes_when_its_newest_row_is_too_old():
    files = [file_of("a", 0, 99), file_of("b", 100, 100), file_of("c", 200, 200)]

    expiry = expiry_of(files, TTL, 10**6)

    assert (expiry.cutoff, expiry.measured_at, expiry.newest_time) == (100, 200, 200)
    assert (names(expiry.files), expiry.is_guarded) == ("a", False)


def test_a_wall_clock_that_is_behind_the_data_counts():
    files = [file_of("a", 0, 99), file_of("c", 200, 200)]

    assert expiry_of(files, TTL, 150).cutoff == 50
    assert expiry_of(files, TTL, 150).files == ()


@pytest.mark.parametrize(("rows", "gone", "is_guarded"), [(1, "", True), (2, "ab", False)])
def test_a_single_row_with_a_time_in_the_future_makes_nothing_old(rows, gone, is_guarded):
    files = [file_of("a", 0, 50), file_of("b", 60, 90), file_of("z", 10**6, 10**6, row_count=rows)]

    expiry = expiry_of(files, TTL, 10**9)

    assert (names(expiry.files), expiry.is_guarded) == (gone, is_guarded)


def test_a_single_row_in_the_future_makes_nothing_old_where_it_shares_a_file():
    files = [file_of("a", 0, 50), file_of("b", 60, 90), file_of("z", 80, 10**6)]

    expiry = expiry_of(files, TTL, 10**9)

    assert (names(expiry.files), expiry.is_guarded, expiry.measured_at) == ("", True, 90)


@pytest.mark.parametrize(("rows", "gone"), [(9, ""), (11, "a")])
def test_a_thousandth_of_all_rows_has_to_be_as_new(rows, gone):
    files = [file_of("a", 0, 50, row_count=10 * GUARD_SHARE), file_of("z", 10**6, 10**6, row_count=rows)]

    assert names(expiry_of(files, TTL, 10**9).files) == gone


def test_rows_that_are_in_no_file_yet_count_for_how_new_the_data_is():
    files = [file_of("a", 0, 99)]
    waiting = RangeStats(
        row_count=10,
        delete_count=0,
        min_time=300,
        max_time=400,
        min_sequence=Sequence(11),
        max_sequence=Sequence(20),
    )

    assert names(expiry_of(files, TTL, 10**6).files) == ""
    assert names(expiry_of(files, TTL, 10**6, buffered=[waiting]).files) == "a"


def test_rows_that_wait_in_memory_keep_the_file_that_hides_them():
    files = [file_of("a", 0, 99, min_sequence=Sequence(21), max_sequence=Sequence(30)), file_of("c", 400, 500)]
    waiting = RangeStats(
        row_count=10, delete_count=0, min_time=50, max_time=400, min_sequence=Sequence(1), max_sequence=Sequence(9)
    )

    expiry = expiry_of(files, TTL, 10**6, buffered=[waiting])

    assert (names(expiry.files), names(expiry.waiting)) == ("", "a")


def test_a_file_waits_for_one_that_waits():
    """b hides rows of a, which has rows that are kept; c hides rows of b, which therefore is still there."""
    a, b, c, d = (
        file_of(name, first, last, min_sequence=Sequence(10 * n), max_sequence=Sequence(10 * n + 9))
        for n, (name, first, last) in enumerate([("a", 60, 300), ("b", 30, 70), ("c", 0, 40), ("d", 300, 400)])
    )

    expiry = expiry_of([a, b, c, d], TTL, 10**6)

    assert (names(expiry.files), names(expiry.waiting)) == ("", "cb")
    assert names(expiry_of([b, c, d], TTL, 10**6).files) == "cb"


@pytest.mark.parametrize(("unit", "ticks"), [("ms", 1), ("us", 1000), ("ns", 10**6)])
def test_times_are_counted_in_the_unit_of_the_column(unit, ticks):
    files = [file_of("a", 0, 50 * ticks), file_of("b", 200 * ticks, 200 * ticks)]

    assert expiry_of(files, TTL, 10**6, unit=unit).cutoff == 100 * ticks


def test_a_table_without_rows_and_the_oldest_time_there_is():
    assert expiry_of([], TTL, 0) == Expiry(cutoff=TIME_MIN, measured_at=TIME_MIN, newest_time=None, is_guarded=False)
    assert expiry_of([file_of("a", TIME_MIN, TIME_MIN)], TTL, 0).cutoff == TIME_MIN


def test_what_goes_is_counted():
    files = [file_of("a", 0, 9, row_count=3, size_bytes=5), file_of("b", 20, 29, row_count=4, size_bytes=6)]

    expiry = expiry_of([*files, file_of("c", 500, 500)], TTL, 10**6)

    assert (expiry.row_count, expiry.size_bytes) == (7, 11)


files_of_any_kind = st.lists(
    st.tuples(st.integers(-300, 300), st.integers(0, 150), st.integers(1, 50), st.integers(0, 30), st.integers(1, 9)),
    max_size=10,
).map(
    lambda drawn: [
        file_of(
            f"{n:032x}",
            first,
            first + length,
            min_sequence=Sequence(oldest),
            max_sequence=Sequence(oldest + count),
            row_count=rows,
        )
        for n, (first, length, oldest, count, rows) in enumerate(drawn)
    ]
)


@settings(deadline=None, max_examples=60)
@given(files_of_any_kind, st.integers(1, 400), st.integers(-400, 600), st.integers(0, 300))
def test_the_later_it_is_the_more_has_expired(files, ttl, now, later):
    earlier, after = expiry_of(files, ttl, now), expiry_of(files, ttl, now + later)

    assert earlier.cutoff <= after.cutoff
    assert set(earlier.files) <= set(after.files)


@settings(deadline=None, max_examples=60)
@given(files_of_any_kind, st.integers(1, 400), st.integers(-400, 600), st.sampled_from(["last", "merge", "none"]))
def test_expired_files_are_all_old_and_hide_nothing_that_stays(files, ttl, now, dedup):
    expiry = expiry_of(files, ttl, now, dedup=dedup)

    old = {file for file in files if file.max_time < expiry.cutoff}
    stays = [file for file in files if file not in expiry.files]
    hiding = {
        file
        for file in old
        for other in files
        if other not in expiry.files
        and other != file
        and other.min_time <= file.max_time
        and file.min_time <= other.max_time
        and other.min_sequence < file.max_sequence
    }
    assert {*expiry.files, *expiry.waiting} == old
    assert not set(expiry.files) & set(expiry.waiting)
    assert set(expiry.waiting) == (set() if dedup == "none" else hiding & set(stays))
    assert dedup == "none" or not hiding & set(expiry.files)


@settings(deadline=None, max_examples=60)
@given(files_of_any_kind, st.integers(1, 400))
def test_no_row_expires_because_of_fewer_than_a_thousandth_of_all(files, ttl):
    expiry = expiry_of(files, ttl, 10**6)

    total = sum(file.row_count for file in files)
    as_new = sum(
        file.row_count if file.min_time >= expiry.measured_at else file.max_time >= expiry.measured_at for file in files
    )
    assert as_new >= max(2, total / GUARD_SHARE) or expiry.cutoff == TIME_MIN
