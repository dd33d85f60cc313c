"""Leases: never early, whoever dies or stands still; and never for ever."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitoframe import kv
from mitoframe.kv.lessor import REVOKES_MAX, TICK_S, Lessor
from mitoframe.model.errors import BusyError, InvalidInputError

PATIENCE_S = 30


class Seconds:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Seconds()


@pytest.fixture
def store():
    with kv.open("memory://", now=Seconds()) as store:  # For the store's own lessor time stands still.
        yield store


@pytest.fixture
def lessor(store: kv.KeyValueStore, clock: Seconds):
    lessor = Lessor(store._ledger, clock, None)
    yield lessor
    lessor.close()


def eventually(condition: Callable[[], object]) -> bool:
    until = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return bool(condition())


# --- granting ------------------------------------------------------------------------------------------


def test_ids_are_given_or_chosen_and_never_shared(lessor: Lessor) -> None:
    given_one, chosen, another = lessor.grant(5), lessor.grant(6, lease_id=77), lessor.grant(7)

    with pytest.raises(InvalidInputError):
        lessor.grant(5, lease_id=77)

    assert chosen.id == 77
    assert len({given_one.id, chosen.id, another.id}) == 3
    assert [(each.id, each.ttl_seconds) for each in lessor.leases()] == sorted(
        [(given_one.id, 5), (77, 6), (another.id, 7)]
    )


@pytest.mark.parametrize("ttl_seconds", [0, -1, 9_000_000_001, 1.5, "10", None])
def test_a_time_to_live_that_cannot_be_is_refused(lessor: Lessor, ttl_seconds: object) -> None:
    with pytest.raises(InvalidInputError, match=r"9,000,000,000"):
        lessor.grant(ttl_seconds)

    assert lessor.leases() == ()


def test_a_negative_id_is_refused(lessor: Lessor) -> None:
    with pytest.raises(InvalidInputError):
        lessor.grant(5, lease_id=-1)


def test_the_longest_time_to_live_there_may_be(lessor: Lessor, clock: Seconds) -> None:
    lease = lessor.grant(9_000_000_000)
    clock.now += 8_999_999_999
    lessor.tick()

    assert lease.remaining() == 1


# --- expiring ------------------------------------------------------------------------------------------


def test_a_lease_lasts_its_time_and_goes_with_its_keys_at_one_revision(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds
) -> None:
    lease = lessor.grant(10)
    watcher = store.watch(b"", prefix=True)
    store.put(b"b", lease=lease.id)
    store.put(b"a", lease=lease.id)
    store.put(b"c")

    clock.now += 9.99
    lessor.tick()
    before = (lease.keys(), lease.remaining())
    clock.now += 0.01
    lessor.tick()

    assert before == ((b"a", b"b"), pytest.approx(0.01))
    *_, last = [watcher.next(timeout=0) for _ in range(4)]
    assert [(each.kind, each.kv.key) for each in last.events] == [("delete", b"a"), ("delete", b"b")]
    assert (lease.remaining(), store.get(b"a"), store.get(b"c") is not None) == (-1.0, None, True)
    assert lessor.leases() == ()


def test_what_is_over_and_not_yet_revoked_has_nothing_left(lessor: Lessor, clock: Seconds) -> None:
    lease = lessor.grant(10)

    clock.now += 12

    assert lease.remaining() == 0.0


def test_keepalive_gives_the_full_time_again(lessor: Lessor, clock: Seconds) -> None:
    lease = lessor.grant(10)
    clock.now += 9
    lease.keepalive()
    at_once = lease.remaining()

    clock.now += 9.9
    lessor.tick()

    assert at_once == 10
    assert lease.remaining() == pytest.approx(0.1)


def test_what_has_expired_is_not_kept_alive_but_revoked(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds
) -> None:
    lease = lessor.grant(10)
    store.put(b"a", lease=lease.id)
    clock.now += 10

    with pytest.raises(InvalidInputError, match=rf"lease {lease.id}\b"):
        lease.keepalive()

    assert store.get(b"a") is None
    assert lease.remaining() == -1.0


def test_those_that_ended_first_are_revoked_first_and_no_more_than_a_thousand_a_second(
    lessor: Lessor, clock: Seconds
) -> None:
    leases = [lessor.grant(10 + number % 7) for number in range(2 * REVOKES_MAX + 10)]
    clock.now += 100

    left = [leases]
    while left[-1]:
        lessor.tick()
        left.append(lessor.leases())

    revoked = [len(before) - len(after) for before, after in pairwise(left)]
    assert revoked == [REVOKES_MAX, REVOKES_MAX, 10]
    assert max(each.ttl_seconds for each in leases if each.id not in {one.id for one in left[1]}) <= min(
        each.ttl_seconds for each in left[1]
    )
    assert REVOKES_MAX / TICK_S <= 1_000


def test_an_id_that_is_granted_again_has_its_full_time(store: kv.KeyValueStore, lessor: Lessor, clock: Seconds) -> None:
    other = Lessor(store._ledger, clock, None)  # As of another process: this one does not hear of what it does.
    lessor.grant(10, lease_id=7)
    clock.now += 8
    store._ledger.revoke(7)
    other.grant(10, lease_id=7)

    clock.now += 9
    lessor.tick()

    assert [lease.id for lease in lessor.leases()] == [7]


def test_revoking_is_done_at_once_and_once(store: kv.KeyValueStore, lessor: Lessor) -> None:
    lease = lessor.grant(10)
    store.put(b"a", lease=lease.id)

    revision = lease.revoke()

    assert (revision, store.get(b"a")) == (3, None)
    with pytest.raises(InvalidInputError):
        lease.revoke()
    with pytest.raises(InvalidInputError):
        lease.keepalive()


# --- in a block ----------------------------------------------------------------------------------------


def test_a_block_ends_its_lease(store: kv.KeyValueStore, lessor: Lessor) -> None:
    with lessor.grant(10) as lease:
        store.put(b"a", lease=lease.id)

    assert store.get(b"a") is None
    assert lease.remaining() == -1.0


def test_a_block_whose_lease_is_gone_ends_quietly_and_lets_its_own_error_through(lessor: Lessor) -> None:
    lease = lessor.grant(10)
    names: dict[str, int] = {}
    with pytest.raises(KeyError), lease:
        names[str(lease.revoke())] += 1


# --- in the background ---------------------------------------------------------------------------------


def test_what_is_kept_alive_is_renewed_a_third_of_its_time_before_and_not_at_every_tick(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds
) -> None:
    kept, left_alone = lessor.grant(9, keepalive=True), lessor.grant(9)
    stamps = []

    for _ in range(12):
        clock.now += 1
        lessor.tick()
        stamps.append(store._ledger.lease_rows()[kept.id].stamp)

    assert len(set(stamps)) == 5  # As granted, and at 3, 6, 9 and 12 seconds.
    assert kept.remaining() == 9
    assert left_alone.remaining() == -1.0


def test_who_stood_still_for_longer_than_his_lease_renews_it_before_anything_expires(
    lessor: Lessor, clock: Seconds
) -> None:
    kept, left_alone = lessor.grant(9, keepalive=True), lessor.grant(9)
    clock.now += 1_000

    lessor.tick()

    assert (kept.remaining(), left_alone.remaining()) == (9, -1.0)


def test_what_is_revoked_is_not_renewed_any_more(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds, caplog: pytest.LogCaptureFixture
) -> None:
    lease = lessor.grant(9, keepalive=True)
    lease.revoke()

    clock.now += 5
    lessor.tick()

    assert (lessor.leases(), caplog.messages) == ((), [])


def test_a_lease_that_is_lost_although_it_was_kept_alive_is_logged_once(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds, caplog: pytest.LogCaptureFixture
) -> None:
    lease = lessor.grant(9, keepalive=True)
    store._ledger.revoke(lease.id)

    for _ in range(3):
        clock.now += 5
        lessor.tick()

    assert [message for message in caplog.messages if f"id={lease.id}" in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_one_thread_begins_with_the_first_lease_and_ends_with_the_store(store: kv.KeyValueStore) -> None:
    before = set(threading.enumerate())
    nothing = store.get(b"a"), store.put(b"a"), store.leases(), set(threading.enumerate()) - before

    for _ in range(3):
        store.lease(10)
    [thread] = set(threading.enumerate()) - before
    store.close()
    store.close()
    store._lessor.start()

    assert nothing[-1] == set()
    assert (thread.name, thread.daemon, thread.is_alive()) == ("mitoframe-lessor", True, False)
    assert set(threading.enumerate()) - before == set()


def test_no_thread_begins_once_it_was_closed(lessor: Lessor) -> None:
    lessor.close()

    lessor.start()

    assert lessor._thread is None


def test_the_thread_lets_expire_what_is_over(store: kv.KeyValueStore, lessor: Lessor, clock: Seconds) -> None:
    lease = lessor.grant(10)
    store.put(b"a", lease=lease.id)
    lessor.start()

    clock.now += 10

    assert eventually(lambda: store.get(b"a") is None)


def test_the_thread_goes_on_after_an_error_that_may_pass(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds, caplog: pytest.LogCaptureFixture
) -> None:
    lease = lessor.grant(10)
    revoke, failures = store._ledger.revoke, iter([BusyError("locked for 5 s")])

    def busy_once(lease: int, *, stamp: int | None = None) -> int:
        for error in failures:
            raise error
        return revoke(lease, stamp=stamp)

    store._ledger.revoke = busy_once
    clock.now += 10
    lessor.start()

    assert eventually(lambda: lease.id not in store._ledger.lease_rows())
    assert "locked for 5 s" in caplog.text


def test_the_thread_does_not_keep_a_store_that_nobody_has_any_more() -> None:
    store = kv.open("memory://")
    store.lease(10)
    thread = store._lessor._thread

    del store

    assert thread is not None
    gc.collect()
    assert eventually(lambda: not thread.is_alive())


# --- whose turn it is ----------------------------------------------------------------------------------


@pytest.fixture
def two(store: kv.KeyValueStore, clock: Seconds, tmp_path: Path):
    """The lessors of two processes that have one store, the first of which has the turn; each with its own clock."""
    clocks = clock, Seconds(5.0)
    lessors = [Lessor(store._ledger, each, str(tmp_path / "store-lessor")) for each in clocks]
    lessors[0].tick()
    yield *lessors, *clocks
    for each in lessors:
        each.close()


def test_only_who_has_the_turn_lets_leases_expire(two: tuple) -> None:
    first, second, first_clock, second_clock = two
    lease = second.grant(10)
    first.tick()

    second_clock.now += 1_000
    second.tick()
    still = lease.remaining(), len(first.leases())
    first_clock.now += 10
    first.tick()

    assert still == (0.0, 1)
    assert lease.remaining() == -1.0


def test_a_renewal_in_another_process_is_heard_of(two: tuple) -> None:
    first, second, first_clock, _ = two
    lease = second.grant(10)
    first.tick()

    for _ in range(5):
        first_clock.now += 9
        lease.keepalive()
        first.tick()

    first_clock.now += 10
    first.tick()
    assert lease.remaining() == -1.0


def test_what_another_process_revoked_is_forgotten(two: tuple) -> None:
    first, second, _, _ = two
    lease = first.grant(10)
    lease_of(second, lease.id).revoke()

    first.tick()

    assert repr(lease) == f"lease {lease.id} of 10 seconds, not known to be there"


def test_a_renewal_that_comes_between_looking_and_revoking_is_not_overtaken(
    store: kv.KeyValueStore, two: tuple
) -> None:
    first, second, first_clock, _ = two
    lease = second.grant(10)
    first.tick()
    revoke, renewals = store._ledger.revoke, iter([lease.keepalive])

    def revoke_late(lease: int, *, stamp: int | None = None) -> int:
        for renew in renewals:
            renew()
        return revoke(lease, stamp=stamp)

    store._ledger.revoke = revoke_late
    first_clock.now += 10
    first.tick()
    first_clock.now += 9
    first.tick()

    assert [each.id for each in first.leases()] == [lease.id]


def test_what_a_thread_read_before_a_renewal_and_learns_after_it_does_not_count(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds
) -> None:
    lease = lessor.grant(10)
    read_before = store._ledger.lease_rows()
    Lessor(store._ledger, clock, None).renew(lease.id)
    lessor.tick()
    clock.now += 5

    lessor._learn(read_before)

    assert lease.remaining() == 5


def test_what_is_known_of_a_lease_by_mistake_is_looked_at_again(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds
) -> None:
    lease = lessor.grant(10)
    read_before = store._ledger.lease_rows()
    store._ledger.revoke(lease.id)
    again = Lessor(store._ledger, clock, None).grant(30, lease_id=lease.id)
    lessor.tick()
    lessor._terms.clear()
    lessor._learn(read_before)

    for _ in range(3):
        clock.now += 10
        lessor.tick()
    still = again.remaining()
    clock.now += 30
    lessor.tick()

    assert still == 0
    assert again.remaining() == -1


def test_who_takes_over_gives_every_lease_its_full_time(two: tuple) -> None:
    first, second, _, second_clock = two
    lease = first.grant(10)
    second.tick()
    second_clock.now += 9
    first.close()

    second.tick()
    at_takeover = lease_of(second, lease.id).remaining()
    second_clock.now += 10
    second.tick()

    assert at_takeover == 10
    assert second.leases() == ()


def test_a_store_that_is_opened_again_gives_every_lease_its_full_time(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds
) -> None:
    lease = lessor.grant(10)
    clock.now += 9
    again = Lessor(store._ledger, clock, None)

    again.tick()

    assert lease_of(again, lease.id).remaining() == 10


def test_two_that_have_a_turn_at_once_do_no_harm(two: tuple, store: kv.KeyValueStore, tmp_path: Path) -> None:
    first, second, first_clock, second_clock = two
    short, long = first.grant(10), first.grant(20)
    (tmp_path / "store-lessor").unlink()
    second.tick()

    first_clock.now += 10
    second_clock.now += 10
    second.tick()
    first.tick()
    long.keepalive()
    second_clock.now += 19
    second.tick()

    assert [lease.id for lease in second.leases()] == [long.id]
    assert short.remaining() == -1


def test_who_closes_leaves_no_lock_file(two: tuple, tmp_path: Path) -> None:
    first, second, _, _ = two
    second.tick()
    files = list(tmp_path.iterdir())

    first.close()
    second.tick()
    second.close()

    assert [path.name for path in files] == ["store-lessor"]
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_locked_nothing_expires(store: kv.KeyValueStore, clock: Seconds, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    lessor = Lessor(store._ledger, clock, str(blocked / "store-lessor"))
    lease = lessor.grant(10)
    clock.now += 100

    lessor.tick()

    assert lease.remaining() == 0.0
    lessor.close()


HOLDER = """
import filelock, sys, time
lock = filelock.FileLock(sys.argv[1], thread_local=False)
lock.acquire(blocking=False)
print("held", flush=True)
time.sleep(600)
"""


def test_the_turn_of_a_process_that_was_killed_is_free(store: kv.KeyValueStore, clock: Seconds, tmp_path: Path) -> None:
    path = str(tmp_path / "store-lessor")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    lessor = Lessor(store._ledger, clock, path)
    lessor.grant(1)
    clock.now += 5
    lessor.tick()
    before = len(lessor.leases())

    holder.kill()
    holder.communicate()
    lessor.tick()
    clock.now += 1
    lessor.tick()

    assert (before, len(lessor.leases())) == (1, 0)
    lessor.close()


def lease_of(lessor: Lessor, lease_id: int) -> kv.Lease:
    [found] = [lease for lease in lessor.leases() if lease.id == lease_id]
    return found


# --- whatever happens ----------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "renew", "tick", "close", "wait", "revoke"]),
        st.integers(0, 2),
        st.integers(1, 3),
        st.sampled_from([0.5, 1, 2, 5]),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_no_lease_ends_before_its_time_whoever_ticks_and_all_end_after_it(
    steps: list[tuple[str, int, int, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Three processes, three leases of three seconds: each is good until three seconds after it was renewed last."""
    clock = Seconds(0.0)
    store = kv.open("memory://", now=Seconds())
    path = str(tmp_path_factory.mktemp("turns") / "store-lessor")
    lessors = [Lessor(store._ledger, clock, path) for _ in range(3)]
    good_until: dict[int, float] = {}

    for verb, who, lease, seconds in steps:
        is_there = lease in store._ledger.lease_rows()
        if verb == "grant" and not is_there:
            lessors[who].grant(3, lease_id=lease)
            good_until[lease] = clock.now + 3
        elif verb == "renew" and is_there:
            try:
                lessors[who].renew(lease)
                good_until[lease] = clock.now + 3
            except InvalidInputError:
                assert good_until[lease] <= clock.now
        elif verb == "revoke" and is_there:
            lessors[who].revoke(lease)
            del good_until[lease]
        elif verb == "tick":
            lessors[who].tick()
        elif verb == "close":
            lessors[who].close()
            lessors[who] = Lessor(store._ledger, clock, path)
        elif verb == "wait":
            clock.now += seconds
        assert {lease for lease, until in good_until.items() if until > clock.now} <= store._ledger.lease_rows().keys()

    for _ in range(2):
        for lessor in lessors:
            lessor.tick()
        clock.now += 3
    for lessor in lessors:
        lessor.tick()
        lessor.close()
    assert store._ledger.lease_rows() == {}
    store.close()


def test_keys_may_be_asked_for_while_they_come_and_go(store: kv.KeyValueStore, lessor: Lessor) -> None:
    lease, stop, seen = lessor.grant(100), threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            seen.append(lease.keys())
            lessor.tick()

    asking = threading.Thread(target=ask)
    asking.start()
    for number in range(200):
        store.put(b"%03d" % number, lease=lease.id)
    stop.set()
    asking.join(PATIENCE_S)

    assert all(list(keys) == sorted(keys) for keys in seen)
    assert len(lease.keys()) == 200


# --- how it looks --------------------------------------------------------------------------------------


def test_a_lease_says_what_is_left_of_it_without_a_look_at_the_store(
    store: kv.KeyValueStore, lessor: Lessor, clock: Seconds
) -> None:
    lease, other = lessor.grant(10, lease_id=7), lessor.grant(1, lease_id=8)
    clock.now += 2.5
    other.revoke()
    store.close()

    assert repr(lease) == "lease 7 of 10 seconds, 7.5 s left"
    assert "7.5 s left" in lease._repr_html_()
    assert repr(other) == "lease 8 of 1 second, not known to be there"
