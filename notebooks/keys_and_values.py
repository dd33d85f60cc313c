# %% [markdown]
# # Keys and values
#
# Settings, who leads, how far a job has come: what several processes have to agree about. `mitoframe.kv` keeps it in
# one file, with etcd's meaning: every change has a revision, a transaction happens whole or not at all, earlier
# revisions can be read, and whoever waits is told. Run it with `python notebooks/keys_and_values.py`, or cell by cell.

# %%
import shutil
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from mitoframe import kv

STORE = Path("demo-out") / "keys" / "plant.kv"

shutil.rmtree(STORE.parent, ignore_errors=True)
STORE.parent.mkdir(parents=True)
store = kv.open(STORE)

# %% [markdown]
# ## Keys
# Keys and values are bytes. A key knows at which revision it was created and changed last, and how often. Ranges go by
# the bytes of keys, so that those with a common beginning lie together.

# %%
for line, limit in ((1, b"80"), (2, b"75"), (3, b"90")):
    store.put(b"/line/%d/limit" % line, limit)
store.put(b"/site", b"north")
store.put(b"/line/2/limit", b"70")
lines = store.to_frame(b"/line/")
print(lines.select(pl.col("key", "value").cast(pl.String), "create_revision", "mod_revision", "version"))
assert lines["value"].to_list() == [b"80", b"70", b"90"]
assert store.get(b"/line/2/limit").version == 2

# %% [markdown]
# ## Compare and swap
# Two people want to raise a limit by ten. Each reads it, and writes it if nobody has changed it since: `M(key)` is the
# revision of its last change. The one who comes second is told what there is instead, and begins again, so that no
# raise is lost.


# %%
def raise_by_ten(seen: kv.KeyValue) -> kv.TxnResult:
    larger = b"%d" % (int(seen.value) + 10)
    return store.txn([kv.M(seen.key) == seen.mod_revision], [kv.Put(seen.key, larger)], [kv.Get(seen.key)])


hers = his = store.get(b"/line/1/limit")
first, second = raise_by_ten(hers), raise_by_ten(his)
print(f"hers: {first.succeeded}, his: {second.succeeded}")
[there_is] = second.responses[0].kvs
again = raise_by_ten(there_is)
print(f"his, once more: {again.succeeded}; the limit is {store.get(b'/line/1/limit').value.decode()}")
assert (first.succeeded, second.succeeded, again.succeeded) == (True, False, True)
assert store.get(b"/line/1/limit").value == b"100"

# %% [markdown]
# What is compared, read and written in a transaction may be any number of keys. Either all of it happens, at one
# revision, or nothing.

# %%
swapped = store.txn(
    [kv.Value(b"/line/2/limit") == b"70", kv.V(b"/line/4/limit") == 0],
    [kv.Delete(b"/line/2/limit"), kv.Put(b"/line/4/limit", b"70"), kv.Put(b"/site", b"south")],
)
changed = store.range(b"", prefix=True, min_mod=swapped.revision)
print(f"revision {swapped.revision}: {', '.join(found.key.decode() for found in changed.kvs)}")
assert len(changed.kvs) == 2

# %% [markdown]
# ## As it was
# Every revision can be read, and what became of a key can be told.

# %%
before = swapped.revision - 1
then = store.range(b"/line/", prefix=True, revision=before)
print(f"at revision {before}: {', '.join(f'{found.key.decode()}={found.value.decode()}' for found in then.kvs)}")
print(store.history(b"/line/1/limit").select("revision", "kind", pl.col("value").cast(pl.String), "version"))
assert [found.value for found in then.kvs] == [b"100", b"70", b"90"]
assert store.history(b"/line/2/limit")["kind"].to_list() == ["put", "put", "delete"]

# %% [markdown]
# ## Watching
# Another process writes, this one is told: every revision that did something to what is watched, once, in order and
# whole. A watcher asks when it is ready for more, so that it may be slow without losing anything.

# %%
WRITER = """
import sys
from mitoframe import kv

with kv.open(sys.argv[1]) as store:
    for number in range(3):
        store.put(b"/job/%d" % number, b"begun")
    store.txn([], [kv.Put(b"/job/0", b"done"), kv.Delete(b"/job/1")])
"""
jobs = store.watch(b"/job/", prefix=True, prev_kv=True)
writer = subprocess.Popen([sys.executable, "-c", WRITER, str(STORE)])
for batch in jobs:
    events = [f"{event.kind} {event.kv.key.decode()} {event.kv.value.decode()}".strip() for event in batch.events]
    print(f"revision {batch.revision}: {', '.join(events)}")
    if len(batch.events) == 2:
        break
assert writer.wait() == 0
assert [event.prev_kv.value for event in batch.events] == [b"begun", b"begun"]

# %% [markdown]
# Whoever was away goes on where he stopped. `progress` is the revision through which everything was handed out: save
# it, and begin at the next.

# %%
seen = jobs.progress()
jobs.cancel()
store.put(b"/job/2", b"done")
store.put(b"/job/3", b"begun")
with store.watch(b"/job/", prefix=True, start_revision=seen + 1) as jobs:
    missed = [jobs.next().events[0].kv.key for _ in range(2)]
print(f"missed since revision {seen}: {', '.join(key.decode() for key in missed)}")
assert missed == [b"/job/2", b"/job/3"]

# %% [markdown]
# ## Until it dies
# Keys put with a lease go when it is not renewed any more. This is how one of several processes leads: it makes the key
# `/leader`, if nobody has, with a lease that is renewed in the background for as long as it lives.

# %%
LEADER = """
import sys
from mitoframe import kv

store = kv.open(sys.argv[1])
with store.lease(1, keepalive=True) as lease:
    won = store.txn([kv.V(b"/leader") == 0], [kv.Put(b"/leader", b"the other process", lease=lease.id)])
    print(won.succeeded, flush=True)
    sys.stdin.readline()
"""
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
leader = subprocess.Popen([sys.executable, "-c", LEADER, str(STORE)], **pipes, text=True)
assert leader.stdout.readline() == "True\n"
mine = store.lease(10, keepalive=True)
lead = [kv.V(b"/leader") == 0], [kv.Put(b"/leader", b"this process", lease=mine.id)], [kv.Get(b"/leader")]
tried = store.txn(*lead)
print(f"lead? {tried.succeeded}: it is {tried.responses[0].kvs[0].value.decode()}")
assert not tried.succeeded

# %% [markdown]
# It is killed. Nobody renews its lease, so its key goes, no earlier than the lease says; whoever has the store open
# sees to that. This process was waiting for it.

# %%
with store.watch(b"/leader") as watcher:
    leader.kill()
    killed = time.monotonic()
    gone = watcher.next()
leader.communicate()
print(f"{gone.events[0].kind} {gone.events[0].kv.key.decode()}")
taken = store.txn(*lead)
print(f"lead? {taken.succeeded}: it is {store.get(b'/leader').value.decode()}")
assert taken.succeeded
assert time.monotonic() - killed > 0.5

# %% [markdown]
# ## What may be forgotten
# Every revision is kept until `compact` says from where on. What is there stays there; what it was before that
# revision, and what had been deleted by then, is gone, and whoever asks is told so.

# %%
oldest = taken.revision - 2
store.compact(oldest)
status = store.status()
print(f"revisions {status.compact_revision} to {status.revision} can be read")
try:
    store.range(b"/line/", prefix=True, revision=before)
    refused = None
except kv.CompactedError as error:
    refused = error
print(refused)
assert refused.compact_revision == oldest
assert store.get(b"/line/1/limit", revision=oldest).value == b"100"
assert store.history(b"/line/1/limit").height == 1

# %% [markdown]
# A snapshot is a copy of one moment; a store made of it goes on from there.

# %%
copy = store.snapshot(STORE.parent / "copy.kv")
print(f"copied revision {copy.revision}")
kv.restore(STORE.parent / "copy.kv", STORE.parent / "second.kv")
with kv.open(STORE.parent / "second.kv") as second:
    assert second.hash_kv() == store.hash_kv(copy.revision)
    assert second.put(b"/site", b"west").revision == copy.revision + 1
mine.revoke()
store.close()
