"""RESULTS.md and the raw values beside it in RESULTS.json: one section per benchmark, each with its own date.

    python benchmarks/report.py        runs the kernel benchmark and adds its section

A section tells the machine it was measured on, by its parts and never by its name, and the command that repeats it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS_MARKDOWN = FOLDER / "RESULTS.md"
RESULTS_JSON = FOLDER / "RESULTS.json"
KERNELS = FOLDER / "kernels.py"
ORDER = (
    "queries",
    "overlapping",
    "first",
    "points",
    "floors",
    "merging",
    "stages",
    "ingest",
    "scale",
    "writers",
    "compactor",
    "amplification",
    "beside",
    "files",
    "startup",
    "inspecting",
    "pictures",
    "kernels",
)
PACKAGES = ("mitoframe", "numba", "numpy", "pandas", "polars", "pyarrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    what: str
    wanted: str
    found: str
    is_met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    name: str
    title: str
    command: str
    table: Table
    raw: Any
    notes: Sequence[str] = ()
    targets: Sequence[Target] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def record(section: Section) -> None:
    """Put the section in place of the one of that name, and write both files again."""
    results = json.loads(RESULTS_JSON.read_text(encoding="utf-8")) if RESULTS_JSON.is_file() else {}
    results[section.name] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        **asdict(section),
        "versions": {package: version(package) for package in PACKAGES} | dict(section.versions),
    }
    RESULTS_JSON.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    RESULTS_MARKDOWN.write_text(render(results), encoding="utf-8")


def render(results: Mapping[str, Any]) -> str:
    known = [results[name] for name in ORDER if name in results]
    head = "# Benchmark results\n\nWhat is measured and how: [README.md](README.md). Raw values: `RESULTS.json`.\n"
    return head + "".join(_render_section(section) for section in known)


def markdown(table: Table) -> str:
    """Return the table as Markdown; all columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(table.head) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [table.head, rule, *table.rows])


def targets_markdown(targets: Sequence[Target]) -> str:
    rows = [[one.what, one.wanted, one.found, "met" if one.is_met else "**missed**"] for one in targets]
    return markdown(Table(head=["target", "wanted", "found", ""], rows=rows)) if rows else ""


def machine() -> dict[str, str]:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory_bytes / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _render_section(section: Mapping[str, Any]) -> str:
    table = Table(**section["table"])
    targets = targets_markdown([Target(**target) for target in section["targets"]])
    described = "; ".join(section["machine"].values())
    versions = ", ".join(f"{package} {number}" for package, number in sorted(section["versions"].items()))
    parts = [
        f"\n## {section['title']}\n",
        markdown(table),
        targets,
        "".join(f"* {note}\n" for note in section["notes"]),
        f"Measured on {section['date']} with `{section['command']}`: {described}; {versions}.\n",
    ]
    return "\n".join(part for part in parts if part)


def kernels_section() -> Section:
    """Run the kernel benchmark, whose last line is a JSON list of flat objects: they become the rows of a table.

    An object that has both a ``ratio`` and a ``target`` also becomes a target: the ratio is to be at least that.
    """
    command = [sys.executable, str(KERNELS), "--json"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows: list[dict[str, Any]] = json.loads(output.strip().splitlines()[-1])
    head = list(dict.fromkeys(key for row in rows for key in row))
    return Section(
        name="kernels",
        title="Kernels",
        command="python benchmarks/kernels.py --json",
        table=Table(head=head, rows=[[_cell(row.get(key)) for key in head] for row in rows]),
        targets=[
            Target(
                what=str(next(iter(row.values()))),
                wanted=f"at least {row['target']:g} times",
                found=f"{row['ratio']:.1f} times",
                is_met=row["ratio"] >= row["target"],
            )
            for row in rows
            if row.get("target") is not None and row.get("ratio") is not None
        ],
        raw=rows,
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    section = kernels_section()
    print(markdown(section.table))
    print(targets_markdown(section.targets))
    record(section)


if __name__ == "__main__":
    main()
