"""Rows such as the Time Series Benchmark Suite's ``devops cpu-only`` case makes: a fleet of hosts, ten CPU gauges each.

One row per host and tick: ``ts`` (timestamp[ns] without a zone, in UTC, as TSBS writes it), ten string tags that all
follow from the hostname, and ten fields. A field is a random walk that starts uniformly in [0, 100], takes a step of
N(0, 1) per tick and is held inside [0, 100]; the stored float64 is the walk rounded down, as TSBS stores it.

Rows come in the order of delivery. Without disorder that is tick by tick, all hosts at each tick. Three shares, each
of the rows that were made and never two on one row, disturb it:

    late         delivered once, but up to `LATENESS_TICKS_MAX` ticks after its time
    duplicate    delivered at its time, and the same again up to as many ticks later
    corrected    delivered at its time, and again up to as many ticks later with ten other values

What is still owed after the last tick is delivered then, in order. A key, (hostname, ts), is thus delivered once or
twice, and the last delivery is the row that counts.

Promises: the same arguments give the same rows in the same order, into however many batches they are cut; the rows
that were made do not depend on the shares; memory is that of one batch and of the rows owed to later ones.
Refuses: a fleet, a length or a share that makes no rows or no sense, with `InvalidInputError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mitoframe.model.errors import InvalidInputError

__all__ = ["FIELDS", "LATENESS_TICKS_MAX", "SCHEMA", "TAGS", "TIME", "tsbs_cpu", "tsbs_cpu_table"]

TIME = "ts"
TAGS = (
    "hostname",
    "region",
    "datacenter",
    "rack",
    "os",
    "arch",
    "team",
    "service",
    "service_version",
    "service_environment",
)
FIELDS = (
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
)
SCHEMA = pa.schema(
    [
        pa.field(TIME, pa.timestamp("ns")),
        *(pa.field(tag, pa.string()) for tag in TAGS),
        *(pa.field(name, pa.float64()) for name in FIELDS),
    ]
)
LATENESS_TICKS_MAX = 180
"""Half an hour at the default interval: enough to cross several batches and files."""

_BATCH_ROWS = 240_000
_GAUGE_MAX = 100
_GAUGE_VALUES = _GAUGE_MAX + 1
_NANOSECONDS = MappingProxyType(
    {
        "ns": 1,
        "us": 1_000,
        "ms": 1_000_000,
        "s": 1_000_000_000,
        "m": 60_000_000_000,
        "h": 3_600_000_000_000,
        "d": 86_400_000_000_000,
    }
)
_DATACENTERS = MappingProxyType(
    {
        "us-east-1": ("us-east-1a", "us-east-1b", "us-east-1c", "us-east-1e"),
        "us-west-1": ("us-west-1a", "us-west-1b"),
        "us-west-2": ("us-west-2a", "us-west-2b", "us-west-2c"),
        "eu-west-1": ("eu-west-1a", "eu-west-1b", "eu-west-1c"),
        "eu-central-1": ("eu-central-1a", "eu-central-1b"),
        "ap-southeast-1": ("ap-southeast-1a", "ap-southeast-1b"),
        "ap-southeast-2": ("ap-southeast-2a", "ap-southeast-2b"),
        "ap-northeast-1": ("ap-northeast-1a", "ap-northeast-1c"),
        "sa-east-1": ("sa-east-1a", "sa-east-1b", "sa-east-1c"),
    }
)
_CHOICES = MappingProxyType(
    {
        "rack": tuple(str(number) for number in range(100)),
        "os": ("Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"),
        "arch": ("x64", "x86"),
        "team": ("SF", "NYC", "LON", "CHI"),
        "service": tuple(str(number) for number in range(20)),
        "service_version": ("0", "1"),
        "service_environment": ("production", "staging", "test"),
    }
)

_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]


def tsbs_cpu(
    hosts: int,
    hours: float,
    *,
    interval: str | timedelta = "10s",
    start: str | datetime = "2016-01-01",
    seed: int = 123,
    late: float = 0.0,
    duplicate: float = 0.0,
    corrected: float = 0.0,
    batches: int | None = None,
) -> Iterator[pa.Table]:
    """Make the CPU rows of a fleet, one table per period of delivery.

    Args:
        hosts: how many hosts report, at every tick.
        hours: how long they do, from ``start``; the end is not included.
        interval: the time between two ticks, such as ``"10s"``.
        start: the time of the first tick; without a zone it is UTC.
        seed: the same seed gives the same rows.
        late: the share of rows delivered after their time.
        duplicate: the share of rows delivered twice.
        corrected: the share of rows delivered a second time with other values.
        batches: into how many tables of about as many ticks each; by default tables of about 240,000 rows.

    Raises:
        InvalidInputError: an argument is out of its range.

    >>> [table.num_rows for table in tsbs_cpu(hosts=3, hours=1, batches=2)]
    [540, 540]

    """
    plan = _plan(
        hosts=hosts,
        hours=hours,
        interval_ns=_interval_ns(interval),
        start_ns=_start_ns(start),
        seed=seed,
        shares=_Shares(late=late, duplicate=duplicate, corrected=corrected),
        batches=batches,
    )
    return _deliveries(plan)


def tsbs_cpu_table(
    hosts: int,
    hours: float,
    *,
    interval: str | timedelta = "10s",
    start: str | datetime = "2016-01-01",
    seed: int = 123,
    late: float = 0.0,
    duplicate: float = 0.0,
    corrected: float = 0.0,
) -> pa.Table:
    """Make the rows of `tsbs_cpu` as one table, in the order of delivery.

    >>> tsbs_cpu_table(hosts=2, hours=0.5).num_rows
    360
    """
    deliveries = tsbs_cpu(
        hosts,
        hours,
        interval=interval,
        start=start,
        seed=seed,
        late=late,
        duplicate=duplicate,
        corrected=corrected,
    )
    return pa.concat_tables(deliveries)


# --- what was asked for --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    late: float
    duplicate: float
    corrected: float

    def any(self) -> bool:
        return self.late + self.duplicate + self.corrected > 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    hosts: int
    ticks: int
    interval_ns: int
    start_ns: int
    seed: int
    shares: _Shares
    batches: int

    def periods(self) -> Iterator[tuple[int, int]]:
        """Cut the ticks into ``batches`` ranges [first, end) whose lengths differ by one at most."""
        for number in range(self.batches):
            yield number * self.ticks // self.batches, (number + 1) * self.ticks // self.batches


def _plan(
    *, hosts: int, hours: float, interval_ns: int, start_ns: int, seed: int, shares: _Shares, batches: int | None
) -> _Plan:
    _require(hosts >= 1, f"hosts is {hosts}; a fleet has at least one host.")
    _require(seed >= 0, f"seed is {seed}; give a number that is not negative.")
    _require(np.isfinite(hours), f"hours is {hours}; give a number of hours.")
    ticks = round(hours * _NANOSECONDS["h"]) // interval_ns
    _require(ticks >= 1, f"hours is {hours}, less than one interval; give more hours or a shorter interval.")
    last_ns = start_ns + ticks * interval_ns
    _require(last_ns < 2**63, f"{hours} hours after start does not fit a timestamp in nanoseconds; start earlier.")
    for name in ("late", "duplicate", "corrected"):
        share = getattr(shares, name)
        _require(0.0 <= share <= 1.0, f"{name} is {share}; a share is between 0 and 1.")
    total = shares.late + shares.duplicate + shares.corrected
    _require(total <= 1.0, f"late, duplicate and corrected add up to {total}; a row has one of them, so at most 1.")
    batches = min(ticks, -(-hosts * ticks // _BATCH_ROWS)) if batches is None else batches
    _require(1 <= batches <= ticks, f"batches is {batches}; choose 1 to {ticks}, the number of ticks.")
    return _Plan(
        hosts=hosts,
        ticks=ticks,
        interval_ns=interval_ns,
        start_ns=start_ns,
        seed=seed,
        shares=shares,
        batches=batches,
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidInputError(message)


def _interval_ns(interval: str | timedelta) -> int:
    if isinstance(interval, timedelta):
        length_ns = interval // timedelta(microseconds=1) * _NANOSECONDS["us"]
    else:
        parts = re.fullmatch(r"(\d+)\s*([a-z]+)", interval)
        known = parts is not None and parts[2] in _NANOSECONDS
        _require(known, f"interval is {interval!r}; write a number and one of {', '.join(_NANOSECONDS)}.")
        assert parts is not None
        length_ns = int(parts[1]) * _NANOSECONDS[parts[2]]
    _require(length_ns >= 1, f"interval is {interval!r}; time must pass between two ticks.")
    return length_ns


def _start_ns(start: str | datetime) -> int:
    try:
        moment = datetime.fromisoformat(start) if isinstance(start, str) else start
    except ValueError as error:
        raise InvalidInputError(f"start is {start!r}; write an ISO date or time such as '2016-01-01'.") from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    start_ns = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * _NANOSECONDS["us"]
    _require(-(2**63) <= start_ns < 2**63, f"start is {start}, which does not fit a timestamp in nanoseconds.")
    return start_ns


# --- the fleet and its gauges --------------------------------------------------------------------------


def _fleet(generator: np.random.Generator, hosts: int) -> dict[str, pa.Array]:
    """Return each tag's value by host number."""
    regions = generator.choice(list(_DATACENTERS), hosts)
    values = {
        "hostname": [f"host_{number}" for number in range(hosts)],
        "region": regions,
        "datacenter": [generator.choice(_DATACENTERS[region]) for region in regions],
        **{tag: generator.choice(choices, hosts) for tag, choices in _CHOICES.items()},
    }
    return {tag: pa.array(values[tag], pa.string()) for tag in TAGS}


class _Walks:
    """All the fleet's gauges. Draws tick after tick from one stream, so the calls' lengths do not matter."""

    def __init__(self, generator: np.random.Generator, hosts: int) -> None:
        self._generator = generator
        self._gauges = generator.random((len(FIELDS), hosts)) * _GAUGE_MAX
        self._steps = np.empty_like(self._gauges)

    def take(self, ticks: int) -> _Floats:
        """Return the next values, one line per field, in it tick by tick and host by host."""
        values = np.empty((len(FIELDS), ticks, self._gauges.shape[1]))
        for tick in range(ticks):
            np.floor(self._gauges, out=values[:, tick])
            self._generator.standard_normal(out=self._steps)
            self._gauges += self._steps
            np.clip(self._gauges, 0.0, float(_GAUGE_MAX), out=self._gauges)
        return values.reshape(len(FIELDS), -1)


# --- delivery ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Rows by the tick they are delivered at. ``numbers`` counts rows as made: tick * hosts + host."""

    due: _Integers
    numbers: _Integers
    values: _Floats

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> _Rows:
        return _Rows(due=self.due[which], numbers=self.numbers[which], values=self.values[:, which])

    def followed_by(self, other: _Rows) -> _Rows:
        """Return both, by tick of delivery; at the same tick, these rows come first."""
        both = _Rows(
            due=np.concatenate([self.due, other.due]),
            numbers=np.concatenate([self.numbers, other.numbers]),
            values=np.concatenate([self.values, other.values], axis=1),
        )
        return both.take(np.argsort(both.due, kind="stable"))


_NO_ROWS = _Rows(
    due=np.empty(0, np.int64), numbers=np.empty(0, np.int64), values=np.empty((len(FIELDS), 0), np.float64)
)


class _Disorder:
    """Decides which rows are late, duplicate or corrected.

    Every draw is of `Generator.random`, which takes one step of the stream per value: what a row gets does not
    depend on where the batches are cut.
    """

    def __init__(
        self, shares: _Shares, kinds: np.random.Generator, delays: np.random.Generator, changes: np.random.Generator
    ) -> None:
        self._late_below = shares.late
        self._duplicate_below = shares.late + shares.duplicate
        self._corrected_below = shares.late + shares.duplicate + shares.corrected
        self._kinds, self._delays, self._changes = kinds, delays, changes

    def split(self, made: _Rows) -> tuple[_Rows, _Rows]:
        """Return the rows delivered at their time, and those owed for later."""
        kinds = self._kinds.random(made.due.size)
        owed = made.take(np.flatnonzero(kinds < self._corrected_below))
        is_corrected = kinds[kinds < self._corrected_below] >= self._duplicate_below
        delays = 1 + (self._delays.random(owed.due.size) * LATENESS_TICKS_MAX).astype(np.int64)
        owed.values[:, is_corrected] = self._other_values(owed.values[:, is_corrected])
        return made.take(kinds >= self._late_below), _Rows(
            due=owed.due + delays, numbers=owed.numbers, values=owed.values
        )

    def _other_values(self, values: _Floats) -> _Floats:
        # A turn of 1 to 100 on a ring of 101 values: never the value it was, always one a gauge can have.
        draws = self._changes.random(values.shape[::-1]).T
        return (values + 1.0 + np.floor(draws * _GAUGE_MAX)) % _GAUGE_VALUES


def _deliveries(plan: _Plan) -> Iterator[pa.Table]:
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(plan.seed).spawn(5)]
    fleet = _fleet(streams[0], plan.hosts)
    walks = _Walks(streams[1], plan.hosts)
    disorder = _Disorder(plan.shares, *streams[2:])
    owed = _NO_ROWS
    for first, end in plan.periods():
        made = _made(plan, first, walks.take(end - first))
        if plan.shares.any():
            made, more = disorder.split(made)
            owed = owed.followed_by(more)
            is_due = (owed.due < end) | (end == plan.ticks)
            made, owed = made.followed_by(owed.take(is_due)), owed.take(~is_due)
        yield _table(plan, fleet, made)


def _made(plan: _Plan, first_tick: int, values: _Floats) -> _Rows:
    numbers = first_tick * plan.hosts + np.arange(values.shape[1])
    return _Rows(due=numbers // plan.hosts, numbers=numbers, values=values)


def _table(plan: _Plan, fleet: dict[str, pa.Array], rows: _Rows) -> pa.Table:
    ticks, hosts = np.divmod(rows.numbers, plan.hosts)
    times = pa.array(plan.start_ns + ticks * plan.interval_ns).cast(pa.timestamp("ns"))
    indices = pa.array(hosts.astype(np.int32))
    tags = [pa.DictionaryArray.from_arrays(indices, fleet[tag]).dictionary_decode() for tag in TAGS]
    return pa.Table.from_arrays([times, *tags, *(pa.array(field) for field in rows.values)], schema=SCHEMA)
