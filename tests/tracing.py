"""Ordinary stores, logs and hooks that write down what was asked of them, in the words of a person."""

from __future__ import annotations

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore


class TracingStore(MemoryObjectStore):
    def __init__(self, trace: list[str]) -> None:
        super().__init__()
        self.trace = trace

    def put_if_absent(self, key, data):
        super().put_if_absent(key, data)
        self.trace.append(f"store   put {_short(key)}")

    def delete(self, key):
        super().delete(key)
        self.trace.append(f"store   delete {_short(key)}")


class TracingLog(MemoryLog):
    def __init__(self, trace: list[str]) -> None:
        super().__init__()
        self.trace = trace

    def append(self, entries):
        last = super().append(entries)
        self.trace.append(f"log     append {len(entries)} up to entry {last}")
        return last

    def sync(self):
        super().sync()
        self.trace.append("log     sync")

    def obsolete(self, region_id, through):
        super().obsolete(region_id, through)
        self.trace.append(f"log     obsolete up to entry {through}")


class TracingHook:
    """Also writes down how many files and rows the manifest and readers know of at that moment."""

    def __init__(self, trace: list[str]) -> None:
        self.trace = trace

    def on_sst_files_written(self, region_id, metadata, files):
        rows = sum(info.file.row_count for info in files)
        self.trace.append(f"hook    sst files written: {len(files)} with {rows} rows")

    def on_manifest_updated(self, region_id, actions, version):
        edits = ", ".join(type(edit).__name__ for edit in actions)
        self.trace.append(f"hook    manifest updated: version {version}, {edits}")


def _short(key: str) -> str:
    """Name an object without its region and without random digits."""
    folder, name = key.split("/")[-2:]
    number, _, kind = name.partition(".")
    return f"{folder}/{int(number)}.{kind}" if folder == "manifest" else f"{folder}/*.{kind}"
