"""A key-value store against `MemoryKV`: anything that can be asked of it, in any order, reopened between.

A `Subject` is a store with what a test does to it from outside. `KeyValueMachine` draws programs, runs them on both,
and compares every answer, error and event; at the end every revision that can still be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mitoframe.drivers.clock import ManualClock
from mitoframe.model.errors import MitoError
from mitoframe.model.keyvalue import FROM_KEY
from mitoframe.testing.model_kv import MemoryKV, MemoryWatcher
from mitoframe.testing.programs_kv import Random, Requests, Watched, essence, outcome, run, told

LEASES = (11, 12, 13)
TTLS_SECONDS = (1, 2, 3, 5, 8)
WATCHERS_MAX = 4
# Drawn by their seed: what they give is spread evenly, and steps can still be left out of a program that fails.
randoms = st.randoms(use_true_random=True)


class Subject:
    """A store under test, and the clock by which its leases run out.

    ``store`` has the calls of `mitoframe.kv.KeyValueStore`. Subclasses say how it is reopened, and how it is made to
    notice that a lease is over.
    """

    store: Any

    def __init__(self) -> None:
        self.clock = ManualClock()

    def reopen(self) -> None:
        """Close the store and open what is kept."""
        raise NotImplementedError

    def expire(self) -> None:
        """Return when every lease that is over was revoked."""
        raise NotImplementedError

    def verify(self) -> None:
        """Raise if what is stored is not consistent."""

    def close(self) -> None:
        self.store.close()


class MemorySubject(Subject):
    """`MemoryKV` itself."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryKV(self.clock.monotonic)

    def reopen(self) -> None:
        self.store.close()
        self.store.reopen()

    def expire(self) -> None:
        self.store.expire()


@dataclass(slots=True)
class PairOfWatchers:
    watched: Watched
    model: MemoryWatcher
    store: Any


class KeyValueMachine(RuleBasedStateMachine):
    """Runs the same random program on a store and on the model, and compares every answer."""

    # The same rows have the same hash, in whichever store of a kind they are; and other rows another one.
    hashes: ClassVar[dict[object, int]] = {}
    rows: ClassVar[dict[object, object]] = {}
    # How many answers there were of each kind, so that who runs programs sees that they do something.
    answers: ClassVar[Counter[str]] = Counter()

    def __init__(self, make: Callable[[], Subject]) -> None:
        super().__init__()
        self.subject = make()
        self.model = MemoryKV(self.subject.clock.monotonic)
        self.watchers: list[PairOfWatchers] = []
        self.given: set[int] = set()

    # --- what may be done ------------------------------------------------------------------------------

    @rule(random=randoms)
    def ask(self, random: Random) -> None:
        self._ask(random, 4)

    @rule(random=randoms)
    def ask_and_look_at_the_past(self, random: Random) -> None:
        self._ask(random, 2)
        random.choice((self._compact, self._hash, self._hash, self._changes, self._changes))(random)

    @rule(random=randoms)
    def ask_and_lease(self, random: Random) -> None:
        self._ask(random, 2)
        verbs = (self._grant, self._grant, self._keep_alive_or_revoke, self._wait)
        random.choice(verbs if self.model.leases() else (self._grant,))(random)

    @rule(random=randoms)
    def ask_and_watch(self, random: Random) -> None:
        self._ask(random, 2)
        random.choice((self._watch, self._watch, self._look, self._look_after_a_compaction))(random)

    @rule(random=randoms)
    def ask_and_reopen(self, random: Random) -> None:
        self._ask(random, 2)
        self._look(random)
        note("reopen")
        self.model.reopen()
        self.subject.reopen()
        for pair in self.watchers:
            pair.store = _watch(self.subject.store, pair.watched, pair.model.next_revision)

    # --- requests --------------------------------------------------------------------------------------

    def _ask(self, random: Random, many: int) -> None:
        for _ in range(random.randint(1, many)):
            operation = self._requests(random).operation()
            self._compare(operation, lambda store, operation=operation: run(store, operation))  # type: ignore[misc]

    def _compact(self, random: Random) -> None:
        revision = self._requests(random).compacted_revision()
        self._compare(f"compact({revision})", lambda store: store.compact(revision))

    def _hash(self, random: Random) -> None:
        """Compare not hashes, which are the store's own affair, but what is made of the same rows, and of others."""
        revision = self._requests(random).revision()
        note(f"hash_kv({revision})")
        rows = outcome(lambda: self.model.hashed_rows(revision))
        found = outcome(lambda: self.subject.store.hash_kv(revision))
        if isinstance(rows, MitoError) or isinstance(found, MitoError):
            assert essence(rows) == essence(found), f"hash of {revision}"
            return
        info: Any = found
        newest, compacted = self.model.revision, self.model.compact_revision
        assert (info.revision, info.compact_revision) == (revision or newest, compacted)
        kind = type(self.subject)
        assert self.hashes.setdefault((kind, rows), info.hash) == info.hash, "the same rows have another hash"
        assert self.rows.setdefault((kind, info), rows) == rows, "other rows have the same hash"

    def _changes(self, random: Random) -> None:
        requests = self._requests(random)
        key, end, after = requests.key(), requests.end(), max(self.model.revision - random.randint(-1, 9), 0)
        self._compare(f"changes({key!r}, {end!r}, {after})", lambda store: store.changes(key, end, after=after))

    # --- leases ----------------------------------------------------------------------------------------

    def _grant(self, random: Random) -> None:
        lease, ttl_seconds = random.choice((0, *LEASES)), random.choice(TTLS_SECONDS)
        if lease:
            self._compare(f"lease({ttl_seconds}, id={lease})", lambda store: store.lease(ttl_seconds, id=lease).id)
            return
        given = self.subject.store.lease(ttl_seconds).id
        assert given not in self.given, f"lease {given} was given before"
        self.given.add(given)
        note(f"lease({ttl_seconds}) is {given}")
        self.model.lease(ttl_seconds, id=given)

    def _keep_alive_or_revoke(self, random: Random) -> None:
        number = random.randint(0, len(self.model.leases()) - 1)
        verb = random.choice(("keepalive", "keepalive", "revoke"))
        self._compare(f"{verb} of lease {number}", lambda store: getattr(store.leases()[number], verb)())

    def _wait(self, random: Random) -> None:
        milliseconds = random.choice((100, 1_000, 1_900, 4_000))
        note(f"wait {milliseconds} ms")
        self.subject.clock.advance(milliseconds)
        self.model.expire()
        self.subject.expire()
        assert _leases(self.subject.store) == _leases(self.model)

    # --- watchers --------------------------------------------------------------------------------------

    def _watch(self, random: Random) -> None:
        watched = self._requests(random).watched()
        note(f"watch {watched}")
        if len(self.watchers) == WATCHERS_MAX:
            self.watchers.pop(0).store.cancel()
        model, store = (_watch(each, watched, watched.start_revision) for each in (self.model, self.subject.store))
        self.watchers.append(PairOfWatchers(watched, model, store))

    def _look(self, _: object) -> None:
        for pair in tuple(self.watchers):
            expected, over = told(pair.model)
            assert told(pair.store) == (expected, over), f"told to {pair.watched}"
            self.answers["Event"] += sum(len(batch.events) for batch in expected)
            assert pair.store.progress() == pair.model.progress(), f"progress of {pair.watched}"
            if over is not None:
                self.watchers.remove(pair)

    def _look_after_a_compaction(self, random: Random) -> None:
        self._compact(random)
        self._look(random)

    # --- the store as a whole --------------------------------------------------------------------------

    @invariant()
    def is_at_the_same_revision(self) -> None:
        ours, theirs = self.subject.store.status(), self.model.status()
        for name in ("revision", "compact_revision", "keys", "leases"):
            assert getattr(ours, name) == getattr(theirs, name), name

    def teardown(self) -> None:
        try:
            self._look(None)
            assert _leases(self.subject.store) == _leases(self.model)
            for revision in range(max(self.model.compact_revision, 1), self.model.revision + 1):
                found = self.subject.store.range(b"\0", FROM_KEY, revision=revision)
                assert found == self.model.range(b"\0", FROM_KEY, revision=revision), f"at revision {revision}"
            self.subject.verify()
        finally:
            self.subject.close()

    # --- within ----------------------------------------------------------------------------------------

    def _requests(self, random: Random) -> Requests:
        return Requests(random, self.model, [lease.id for lease in self.model.leases()])

    def _compare(self, request: object, call: Callable[[Any], object]) -> None:
        note(str(request))
        answer = outcome(lambda: call(self.model))
        self.answers[type(answer).__name__] += 1
        expected = essence(answer)
        found = essence(outcome(lambda: call(self.subject.store)))
        assert found == expected, f"{request}\nexpected {expected}\nfound    {found}"


def _watch(store: Any, watched: Watched, start_revision: int) -> Any:
    options: dict[str, Any] = {"prev_kv": watched.prev_kv, "filters": watched.filters}
    return store.watch(watched.key, watched.end, start_revision=start_revision, **options)


def _leases(store: Any) -> list[tuple[object, ...]]:
    return [(lease.id, lease.ttl_seconds, lease.remaining(), lease.keys()) for lease in store.leases()]
