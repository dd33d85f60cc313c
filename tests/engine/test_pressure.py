from __future__ import annotations

import pytest
from builders import batch_of, metadata_of, put

from mitoframe.engine.pressure import Pressure, pressure
from mitoframe.model.edit import RegionState
from mitoframe.model.ids import EntryId, ManifestVersion
from mitoframe.model.options import MitoConfig, RegionOptions
from mitoframe.region.version import Version
from mitoframe.storage.memtable import Memtable

METADATA = metadata_of()
UNIT = batch_of(METADATA, [put(1, 1)]).size_bytes
CONFIG = MitoConfig(write_buffer_size_bytes=2 * UNIT, write_buffer_limit_bytes=5 * UNIT)


def version_of(mutable: int, *frozen: int) -> Version:
    """Make a version whose memtables hold so many units of memory."""
    memtables = []
    for number, units in enumerate([*frozen, mutable]):
        memtable = Memtable(number)
        for sequence in range(1, units + 1):
            memtable.insert(batch_of(METADATA, [put(sequence, 1)]), EntryId(sequence))
        memtables.append(memtable)
    return Version(
        state=RegionState(metadata=METADATA, options=RegionOptions()),
        manifest_version=ManifestVersion(0),
        mutable=memtables[-1],
        immutables=tuple(memtables[:-1]),
    )


@pytest.mark.parametrize(
    ("mutable", "frozen", "decision"),
    [
        (0, (), Pressure.GO),
        (1, (), Pressure.GO),
        (2, (), Pressure.FLUSH),
        (9, (), Pressure.FLUSH),
        (0, (4,), Pressure.GO),
        (1, (3,), Pressure.GO),
        (2, (2,), Pressure.FLUSH),
        (1, (4,), Pressure.STALL),
        (0, (5,), Pressure.STALL),
        (0, (3, 2), Pressure.STALL),
        (3, (2,), Pressure.STALL),
    ],
)
def test_what_the_buffers_call_for(mutable, frozen, decision):
    assert pressure(version_of(mutable, *frozen), CONFIG) is decision
