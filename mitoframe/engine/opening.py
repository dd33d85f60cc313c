"""What a writer had decided when it died, carried out by the next one before anybody asks for a table.

A change of a table has one commit point, in its region; the catalog follows. Between the two a process may die: a table
that was dropped still has its name then, and one that was altered is described as it was. The region is right.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mitoframe.model.errors import ConfigError, CorruptionError
from mitoframe.storage.manifest import load

if TYPE_CHECKING:
    from mitoframe.engine.catalog import Catalog, TableEntry
    from mitoframe.engine.engine import MitoEngine


def roll_forward(engine: MitoEngine, catalog: Catalog, *, after_crash: bool) -> None:
    """Let the catalog and the log know what the regions say. Can be cut short and repeated at will.

    With ``after_crash`` every table's manifest is read, because any of them may have been altered last.
    """
    for entry in catalog.tables():
        if not engine.dropped().isdisjoint(entry.regions):
            _finish_drop(engine, catalog, entry)
        elif after_crash:
            _remember_schema(engine, catalog, entry)
    named = {region_id for entry in catalog.tables() for region_id in entry.regions}
    engine.forget_log_of_others(named)


def _finish_drop(engine: MitoEngine, catalog: Catalog, entry: TableEntry) -> None:
    for region_id in entry.regions:
        if region_id not in engine.dropped():
            engine.drop(region_id)
    catalog.drop_table(entry)


def _remember_schema(engine: MitoEngine, catalog: Catalog, entry: TableEntry) -> None:
    # One table that cannot be read keeps nobody from the others; who opens it is told.
    with suppress(CorruptionError, ConfigError):
        schema = load(engine.store, entry.regions[0]).state.metadata.to_json()
        if schema != entry.schema:
            catalog.update_schema(entry, schema)
