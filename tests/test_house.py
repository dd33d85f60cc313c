"""The house rules as tests: floors, banned imports, names, and the tools that check the rest.

Every rule is a function from a module's source to the sentences that it breaks, so that each can be seen to fail.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mitoframe"

# Imports go down: a module may import rooms of a lower floor, and its own room.
FLOORS = {"storage": 1, "region": 2, "read": 3, "jobs": 4, "engine": 5}
DOOR, MAIN = 6, 7
GROUND = {"kernels": {"kernels"}, "failpoints": set(), "model": {"model"}, "ports": {"model"}}
WINGS = {"drivers": set(GROUND), "kv": set(GROUND), "frames": set(GROUND), "views": set()}
WING_IMPORTERS = {"drivers": {"registry"}, "kv": {"registry"}, "frames": {"door"}, "views": {"door"}}

# A library, and the only modules (or beginnings of their names) that may import it.
ONLY_IN = {
    "numba": ("kernels.",),
    "polars": (
        "frames.polars", "frames.conditions", "accessor", "database", "table", "scan", "inspection", "datasets",
        "explaining", "exporting", "verbs", "joining", "following", "travelling", "diagnosis", "doctor", "verifying",
        "cli.", "kv.frame",
    ),
    "pandas": ("frames.pandas", "accessor"),
    "pyarrow.parquet": ("storage.sst_",),
    "pyarrow.fs": ("drivers.",),
    "matplotlib": ("views.",),
    "ipywidgets": ("views.",),
    "anywidget": ("views.",),
    "sqlite3": ("drivers.", "kv."),
    "tqdm": ("progress",),
    "click": ("cli.",),
    "rich": ("cli.",),
    "threading": (
        "region.control", "region.gate", "engine.", "storage.cache", "storage.memtable", "drivers.", "kv.",
        "kernels.jit",
    ),
    "pickle": (), "marshal": (), "shelve": (), "cloudpickle": (), "dill": (),
}  # fmt: skip
NOT_IN_MODEL = {"os", "io", "pathlib", "time", "random", "uuid", "threading"}
NOT_ONLY_STDLIB = {"kernels": {"numpy", "numba"}}
LOCAL_IMPORTS = (
    "exporting", "accessor", "registry", "progress", "views.", "kernels.jit", "kv.store", "testing.", "__main__",
)  # fmt: skip
BANNED_NAMES = {"utils", "util", "core", "common", "helpers", "misc"}
# Used by people, benchmarks and tests rather than by the package.
ENTRANCES = {"__init__", "__main__", "datasets", "tsbs"}
# Programs: what they import is in use.
PROGRAMS = {"cli.main"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    name: str
    line: int
    typing_only: bool
    is_local: bool

    @property
    def inner(self) -> str | None:
        """The name within the package, or None for a foreign one."""
        return self.name.removeprefix("mitoframe.") if self.name.startswith("mitoframe.") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One source file; ``name`` leaves out the package: ``storage.wal``, ``database``."""

    name: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def room(self) -> str:
        return self.name.split(".", maxsplit=1)[0]


def read_module(name: str, source: str, known: frozenset[str] = frozenset()) -> Module:
    tree = ast.parse(source)
    return Module(name=name, tree=tree, imports=tuple(imports_of(tree, known)))


def imports_of(
    node: ast.AST, known: frozenset[str], typing_only: bool = False, is_local: bool = False
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            base = "." * child.level + (child.module or "")
            full = [f"{base}.{alias.name}" for alias in child.names]
            names = [name if name.removeprefix("mitoframe.") in known or name in ONLY_IN else base for name in full]
        else:
            guarded = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from imports_of(child, known, typing_only or guarded, is_local or function)
            continue
        for name in dict.fromkeys(names):
            yield Import(name=name, line=child.lineno, typing_only=typing_only, is_local=is_local)


@cache
def package() -> tuple[Module, ...]:
    paths = {path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in files()}
    known = frozenset(paths)
    return tuple(read_module(name, path.read_text(), known) for name, path in sorted(paths.items()))


def files() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts]


# --- rules of one module -------------------------------------------------------------------------------


def floor_of(room: str) -> int:
    return MAIN if room == "__main__" else FLOORS.get(room, DOOR)


def may_import(importer: Module, room: str) -> bool:
    own = importer.room
    if own == "testing":
        return True
    if room == "testing":
        return False
    if room in WINGS and own not in WINGS:
        allowed = WING_IMPORTERS[room]
        return own in allowed or ("door" in allowed and own not in GROUND and own not in FLOORS)
    if own in GROUND:
        return room in GROUND[own]
    if own in WINGS:
        return room == own or room in WINGS[own]
    return room in GROUND or floor_of(room) < floor_of(own) or room == own or floor_of(own) == floor_of(room) == DOOR


def imports_that_go_up(module: Module) -> Iterator[str]:
    for each in module.imports:
        if each.name == "mitoframe" and module.room != "testing":
            yield f"{each.line}: imports the package itself"
        elif each.inner and not may_import(module, each.inner.split(".", maxsplit=1)[0]):
            yield f"{each.line}: imports {each.inner}"


def relative_imports(module: Module) -> Iterator[str]:
    yield from (f"{each.line}: {each.name}" for each in module.imports if each.name.startswith("."))


def is_within(name: str, library: str) -> bool:
    return name == library or name.startswith(library + ".")


def misplaced_libraries(module: Module) -> Iterator[str]:
    for each in module.imports:
        for library, places in ONLY_IN.items():
            allowed = (*places, "testing.") if places else ()
            if is_within(each.name, library) and not each.typing_only and not module.name.startswith(allowed):
                yield f"{each.line}: imports {library}"
        first = each.name.split(".", maxsplit=1)[0]
        if module.room == "model" and first in NOT_IN_MODEL:
            yield f"{each.line}: imports {first}"
        libraries = NOT_ONLY_STDLIB.get(module.room, {first})
        if first not in libraries | {"mitoframe"} | sys.stdlib_module_names:
            yield f"{each.line}: imports {first}"


def local_imports(module: Module) -> Iterator[str]:
    if not module.name.startswith(LOCAL_IMPORTS):
        yield from (f"{each.line}: imports {each.name} in a function" for each in module.imports if each.is_local)


def prints(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and module.name != "__main__":
            yield f"{node.lineno}: prints"


def missing_docstrings(module: Module) -> Iterator[str]:
    if not module.name.endswith("__init__") and not ast.get_docstring(module.tree):
        yield "1: has no docstring"


def bad_names(module: Module) -> Iterator[str]:
    parts = module.name.split(".")
    if BANNED_NAMES & set(parts):
        yield "1: says nothing by its name"
    if len(parts) > 2:
        yield "1: lies deeper than one folder"


RULES: tuple[Callable[[Module], Iterator[str]], ...] = (
    imports_that_go_up, relative_imports, misplaced_libraries, local_imports, prints, missing_docstrings, bad_names,
)  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Callable[[Module], Iterator[str]]) -> None:
    broken = [f"{module.name.replace('.', '/')}.py:{fault}" for module in package() for fault in rule(module)]

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (imports_that_go_up, "storage.wal", "from mitoframe.region.version import Version"),
        (imports_that_go_up, "storage.wal", "from mitoframe.region import version"),
        (imports_that_go_up, "region.region", "def f():\n    import mitoframe.engine.engine"),
        (imports_that_go_up, "engine.engine", "from mitoframe.drivers.clock import SystemClock"),
        (imports_that_go_up, "database", "from mitoframe.drivers.clock import SystemClock"),
        (imports_that_go_up, "drivers.log_file", "from mitoframe.storage.wal import Wal"),
        (imports_that_go_up, "views.timeline", "from mitoframe.model.file import FileMeta"),
        (imports_that_go_up, "engine.engine", "from mitoframe.frames.arrow import to_batch"),
        (imports_that_go_up, "model.file", "from mitoframe.ports import Vfs"),
        (imports_that_go_up, "kernels.sort", "from mitoframe.model.ids import FileId"),
        (imports_that_go_up, "engine.engine", "from mitoframe.testing.golden import read"),
        (imports_that_go_up, "engine.engine", "import mitoframe"),
        (relative_imports, "storage.wal", "from .paths import segment"),
        (misplaced_libraries, "storage.wal", "import numba"),
        (misplaced_libraries, "engine.engine", "from polars import DataFrame"),
        (misplaced_libraries, "read.plan", "import pyarrow.parquet as pq"),
        (misplaced_libraries, "read.plan", "from pyarrow import parquet"),
        (misplaced_libraries, "read.plan", "from threading import Lock"),
        (misplaced_libraries, "testing.golden", "import pickle"),
        (misplaced_libraries, "model.file", "from pathlib import Path"),
        (misplaced_libraries, "kernels.sort", "import pyarrow"),
        (local_imports, "engine.engine", "class A:\n    def f(self):\n        import json"),
        (prints, "engine.engine", "print('here')"),
        (missing_docstrings, "engine.engine", "x = 1"),
        (bad_names, "engine.utils", ""),
        (bad_names, "core.engine", ""),
        (bad_names, "engine.jobs.flush", ""),
    ],
)
def test_the_rule_sees_a_module_that_breaks_it(rule: Callable[[Module], Iterator[str]], name: str, source: str) -> None:
    known = frozenset({"region.version"})

    assert list(rule(read_module(name, source, known)))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("registry", "from mitoframe.drivers.clock import SystemClock"),
        ("database", "from mitoframe.frames.arrow import to_batch\nfrom mitoframe.scan import Scan"),
        ("__main__", "from mitoframe.database import open\nprint(open)"),
        ("views.timeline", "def f():\n    from matplotlib import pyplot"),
        ("jobs.flush", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from threading import Lock"),
        ("testing.golden", "from mitoframe.engine.engine import MitoEngine\nimport polars"),
    ],
)
def test_the_rules_let_pass_what_is_right(name: str, source: str) -> None:
    module = read_module(name, f'"""Docstring."""\n{source}')

    assert [fault for rule in RULES for fault in rule(module)] == []


# --- rules of the whole --------------------------------------------------------------------------------


def test_importing_a_room_does_not_load_its_neighbours() -> None:
    # `kv` is a door of its own.
    rooms = [path for path in files() if path.name == "__init__.py" and path.parent not in (PACKAGE, PACKAGE / "kv")]

    assert [str(path) for path in rooms if path.read_text()] == []
    assert {path.parent.name for path in rooms} | {"kv"} == {
        path.parent.name for path in files() if path.parent != PACKAGE
    }


def graph(modules: tuple[Module, ...]) -> dict[str, set[str]]:
    """Who imports whom, in any way; what the registry names in a string counts as imported by it."""
    edges = {module.name: {each.inner for each in module.imports if each.inner} for module in modules}
    for module in modules:
        if module.name == "registry":
            texts = (node.value for node in ast.walk(module.tree) if isinstance(node, ast.Constant))
            edges["registry"] |= {
                text.removeprefix("mitoframe.").split(":")[0] for text in texts if isinstance(text, str)
            }
    return edges


def dead_modules(edges: dict[str, set[str]]) -> list[str]:
    """Modules that nothing of the package needs. The door is what the package's own ``__init__`` offers."""
    used = {name for importer, names in edges.items() if not importer.startswith("testing.") for name in names}
    inner = {
        name for importer in edges.keys() - ENTRANCES if not importer.startswith("testing.") for name in edges[importer]
    }
    return [
        name
        for name in sorted(edges)
        if name not in ENTRANCES | PROGRAMS
        and not name.startswith("testing.")
        and not name.endswith("__init__")
        and name not in (inner if "." in name else used)
    ]


def cycles(edges: dict[str, set[str]]) -> list[str]:
    left = {name: set(names) & edges.keys() for name, names in edges.items()}
    while leaves := {name for name, names in left.items() if not names}:
        left = {name: names - leaves for name, names in left.items() if name not in leaves}
    return sorted(left)


def test_no_module_is_dead() -> None:
    dead = dead_modules(graph(package()))

    assert not dead, "\n".join(dead)


def test_a_module_that_only_the_tests_support_is_dead() -> None:
    edges = {
        "__init__": {"database", "model.unused"},
        "database": {"engine.engine"},
        "engine.engine": set(),
        "engine.old": set(),
        "model.unused": set(),
        "testing.golden": {"engine.old"},
    }

    assert dead_modules(edges) == ["engine.old", "model.unused"]


def test_no_modules_import_each_other_in_a_circle() -> None:
    runtime = {
        module.name: {each.inner for each in module.imports if each.inner and not each.typing_only}
        for module in package()
    }

    assert cycles(runtime) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


# --- tools ---------------------------------------------------------------------------------------------

LINT_IMPORTS = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
        ["-c", LINT_IMPORTS],
    ],
    ids=["ruff check", "ruff format", "mypy", "import-linter"],
)
def test_tool_finds_nothing(arguments: list[str]) -> None:
    result = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
