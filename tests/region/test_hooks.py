from __future__ import annotations

from builders import REGION, batch_of, create, metadata_of, open_engine, put
from tracing import TracingHook

METADATA = metadata_of()


def test_hooks_are_told_in_the_order_they_were_given():
    trace: list[str] = []

    class Named(TracingHook):
        def __init__(self, name: str) -> None:
            super().__init__(trace)
            self.name = name

        def on_manifest_updated(self, region_id, actions, version):
            trace.append(f"{self.name} {version}")

    create(open_engine(hooks=[Named("first"), Named("second")]), METADATA)

    assert trace == ["first 0", "second 0"]


def test_a_flush_and_a_compaction_tell_of_files_before_the_manifest_and_gc_of_neither():
    trace: list[str] = []
    engine = open_engine(hooks=[TracingHook(trace)])
    create(engine, METADATA)
    for _ in range(2):
        engine.write(REGION, batch_of(METADATA, [put(0, 1)]))
        engine.flush(REGION)
    trace.clear()

    engine.compact(REGION)
    engine.vacuum(REGION, grace_ms=0)

    assert trace == [
        "hook    sst files written: 1 with 1 rows",
        "hook    manifest updated: version 3, FileEdit",
    ]
