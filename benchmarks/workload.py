"""The input of the ingest benchmark: generated TSBS rows in batches, in one Arrow IPC file that all systems read.

Half a percent of the rows each comes late, comes twice, and is corrected by a later row, so that upsert semantics
are exercised. Within one batch only the last row of a key is kept, so that all systems are asked the same question:
what becomes of two rows of a key in one statement is not the same everywhere (DuckDB 2.0.0 keeps the first, chDB
whichever thread writes last, delta-rs refuses or keeps both), and no system is made to pay for it.

The file is kept in ``benchmarks/.data`` under a name that tells its parameters and the generator's code apart.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

import mitoframe.tsbs as tsbs

DATA = Path(__file__).parent / ".data"
KEY = ["hostname", tsbs.TIME]
SHARE = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    path: Path
    batches: int
    rows: int
    keys: int
    usage_user_sum: float


def prepare(*, hosts: int, hours: float, batches: int, seed: int) -> Workload:
    """Return the workload, made now or found from before."""
    path = DATA / f"cpu-{hosts}x{hours:g}h-{batches}-seed{seed}-{_code_digest()}.arrow"
    facts = path.with_suffix(".json")
    if facts.is_file():
        found = json.loads(facts.read_text(encoding="utf-8"))
        return Workload(**{**found, "path": path})
    DATA.mkdir(exist_ok=True)
    made = _make(path, hosts=hosts, hours=hours, batches=batches, seed=seed)
    # The facts are written last: a file without them was left half-made and is made again.
    facts.write_text(json.dumps({**asdict(made), "path": path.name}), encoding="utf-8")
    return made


def _make(path: Path, *, hosts: int, hours: float, batches: int, seed: int) -> Workload:
    rows = 0
    final: list[pl.DataFrame] = []
    deliveries = tsbs.tsbs_cpu(hosts, hours, seed=seed, batches=batches, late=SHARE, duplicate=SHARE, corrected=SHARE)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, tsbs.SCHEMA) as writer:
        for delivered in deliveries:
            batch = _last_of_each_key(pl.DataFrame(delivered))
            writer.write_batch(batch.to_arrow().cast(tsbs.SCHEMA).combine_chunks().to_batches()[0])
            final.append(batch.select(*KEY, "usage_user"))
            rows += batch.height
    state = _last_of_each_key(pl.concat(final))
    return Workload(
        path=path, batches=batches, rows=rows, keys=state.height, usage_user_sum=float(state["usage_user"].sum())
    )


def _last_of_each_key(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.unique(KEY, keep="last", maintain_order=True)


def _code_digest() -> str:
    code = Path(tsbs.__file__).read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(code).hexdigest()[:8]
