from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from chunks import chunk_of
from oracles import int32s, int64s, uint64s

from mitoframe.kernels import aggregate, dedup, hashing, jit, keys, merge, pages, replay, series, sort
from mitoframe.testing import warm

FIRST_CALLS = """
import numpy as np
from mitoframe.kernels import dedup, jit, sort
jit.Kernel.values_as_written = jit.AS_WRITTEN_VALUES_MAX
rows = np.array([2, 1, 1], np.int64)
take = sort.sort_rows(np.zeros(3, np.int32), 1, rows, np.array([1, 2, 3], np.uint64))
print(take.tolist(), dedup.keep_last(np.zeros(3, np.int32), rows, take).tolist())
"""
ANSWER = "[2, 1, 0] [2, 0]\n"


def run(code: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=inherited | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )


def test_importing_kernels_does_not_import_numba():
    ran = run("import sys; import mitoframe.testing.warm; print('numba' in sys.modules, 'llvmlite' in sys.modules)")

    assert ran.stdout == "False False\n"


def test_kernels_know_numpy_and_the_door_to_numba_alone():
    for module in warm.ROOMS:
        tree = ast.parse(inspect.getsource(module))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}

        # A device function of another module would be compiled in and not renewed when it changes.
        assert imported <= {"__future__", "collections.abc", "numpy", "mitoframe.kernels.jit"}, module.__name__


def test_every_module_of_kernels_is_warmed_up():
    files = {path.stem for path in Path(jit.__file__).parent.glob("*.py")} - {"__init__", "jit", "warm"}

    assert {module.__name__.rsplit(".", 1)[-1] for module in warm.ROOMS} == files


def test_warm_up_leaves_nothing_to_load():
    ran = run(
        "from mitoframe.kernels import jit; from mitoframe.testing import warm\n"
        "print(warm.warm_up() == len(jit.kernels()) > 10, all(kernel._compiled for kernel in jit.kernels()))"
    )

    assert ran.stdout == "True True\n"


def test_every_kernel_has_one_specialisation():
    assert {kernel.__name__: len(kernel.load().signatures) for kernel in jit.kernels()} == {
        kernel.__name__: 1 for kernel in jit.kernels()
    }


def samples():
    draw = np.random.default_rng(7)
    size, count = 300, 9
    codes = draw.integers(0, count, size).astype(np.int32)
    times = draw.integers(-20, 20, size)
    sequences = draw.integers(2**63, 2**64 - 1, size, dtype=np.uint64)
    take = np.lexsort((~sequences, times, codes))
    column = draw.integers(-1, 2**31 - 1, size).astype(np.int32)
    op_types = draw.integers(0, 2, size).astype(np.uint8)
    representatives = draw.permutation(size)[:count]
    offsets = 12 * np.arange(size + 1)
    chunk, _ = chunk_of(pa.array(times), use_dictionary=False, column_encoding={"x": "DELTA_BINARY_PACKED"})
    halves = np.concatenate([np.sort(half) for half in np.array_split(times, 2)])
    in_order, bits, valid = (codes[take], times[take]), draw.random(size).view(np.int64), op_types == 0
    places, packed = codes.astype(np.int64), codes.astype(np.uint8)
    starts = int64s([0, 7, 7, 150]), int64s([7, 7, 150, size])
    bounds = int64s([0, 7, 150]), int64s([7, 150, size])
    pieces = int64s([0, 100]), int64s([90, size])
    moments = np.concatenate([np.arange(size // 2), np.arange(size - size // 2)])
    return {
        aggregate.add_floats: (bits, places, count),
        aggregate.add_integers: (times, places, count),
        aggregate.choose: (times, codes, sequences, places, count, True),
        aggregate.count_valid: (valid, *starts),
        aggregate.extreme_floats: (bits, places, count, True),
        aggregate.extreme_integers: (times, places, count, False),
        aggregate.first_of_runs: (times, *bounds),
        aggregate.last_of_runs: (times, *bounds),
        aggregate.last_of_series: (*in_order, 2),
        aggregate.pieces_of_codes: (in_order[0],),
        aggregate.pieces_within: (*pieces, 50, size, np.sort(times)[50:], -15, 15),
        aggregate.range_of_floats: (bits, valid, *starts),
        aggregate.range_of_integers: (times, valid, *starts),
        aggregate.range_of_places: (packed, *bounds),
        aggregate.runs_between: (*pieces, np.sort(times), int64s([-20, -3, 4])),
        aggregate.runs_of_width: (*pieces, np.sort(times), 6, 1),
        aggregate.squares_of_floats: (bits, valid, *starts, bits[:4].copy()),
        aggregate.sum_floats: (bits, valid, *starts),
        aggregate.sum_integers: (times, valid, *starts),
        aggregate.sum_packed_floats: (packed, np.arange(-4.0, 5.0).view(np.int64), *starts),
        aggregate.sum_packed_integers: (packed, times[:count].copy(), *starts),
        dedup.keep_last: (codes, times, take),
        dedup.first_valid: (take, int64s([0, 4, 9]), int64s([4, 9, 10]), op_types == 0),
        dedup.keep_repeated: (codes, times, take),
        dedup.version_spans: (codes, times, op_types, take, False),
        hashing.hash_bytes: (offsets, draw.integers(0, 256, 12 * size).astype(np.uint8)),
        keys.codes_follow: (codes, codes, np.unique(codes, return_index=True)[1]),
        keys.strings_follow: (offsets, np.zeros(12 * size, np.uint8), times != 0, codes, representatives),
        keys._split_by_hash: (codes, column, 2**31 - 1),
        keys._split_by_table: (codes, count, column % 5, 5),
        merge._keep_last_by_series: (
            np.zeros(size, np.int32),
            halves,
            sequences * np.uint64(0),
            int64s([0, size // 2, size]),
            op_types == 0,
        ),
        merge._merge_runs: (
            np.zeros(size, np.int32),
            halves,
            sequences * np.uint64(0),
            int64s([0, size // 2, size]),
            True,
            op_types == 0,
        ),
        pages.page_headers: (chunk, 0, 8, False),
        pages.page_rows: (
            chunk,
            pages.page_headers(chunk, 0, 8, False),
            int64s([]),
            int64s([3, 250]),
            int64s([120, 300]),
        ),
        merge.newest_of_pieces: (int32s([0, 0]), int64s([0, 3]), int64s([3, 6]), int64s([0, 1, 2]), times[take][:6]),
        replay.highest: (int64s([0, 0, 3, 2]), int64s([3, 2, 0, 5])),
        replay.replay_windows: (
            int64s([0, size // 2, size]),
            moments,
            times,
            times + 5,
            times % 7 + 1,
            np.arange(size),
            moments,
            moments,
            *(False, 4, 2, 10, 8, 2**62, 40, 24, 100, 1024, 100),
        ),
        series.codes_from_offsets: (int64s([0, 2, 2, 5]), 1, 5),
        series.series_offsets: (np.sort(codes), count),
        sort._first_of_each_key: (codes[take], times[take]),
        sort._sort_rows: (codes, count, times, sequences, True),
        sort.is_sorted: (codes[take], times[take], sequences[take]),
    }


def test_compiled_kernels_agree_with_the_python_they_are_written_in():
    arguments = samples()
    assert set(arguments) == set(jit.kernels()), "give every kernel a sample"

    for kernel, given in arguments.items():
        compiled = kernel(*given)
        # Only Python's scalars warn when the hash wraps around, as it is meant to.
        with np.errstate(over="ignore"):
            interpreted = kernel.python(*given)

        np.testing.assert_equal(compiled, interpreted, err_msg=kernel.__name__)


def test_kernels_run_uncompiled_where_numba_is_switched_off():
    ran = run(FIRST_CALLS, NUMBA_DISABLE_JIT="1")

    assert (ran.stdout, ran.stderr) == (ANSWER, "")


def test_a_kernel_takes_read_only_arrays_and_changes_none():
    codes, times, sequences = int32s([0, 0]), int64s([5, 4]), uint64s([1, 2])
    for column in (codes, times, sequences):
        column.flags.writeable = False

    take = sort.sort_rows(codes, 1, times, sequences)

    assert take.tolist() == [1, 0]
    assert take.flags.writeable


@pytest.mark.parametrize(
    "times",
    [np.zeros(2, np.int32), np.zeros(2, np.uint64), np.zeros(2), np.zeros(4, np.int64)[::2], [0, 0]],
    ids=["narrower", "unsigned", "float", "strided", "list"],
)
def test_another_type_of_array_is_refused(times):
    with pytest.raises(TypeError):
        dedup.keep_last(int32s([0, 0]), times, int64s([0, 1]))


def test_an_annotation_that_names_no_array_is_a_mistake():
    @jit.Kernel
    def unknown(values: list[int]) -> int:
        return 0

    with pytest.raises(AssertionError, match="cannot take list"):
        unknown([1])


def test_threads_that_call_first_at_once_share_one_kernel():
    fresh = jit.Kernel(sort._first_of_each_key.python)
    barrier = threading.Barrier(4)
    loaded, answers = [], []

    def call():
        barrier.wait()
        answers.append(fresh(int32s([0, 0]), int64s([5, 5])).tolist())
        loaded.append(fresh.load())

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [[0]] * 4
    assert len({id(one) for one in loaded}) == 1


def test_compiling_is_said_once_and_loading_is_not(tmp_path):
    store, cache = tmp_path / "store", tmp_path / "cache"
    store.mkdir()

    cold = run(FIRST_CALLS, store, NUMBA_CACHE_DIR=str(cache))
    warmed = run(FIRST_CALLS, store, NUMBA_CACHE_DIR=str(cache))

    assert (cold.stdout, warmed.stdout) == (ANSWER, ANSWER)
    assert cold.stderr.splitlines() == [jit._COMPILING]
    assert warmed.stderr == ""
    assert list(store.iterdir()) == [], "nothing is left in the working folder"

    # A power loss can leave files behind that are there and empty, or cut short.
    for number, path in enumerate(sorted(cache.rglob("*.nb?"))):
        path.write_bytes(path.read_bytes()[: 40 * (number % 2)])
    damaged = run(FIRST_CALLS, store, NUMBA_CACHE_DIR=str(cache))

    assert damaged.stdout == ANSWER
    assert "cannot be used" in damaged.stderr


READINESS = """
import sys
from mitoframe.kernels import jit, sort
ready = [jit.are_ready()]
{act}
ready.append(jit.are_ready())
print(ready, sum(each._compiled is not None for each in jit.kernels()), len(jit.kernels()))
"""


def test_kernels_are_ready_from_the_first_call_on():
    ran = run(READINESS.format(act="sort._first_of_each_key.load()"))

    assert ran.stdout.startswith("[False, True] 1 ")


def test_what_is_in_the_cache_is_loaded_without_what_only_compiling_needs():
    run("from mitoframe.kernels import sort; sort._first_of_each_key.load()")

    ran = run(
        "import sys, numba; before = 'numba.np.linalg' in sys.modules\n"
        "from mitoframe.kernels import sort; sort._first_of_each_key.load()\n"
        "print(before, 'numba.np.linalg' in sys.modules)"
    )

    assert ran.stdout == "False False\n"


LITTLE = """
import sys
import numpy as np
from mitoframe.kernels import hashing, jit, sort
codes, times = np.zeros({size}, np.int32), np.arange({size})
sort._first_of_each_key(codes, times)
{more}
print('numba' in sys.modules, jit.are_ready())
"""


def test_a_process_begins_with_kernels_as_they_are_written():
    half = jit.AS_WRITTEN_VALUES_MAX // 2

    little = run(LITTLE.format(size=half, more=""))
    much = run(LITTLE.format(size=half + 1, more=""))
    again = run(LITTLE.format(size=half, more="sort._first_of_each_key(codes, times)"))

    assert [each.stdout for each in (little, much, again)] == ["False False\n", "True True\n", "True True\n"]


PASSING = """
import numpy as np
from mitoframe.kernels import aggregate, jit
one = np.ones(1, np.int64)
aggregate.last_of_runs(np.arange({size}), one - 1, one)
print(jit.are_ready(), jit.Kernel.values_as_written)
"""


def test_values_that_a_kernel_only_passes_over_count_less():
    most = jit.PASSED_AS_ONE * (jit.AS_WRITTEN_VALUES_MAX - 2)

    little = run(PASSING.format(size=most))
    much = run(PASSING.format(size=most + 1))
    few = run(PASSING.format(size=1))

    assert [each.stdout for each in (little, much)] == [f"False {jit.AS_WRITTEN_VALUES_MAX}\n", "True 0\n"]
    assert few.stdout == "False 3\n"


def test_a_kernel_passes_over_what_it_is_given():
    with pytest.raises(AssertionError, match="no parameters"):

        @jit.kernel_passing("rows")
        def nothing(times: jit.Int64Array) -> int:
            return times.size


def test_bytes_are_not_computed_with_as_written():
    ran = run(LITTLE.format(size=1, more="hashing.hash_bytes(np.zeros(2, np.int64), np.zeros(0, np.uint8))"))

    assert ran.stdout == "True True\n"


REFUSED = {
    "float": "np.zeros(2)",
    "narrower": "np.zeros(2, np.int32)",
    "strided": "np.zeros(4, np.int64)[::2]",
    "table": "np.zeros((2, 1), np.int64)",
    "list": "[0, 0]",
    "number": "2",
}
REFUSING = """
for name, given in {refused!r}.items():
    sort._first_of_each_key._compiled, jit.Kernel.are_ready = None, False  # As in a process that has just begun.
    try:
        sort._first_of_each_key(codes, eval(given))
    except TypeError:
        print(name, jit.are_ready())"""


def test_what_compiled_kernels_refuse_is_refused_from_the_beginning():
    ran = run(LITTLE.format(size=2, more=REFUSING.format(refused=REFUSED)))

    assert ran.stdout.splitlines() == [f"{name} True" for name in REFUSED] + ["True True"]


def test_a_kernel_as_written_warns_of_nothing_that_wraps_around():
    highest = f"np.array([{np.iinfo(np.int64).max}] * 2)"
    ran = run(
        "import numpy as np\nfrom mitoframe.kernels import aggregate, jit\n"
        f"print(aggregate.add_integers({highest}, np.zeros(2, np.int64), 1).tolist(), jit.are_ready())"
    )

    assert ran.stdout == "[-2] False\n"


def test_preparing_loads_what_is_in_the_cache():
    run("from mitoframe.kernels import jit, sort; [each.load() for each in jit.kernels()]")

    ran = run(READINESS.format(act="jit.prepare(lambda: False)"))

    loaded, known = ran.stdout.removeprefix("[False, True] ").split()
    assert int(loaded) == int(known) > 1


def test_preparing_ends_when_it_is_over():
    ran = run(READINESS.format(act="jit.prepare(iter([False, True]).__next__)"))
    never = run(READINESS.format(act="jit.prepare(lambda: True)"))

    assert ran.stdout.startswith("[False, True] 1 ")
    assert never.stdout.startswith("[False, False] 0 ")


def test_preparing_compiles_nothing_and_says_nothing(tmp_path):
    ran = run(READINESS.format(act="jit.prepare(lambda: False)"), NUMBA_CACHE_DIR=str(tmp_path))
    nowhere = run(
        READINESS.format(act="jit.prepare(lambda: False)"), NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator"
    )

    for each in (ran, nowhere):
        assert (each.stdout.startswith("[False, True] 0 "), each.stderr) == (True, "")
    assert not list(tmp_path.rglob("*.nb?"))


def test_without_a_folder_to_write_to_kernels_are_compiled_each_time():
    ran = run(FIRST_CALLS, NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator")

    assert ran.stdout == ANSWER
    assert "no locator available" in ran.stderr
    assert "NUMBA_CACHE_DIR" in ran.stderr


def test_notices_can_be_sent_elsewhere(monkeypatch):
    monkeypatch.setattr(jit, "_shown", set())
    heard = []

    before = jit.notices_to(heard.append)
    try:
        jit._show_once("hello")
        jit._show_once("hello")
    finally:
        jit.notices_to(before)

    assert heard == ["hello"]
