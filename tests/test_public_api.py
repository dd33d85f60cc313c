"""The surface: exactly these names, each explained, each shown by an example that runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import pytest

import mitoframe as mito
from mitoframe import kv

mpl.use("agg")

NAMES = [
    "AlterRequest", "AlterResult", "AtSequence", "BuildIndexRequest", "BulkInsertRequest", "BusyError", "CloseRequest",
    "ClosedError", "CompactRequest", "CompactResult", "ConfigError", "ConflictError", "CorruptionError",
    "CreateRequest", "DamageWarning", "Database", "DeleteRequest", "DeleteResult", "DiskFullError", "DoctorReport",
    "DropRequest", "ExpireResult", "FencedError", "Finding", "FixResult", "FlushRequest", "FlushResult", "IndexResult",
    "InvalidInputError", "LimitExceededError", "MitoConfig", "MitoEngine", "MitoError", "OpenRequest", "PoisonedError",
    "PutRequest", "ReadOnlyError", "RegionGcInfo", "RegionHook", "RegionOptions", "RepeatedWriteWarning",
    "ReplaceRequest", "ReplaceResult", "RestoreResult", "Scan", "ScanRequest", "SchemaMismatchError",
    "SimulationResult", "SnapshotExpiredError", "SnapshotResult", "SstFileInfo", "StoreLockedError",
    "SyncRegionRequest", "Table", "TableExistsError", "TableNotFoundError", "TruncateRequest", "TruncateResult",
    "UnavailableError", "UndoRequest", "UndoResult", "UnknownOutcomeError", "VacuumRequest", "VacuumResult",
    "VerifyReport", "WhyResult", "WriteExplanation", "WriteResult", "open", "scan", "simulate", "write",
]  # fmt: skip
KV_NAMES = [
    "C", "Change", "CompactedError", "Compare", "Delete", "DeleteResult", "Event", "FROM_KEY", "FutureRevisionError",
    "Get", "HashInfo", "KeyValue", "KeyValueStore", "L", "Lease", "M", "Put", "PutResult", "RangeResult",
    "SnapshotInfo", "Status", "Txn", "TxnResult", "V", "Value", "WatchBatch", "Watcher", "open", "prefix_end",
    "restore",
]  # fmt: skip
SURFACE = [(mito, name) for name in NAMES] + [(kv, name) for name in KV_NAMES if name != "FROM_KEY"]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
WITHOUT_EXAMPLE = {"Table.check_options"}
"""Methods that the door has for itself."""
SHOWN_WHOLE = {"MitoEngine", "RegionHook", "RegionOptions"}
"""Those whose one example shows how they are used; their methods are for the engine itself, or for a hook to have."""
EXPLAINED_WHOLE = {"RegionHook", "RegionOptions"}
"""Those whose docstring says it all: what each method of a protocol is told, what options there are."""


def modules() -> list[str]:
    found = pkgutil.walk_packages(mito.__path__, "mitoframe.")
    return ["mitoframe", *(module.name for module in found if not module.name.endswith("__main__"))]


def is_error(item: object) -> bool:
    return isinstance(item, type) and issubclass(item, (Exception, Warning))


def public_parts(name: str, item: Any) -> Iterator[tuple[str, Any]]:
    """The thing and, of a class, the methods and properties it defines itself."""
    yield name, item
    if not inspect.isclass(item) or is_error(item) or name in EXPLAINED_WHOLE:
        return
    for part, value in vars(item).items():
        plain = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not part.startswith("_") and inspect.isfunction(plain):
            yield f"{name}.{part}", plain


def without_docstring(name: str, item: Any) -> list[str]:
    return [part for part, value in public_parts(name, item) if not (value.__doc__ or "").strip()]


def methods_without_example(name: str, item: Any) -> set[str]:
    """Return the methods of a class whose docstring shows nothing; what a property is, the class's example shows."""
    methods = {part: value for part, value in public_parts(name, item) if part != name}
    properties = (
        {f"{name}.{part}" for part, value in vars(item).items() if isinstance(value, property)} if methods else set()
    )
    return {part for part, value in methods.items() if part not in properties and ">>> " not in (value.__doc__ or "")}


def examples_of(item: Any) -> int:
    return sum(len(test.examples) for test in doctest.DocTestFinder(recurse=True).find(item, "item"))


def failures_in(module: Any) -> list[str]:
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder().find(module):
        runner.run(test, out=said.append)
    return said if runner.summarize(verbose=False).failed else []


def shown(item: object) -> str:
    return getattr(item, "__name__", str(item))


def test_the_names_are_these_and_sorted() -> None:
    assert mito.__all__ == sorted(NAMES)
    assert all(hasattr(mito, name) for name in NAMES)
    assert sorted(kv.__all__) == sorted(KV_NAMES)
    assert all(hasattr(kv, name) for name in KV_NAMES)


def test_nothing_else_can_be_seen_but_the_rooms() -> None:
    rooms = {name.split(".")[1] for name in modules() if "." in name}

    seen = {name for name in vars(mito) if not name.startswith("_")}

    assert seen - set(NAMES) - rooms == set()


@pytest.mark.parametrize(("door", "name"), SURFACE, ids=shown)
def test_every_public_name_is_explained(door: Any, name: str) -> None:
    assert without_docstring(name, getattr(door, name)) == []


@pytest.mark.parametrize(
    ("door", "name"), [(door, name) for door, name in SURFACE if not is_error(getattr(door, name))], ids=shown
)
def test_every_public_name_has_an_example(door: Any, name: str) -> None:
    assert examples_of(getattr(door, name))


@pytest.mark.parametrize(
    ("door", "name"), [(door, name) for door, name in SURFACE if name not in SHOWN_WHOLE], ids=shown
)
def test_every_public_method_has_an_example(door: Any, name: str) -> None:
    assert methods_without_example(name, getattr(door, name)) - WITHOUT_EXAMPLE == set()


@pytest.mark.parametrize("name", modules())
def test_every_example_runs(name: str) -> None:
    assert failures_in(importlib.import_module(name)) == []


def test_the_checks_see_a_method_without_docstring_and_an_example_that_is_wrong() -> None:
    class Silent:
        """Wrong.

        >>> 1 + 1
        3
        """

        def method(self) -> None: ...

        @property
        def part(self) -> None: ...

    assert without_docstring("Silent", Silent) == ["Silent.method", "Silent.part"]
    assert methods_without_example("Silent", Silent) == {"Silent.method"}
    assert examples_of(Silent) == 1
    assert examples_of(Callable) == 0
    runner = doctest.DocTestRunner()
    [test] = doctest.DocTestFinder().find(Silent, "Silent")
    assert runner.run(test, out=lambda _: None).failed == 1
