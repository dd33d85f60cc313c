"""What `import mitoframe` loads: never what only pictures, kernels or comparisons need."""

from __future__ import annotations

import subprocess
import sys


def loaded_by(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_the_package_loads_no_heavy_or_optional_library() -> None:
    heavy = {"numba", "llvmlite", "matplotlib", "ipywidgets", "anywidget", "IPython", "duckdb", "obstore", "aetcd"}
    heavy |= {"click", "rich"}

    assert loaded_by("import mitoframe") & heavy == set()


def test_the_probe_sees_a_library_that_is_loaded() -> None:
    assert "json" in loaded_by("import json")
