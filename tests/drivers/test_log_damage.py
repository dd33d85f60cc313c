"""What the log makes of bytes that are not as it wrote them: every flip, every cut, every file swapped or gone."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

import google_crc32c
import pytest
from log_scenarios import entries_of, open_log, overwrite, segment_paths

from mitoframe.drivers import log_segment
from mitoframe.drivers.log_segment import HEADER_SIZE_BYTES, RECORD_HEADER_SIZE_BYTES
from mitoframe.model.errors import ConfigError, CorruptionError
from mitoframe.model.ids import RegionId
from mitoframe.testing.vfs_memory import MemoryVfs

ENTRIES = {1: (1, b"one"), 2: (2, b"two" * 30), 3: (1, b""), 4: (1, b"four" * 10), 5: (2, b"five")}


def write_log(*, close: bool, segment_size_bytes: int = 10_000) -> MemoryVfs:
    vfs = MemoryVfs()
    log = open_log(vfs, segment_size_bytes=segment_size_bytes)
    for region, payload in ENTRIES.values():
        log.append([(RegionId(region), [payload])])
        log.sync()
    if close:
        log.close()
    return vfs if close else vfs.killed()


def three_segments() -> MemoryVfs:
    vfs = write_log(close=True, segment_size_bytes=150)
    assert len(segment_paths(vfs)) == 3
    return vfs


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def opening(vfs, **options):
    """Return the entries, or the error."""
    try:
        return entries_of(open_log(vfs, **options))
    except CorruptionError as error:
        return error


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(("close", "segment_size_bytes"), [(True, 10_000), (False, 10_000), (True, 150), (False, 150)])
def test_a_flipped_bit_is_reported_or_harmless(close, segment_size_bytes, read_only):
    vfs = write_log(close=close, segment_size_bytes=segment_size_bytes)
    reported = harmless = 0

    for path in segment_paths(vfs):
        data = vfs.read(path)
        for bit in range(0, 8 * len(data), 3 if read_only else 1):
            image = vfs.killed()
            overwrite(image, path, flip(data, bit))

            outcome = opening(image, read_only=read_only)

            if isinstance(outcome, CorruptionError):
                assert outcome.path.startswith("memory:")
                assert outcome.offset is not None
                reported += 1
            else:
                assert outcome == ENTRIES, f"bit {bit} of {path}"
                harmless += 1

    assert reported > 0.8 * (reported + harmless)


def test_after_a_restart_a_flipped_bit_of_a_closed_log_is_still_reported_or_harmless():
    vfs = write_log(close=True).crash(keep="all")
    (path,) = segment_paths(vfs)
    data = vfs.read(path)

    for bit in range(8 * len(data)):
        image = vfs.killed()
        overwrite(image, path, flip(data, bit))
        outcome = opening(image)
        assert isinstance(outcome, CorruptionError) or outcome == ENTRIES, f"bit {bit}"


def test_after_a_restart_a_flipped_bit_of_an_unclosed_log_loses_at_most_what_no_later_record_vouches_for():
    vfs = write_log(close=False).crash(keep="all")
    (path,) = segment_paths(vfs)
    data = vfs.read(path)
    # The last record was synced, but nothing after it says so.
    vouched_for = {entry_id: entry for entry_id, entry in ENTRIES.items() if entry_id < 5}

    for bit in range(8 * len(data)):
        image = vfs.killed()
        overwrite(image, path, flip(data, bit))
        outcome = opening(image)
        assert isinstance(outcome, CorruptionError) or outcome in (ENTRIES, vouched_for), f"bit {bit}"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_cut_end_is_dropped_and_a_cut_elsewhere_is_reported(restarted):
    vfs = write_log(close=False, segment_size_bytes=150)
    vfs = vfs.crash(keep="all") if restarted else vfs
    *older, last = segment_paths(vfs)

    for path in older:
        data = vfs.read(path)
        for length in range(len(data)):
            image = vfs.killed()
            overwrite(image, path, data[:length])
            assert isinstance(opening(image), CorruptionError)

    data = vfs.read(last)
    prefixes = [{k: v for k, v in ENTRIES.items() if k <= through} for through in range(len(ENTRIES) + 1)]
    for length in range(len(data)):
        image = vfs.killed()
        overwrite(image, last, data[:length])
        log = open_log(image)
        assert entries_of(log) in prefixes
        at_a_boundary = length == HEADER_SIZE_BYTES
        assert at_a_boundary or (log.damage is not None and log.damage.torn and log.damage.path.endswith(last))
        assert log.append([(RegionId(1), [b"on"])]) == max(entries_of(log))


def test_garbage_and_zeros_after_a_power_loss_are_dropped_and_counted():
    for tail in (bytes(1000), b"\xff" * 77, b"MREC" * 100, bytes(10)):
        vfs = write_log(close=False).crash(keep="all")
        (path,) = segment_paths(vfs)
        overwrite(vfs, path, vfs.read(path) + tail)

        log = open_log(vfs)

        assert entries_of(log) == ENTRIES
        assert log.damage is not None
        assert (log.damage.torn, log.damage.bytes_lost) == (True, len(tail))
        assert open_log(vfs.killed()).damage is None


def test_garbage_in_the_same_boot_is_damage_because_a_kill_leaves_none():
    vfs = write_log(close=False)
    (path,) = segment_paths(vfs)
    overwrite(vfs, path, vfs.read(path) + bytes(1000))

    assert isinstance(opening(vfs), CorruptionError)


def test_a_payload_that_looks_like_a_record_proves_nothing():
    donor = write_log(close=True)
    stolen = donor.read(segment_paths(donor)[0])
    vfs = MemoryVfs()
    log = open_log(vfs)
    log.append([(RegionId(1), [b"kept"])])
    log.sync()
    log.append([(RegionId(1), [stolen * 2])])
    image = vfs.crash(keep="all")
    (path,) = segment_paths(image)
    overwrite(image, path, image.read(path)[:-1])

    reopened = open_log(image)

    assert entries_of(reopened) == {1: (1, b"kept")}


def missing(vfs: MemoryVfs) -> None:
    vfs.unlink(segment_paths(vfs)[1])


def swapped(vfs: MemoryVfs) -> None:
    first, middle, _ = segment_paths(vfs)
    contents = vfs.read(first), vfs.read(middle)
    overwrite(vfs, middle, contents[0])
    overwrite(vfs, first, contents[1])


def renamed(vfs: MemoryVfs) -> None:
    _, middle, _ = segment_paths(vfs)
    overwrite(vfs, "wal/00000000000000000002.wal", vfs.read(middle))
    vfs.unlink(middle)


def doubled(vfs: MemoryVfs) -> None:
    overwrite(vfs, "wal/00000000000000000009.wal", vfs.read(segment_paths(vfs)[-1]))


def doubled_over_another(vfs: MemoryVfs) -> None:
    first, middle, _ = segment_paths(vfs)
    overwrite(vfs, middle, vfs.read(first))


def of_another_store(vfs: MemoryVfs) -> None:
    foreign = MemoryVfs()
    log = open_log(foreign, store_id="f" * 32)
    log.append([(RegionId(1), [b"x"])])
    log.close()
    overwrite(vfs, segment_paths(vfs)[0], foreign.read(segment_paths(foreign)[0]))


def empty(vfs: MemoryVfs) -> None:
    overwrite(vfs, segment_paths(vfs)[1], b"")


def cut_in_its_header(vfs: MemoryVfs) -> None:
    _, middle, _ = segment_paths(vfs)
    overwrite(vfs, middle, vfs.read(middle)[:50])


def shortened_at_a_record(vfs: MemoryVfs) -> None:
    first, *_ = segment_paths(vfs)
    data = vfs.read(first)
    header = log_segment.decode_header(data, path=first)
    chain, _ = log_segment.scan(data, header, boot=header.boot)
    overwrite(vfs, first, data[: chain.places[-1].offset])


NINTH = "00000000000000000009.wal"
# What was done; the entries before it; the segment that is blamed; what is said of it.
WRONG_FILES = [
    (missing, 2, "00000000000000000005.wal", "the segment before it, 00000000000000000003.wal, is missing"),
    (swapped, 0, "00000000000000000001.wal", "the two were swapped"),
    (renamed, 2, "00000000000000000002.wal", "holds the segment 00000000000000000003.wal, .* it was renamed"),
    (doubled, 5, NINTH, "a second copy of the segment 00000000000000000005.wal"),
    (doubled_over_another, 2, "00000000000000000003.wal", "a second copy of the segment 00000000000000000001.wal"),
    (of_another_store, 0, "00000000000000000001.wal", "the segment is of another store"),
    (empty, 2, "00000000000000000003.wal", "the segment is empty"),
    (cut_in_its_header, 2, "00000000000000000003.wal", "the segment's header is incomplete"),
    (shortened_at_a_record, 1, "00000000000000000001.wal", "ends after entry 1, but was written to 2"),
]


@pytest.mark.parametrize("recovery", ["tolerate_torn_tail", "strict"])
@pytest.mark.parametrize(("harm", "before", "blamed", "message"), WRONG_FILES)
def test_each_wrong_file_is_told_apart_and_nothing_is_touched(harm, before, blamed, message, recovery):
    vfs = three_segments()
    harm(vfs)
    names = vfs.list("wal")

    for read_only in (False, True):
        with pytest.raises(CorruptionError, match=message) as caught:
            open_log(vfs, recovery=recovery, read_only=read_only)
        assert caught.value.path.endswith(blamed)
        assert f"at byte {caught.value.offset}: " in str(caught.value)
        assert 'mode="r"' in str(caught.value)
        assert 'wal_recovery="point_in_time"' in str(caught.value)

    assert vfs.list("wal") == names


@pytest.mark.parametrize(("harm", "before", "blamed", "message"), WRONG_FILES)
def test_a_log_that_ends_before_a_wrong_file_says_what_is_wrong_with_it_and_goes_on(harm, before, blamed, message):
    vfs = three_segments()
    harm(vfs)
    intact = {entry_id: entry for entry_id, entry in ENTRIES.items() if entry_id <= before}

    log = open_log(vfs, recovery="point_in_time")

    assert entries_of(log) == intact
    assert log.damage is not None
    assert log.damage.path.endswith(blamed)
    assert re.search(message, log.damage.reason)
    assert not log.damage.torn
    entry_id = log.append([(RegionId(1), [b"on"])])
    assert entry_id > len(ENTRIES)
    log.close()
    assert entries_of(open_log(vfs, recovery="strict")) == intact | {entry_id: (1, b"on")}


@pytest.mark.parametrize("cut", [1, RECORD_HEADER_SIZE_BYTES + 2])
def test_a_torn_end_is_refused_where_that_was_asked_for_and_only_there(cut):
    vfs = write_log(close=False).crash(keep="all")
    (path,) = segment_paths(vfs)
    data = vfs.read(path)[:-cut]
    overwrite(vfs, path, data)
    intact = {entry_id: entry for entry_id, entry in ENTRIES.items() if entry_id < 5}
    start = len(data) + cut - RECORD_HEADER_SIZE_BYTES - len(ENTRIES[5][1])

    with pytest.raises(CorruptionError, match="is incomplete") as caught:
        open_log(vfs, recovery="strict")
    assert (caught.value.path, caught.value.offset) == (f"memory://{path}", start)
    assert 'wal_recovery="tolerate_torn_tail"' in str(caught.value)
    assert vfs.read(path) == data

    assert entries_of(open_log(vfs, recovery="strict", read_only=True)) == intact
    for recovery in ("tolerate_torn_tail", "point_in_time"):
        log = open_log(vfs.killed(), recovery=recovery)
        assert entries_of(log) == intact
        assert log.damage.torn


@pytest.mark.parametrize("close", [True, False])
def test_a_log_that_is_whole_is_opened_by_all(close):
    for recovery in ("tolerate_torn_tail", "strict", "point_in_time"):
        vfs = write_log(close=close)
        for _ in range(2):
            log = open_log(vfs, recovery=recovery)
            assert (entries_of(log), log.damage) == (ENTRIES, None)
            log.close()


@pytest.mark.parametrize("content", [b"", b"MITOWAL\x01"])
def test_a_newest_segment_that_never_got_its_header_is_torn(content):
    vfs = three_segments()
    overwrite(vfs, f"wal/{NINTH}", content)

    with pytest.raises(CorruptionError, match="is empty" if not content else "header is incomplete") as caught:
        open_log(vfs, recovery="strict")
    assert 'wal_recovery="tolerate_torn_tail"' in str(caught.value)
    assert caught.value.path.endswith(NINTH)

    log = open_log(vfs)
    assert entries_of(log) == ENTRIES
    assert log.damage.torn
    assert NINTH not in vfs.list("wal")


@pytest.mark.parametrize("change", [{"version": 2}, {"flags": 2}])
def test_a_newer_format_is_refused_and_nothing_is_touched(change):
    vfs = write_log(close=True)
    (path,) = segment_paths(vfs)
    data = vfs.read(path)
    header = log_segment.decode_header(data, path=path)
    newer = replace(header, **change).encode() + data[HEADER_SIZE_BYTES:]
    overwrite(vfs, path, newer)

    for options in ({}, {"read_only": True}, {"recovery": "strict"}, {"recovery": "point_in_time"}):
        with pytest.raises(ConfigError, match=r"00001\.wal: written by a newer mitoframe"):
            open_log(vfs, **options)

    assert vfs.read(path) == newer


def test_a_record_of_right_checksum_in_the_wrong_place_is_damage():
    vfs = write_log(close=False).crash(keep="all")
    (path,) = segment_paths(vfs)
    data = vfs.read(path)
    first_record = data[HEADER_SIZE_BYTES : HEADER_SIZE_BYTES + RECORD_HEADER_SIZE_BYTES + 3]
    overwrite(vfs, path, data + first_record)

    with pytest.raises(CorruptionError, match="does not follow"):
        open_log(vfs)


@pytest.mark.parametrize(
    ("closed", "change", "message"),
    [
        (False, {"last_entry_id": 7}, "entry 8 stands where entry 6 belongs"),
        (False, {"last_entry_id": 4}, "entry 5 stands where entry 6 belongs"),
        (False, {"last_checksum": 7}, "does not follow"),
        (True, {}, "follows the seal"),
    ],
)
def test_a_whole_record_that_cannot_stand_there_is_damage(closed, change, message):
    vfs = write_log(close=closed).crash(keep="all")
    (path,) = segment_paths(vfs)
    data = vfs.read(path)
    chain, _ = log_segment.scan(data, log_segment.decode_header(data, path=path), boot=bytes(16))
    overwrite(
        vfs, path, data + log_segment.encode_record(replace(chain, **change), [], region_id=1, kind=0, synced_through=0)
    )

    with pytest.raises(CorruptionError, match=message) as caught:
        open_log(vfs)

    assert caught.value.offset == len(data)


@pytest.mark.parametrize(("kind", "synced_through", "message"), [(2, 0, "unknown kind"), (0, 2**40, "already durable")])
def test_a_whole_record_with_an_impossible_field_is_damage(kind, synced_through, message):
    vfs = write_log(close=False).crash(keep="all")
    (path,) = segment_paths(vfs)
    data = vfs.read(path)
    chain, _ = log_segment.scan(data, log_segment.decode_header(data, path=path), boot=bytes(16))
    record = log_segment.encode_record(chain, [], region_id=1, kind=kind, synced_through=synced_through)
    overwrite(vfs, path, data + record)

    with pytest.raises(CorruptionError, match=message):
        open_log(vfs)


@pytest.mark.parametrize("harmed", [0, 1, 2])
def test_accepted_damage_keeps_what_is_before_it_sets_the_rest_aside_and_gives_no_id_twice(harmed):
    vfs = three_segments()
    paths = segment_paths(vfs)
    originals = {path: vfs.read(path) for path in paths}
    overwrite(vfs, paths[harmed], flip(originals[paths[harmed]], 8 * (HEADER_SIZE_BYTES + 8)))
    harmed_bytes = vfs.read(paths[harmed])
    intact = {k: v for k, v in ENTRIES.items() if k < int(paths[harmed][4:24])}

    log = open_log(vfs, recovery="point_in_time")

    assert entries_of(log) == intact
    assert log.damage is not None
    assert (log.damage.torn, log.damage.offset) == (False, HEADER_SIZE_BYTES)
    assert log.damage.bytes_lost > 0
    assert log.last_id() >= 5
    assert vfs.read(paths[harmed] + ".damaged") == harmed_bytes
    for path in paths[harmed + 1 :]:
        assert vfs.read(path + ".damaged") == originals[path]

    entry_id = log.append([(RegionId(1), [b"on"])])
    log.sync()
    for image in (vfs.killed(), vfs.crash()):
        again = open_log(image)
        assert again.damage is None
        assert entries_of(again) == intact | {entry_id: (1, b"on")}


def test_a_reader_that_accepts_damage_reads_what_is_before_it_and_touches_nothing():
    vfs = three_segments()
    _, middle, _ = segment_paths(vfs)
    overwrite(vfs, middle, flip(vfs.read(middle), 8 * (HEADER_SIZE_BYTES + 8)))
    names = vfs.list("wal")

    log = open_log(vfs, read_only=True, recovery="point_in_time")

    assert entries_of(log) == {1: ENTRIES[1], 2: ENTRIES[2]}
    assert log.damage is not None
    assert not log.damage.torn
    assert vfs.list("wal") == names


def test_bytes_that_change_after_opening_are_noticed_when_they_are_read():
    vfs = write_log(close=True)
    (path,) = segment_paths(vfs)
    log = open_log(vfs, read_only=True)
    overwrite(vfs, path, flip(vfs.read(path), 8 * (HEADER_SIZE_BYTES + RECORD_HEADER_SIZE_BYTES)))

    with pytest.raises(CorruptionError, match="entry 1 is no longer"):
        entries_of(log)


def test_the_layout_is_the_one_that_is_documented():
    vfs = MemoryVfs()
    log = open_log(vfs)
    log.append([(RegionId(7), [b"payload"])])
    data = vfs.read(segment_paths(vfs)[0])

    assert data[:12] == b"MITOWAL\x01" + struct.pack("<I", 1)
    assert data[16:32].hex() == "0123456789abcdef" * 2
    assert struct.unpack_from("<QQQI", data, 48) == (1, 0, 0, 0)
    header_sum = google_crc32c.value(data[:92])
    assert struct.unpack_from("<I", data, 92) == (header_sum,)
    assert data[96:100] == b"MREC"
    assert struct.unpack_from("<QQQQII", data, 104) == (7, 1, 7, 0, header_sum, 0)
    assert struct.unpack_from("<I", data, 100) == (google_crc32c.extend(header_sum, data[104:]),)
    assert data[144:] == b"payload"
