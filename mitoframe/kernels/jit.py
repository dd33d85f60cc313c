"""The only door to numba: ``@kernel`` for a compiled loop, ``@device`` for a helper that kernels call.

Importing a module of kernels costs nothing: numba is imported, and a loop compiled or loaded, when it is first needed.
Every kernel has exactly one specialisation. It is read off the annotations, which must be names of this module:

    Int32Array, Int64Array, Uint8Array, Uint64Array, BoolArray      one-dimensional and C-contiguous
    int, bool                                                       int64, boolean

Array arguments are typed read-only, so that views of Arrow buffers and arrays of our own meet in that one
specialisation; a kernel returns new arrays and changes none that it was given. Another dtype, or a stride, is a
``TypeError``.

The flags, the same for all kernels:

    nogil=True      background threads flush and compact while the notebook goes on
    cache=True      compiling takes seconds, loading takes milliseconds (`_load_cached`)
    parallel        off: threads belong to the scheduler
    fastmath        off: integers gain nothing by it, and floats keep their NaN

and for device functions:

    forceinline     a call per row would cost more than what most of them do
    _nrt=False      no reference counting of the arrays they are handed, which would be two atomic operations per call
                    and array; in return a device function allocates nothing, it is handed its scratch arrays

The compiled code lies where numba puts it: in ``NUMBA_CACHE_DIR`` if that is set, else beside the source, else in
the user's cache folder; never near a store. Numba renews it when the source file of the kernel changes, and looks at
no other file: so a device function lives in the module of the kernels that call it, and whoever changes the flags here
empties the cache.

To import Numba takes a fifth of a second, to load a kernel then milliseconds. So a process begins with kernels that run
as they are written, in Python, until that has been done to so many values that it would have been time to load them.
Values that a kernel only passes over count less (`kernel_passing`). Bytes are left out of that: NumPy computes with
them in eight bits, and compiled code in 64. `are_ready` tells whether Numba is there, so that who has a way around
kernels for little work may go it, and `prepare` loads them beforehand.

Promises: two threads may make the first call at once; a cache that cannot be read or written makes the process slower
and never fails it; one line tells the user when compiling is about to take its time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import update_wrapper
from typing import Any, ClassVar, Generic, ParamSpec, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Int32Array: TypeAlias = npt.NDArray[np.int32]
Int64Array: TypeAlias = npt.NDArray[np.int64]
Uint8Array: TypeAlias = npt.NDArray[np.uint8]
Uint64Array: TypeAlias = npt.NDArray[np.uint64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

P = ParamSpec("P")
R = TypeVar("R")
Function = TypeVar("Function", bound=Callable[..., Any])

_ARRAYS = {
    "Int32Array": "int32",
    "Int64Array": "int64",
    "Uint8Array": "uint8",
    "Uint64Array": "uint64",
    "BoolArray": "boolean",
}
_SCALARS = {"int": "int64", "bool": "boolean"}
_AS_WRITTEN = {"Int32Array": np.int32, "Int64Array": np.int64, "Uint64Array": np.uint64, "BoolArray": np.bool_}
"""The arrays of which Python makes what compiled code does."""
_NUMBERS = (int, bool, np.int64, np.bool_)
AS_WRITTEN_VALUES_MAX = 1 << 14
"""To go through so many values in Python takes less than a third of the time that it takes to load Numba."""
PASSED_AS_ONE = 32
"""So many values that a kernel only adds up, compares or jumps over take Python no longer than one of the others."""
_COMPILING = "mitoframe: compiling its kernels for this machine; this happens once and takes about 10 s in all"
_CACHE_FAILED = (
    "mitoframe: numba's cache of compiled kernels cannot be used ({error!r}), so every process compiles anew; "
    "set NUMBA_CACHE_DIR to an empty folder you may write to"
)


class Kernel(Generic[P, R]):
    """A loop that is compiled, or loaded from numba's cache, when it is first called.

    ``python`` is the loop as written: slow, and what the compiled one is compared with.
    """

    are_ready: ClassVar[bool] = False
    values_as_written: ClassVar[int] = 0

    def __init__(self, function: Callable[P, R], *, passing: Collection[str] = ()) -> None:
        self.python = function
        taken = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
        assert taken.keys() >= set(passing), f"{function.__name__} has no parameters {sorted(passing)}"
        self._takes = tuple(taken.values())
        self._counted_times = tuple(1 if name in passing else PASSED_AS_ONE for name in taken)
        self._compiled: Callable[P, R] | None = None
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        compiled = self._compiled
        if compiled is None:
            if not Kernel.are_ready and not kwargs and self._is_little(args):
                with np.errstate(all="ignore"):  # Compiled code knows no warnings.
                    return self.python(*args, **kwargs)
            compiled = self.load()
        return compiled(*args, **kwargs)

    def _is_little(self, args: tuple[Any, ...]) -> bool:
        """Tell whether all calls that ran as written, this one with them, take less time than to load Numba."""
        passed_count = 0
        for kind, times, arg in zip(self._takes, self._counted_times, args, strict=False):
            if type(arg) is np.ndarray:
                if arg.dtype != _AS_WRITTEN.get(kind) or arg.ndim != 1 or not arg.flags.c_contiguous:
                    return False  # Compiled, it is refused.
                passed_count += times * arg.size
            elif kind not in _SCALARS or type(arg) not in _NUMBERS:
                return False
        value_count = Kernel.values_as_written + -(-passed_count // PASSED_AS_ONE)
        if len(args) != len(self._takes) or value_count > AS_WRITTEN_VALUES_MAX:
            return False
        Kernel.values_as_written = value_count  # Of two threads one may be forgotten: it is a measure, no limit.
        return True

    def load(self) -> Callable[P, R]:
        """Make the kernel ready to run and return it compiled. Calling again is free."""
        from numba.core.compiler_lock import global_compiler_lock

        # Numba compiles under this lock anyway; it is reentrant, and taking it here makes one thread do the work.
        with global_compiler_lock:
            if self._compiled is None:
                self._compiled = _compile(self.python)
                Kernel.are_ready = True
            return self._compiled

    def load_cached(self) -> None:
        """Make the kernel ready to run if it need not be compiled for that; else leave it as it is, and say nothing."""
        from numba.core.compiler_lock import global_compiler_lock

        with global_compiler_lock:
            if self._compiled is None:
                self._compiled = _cached(self.python)


_kernels: list[Kernel[Any, Any]] = []
_devices: list[Callable[..., Any]] = []


def kernel(function: Callable[P, R]) -> Kernel[P, R]:
    """Turn a function over arrays into a kernel. See the module's docstring for what it may take."""
    made = Kernel(function)
    _kernels.append(made)
    return made


def kernel_passing(*names: str) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Turn a function into a kernel that passes over the values of some arrays: adds them up, or looks at a few.

    As it is written it goes through so many more of them in the time that Numba takes to load.
    """

    def make(function: Callable[P, R]) -> Kernel[P, R]:
        made = Kernel(function, passing=names)
        _kernels.append(made)
        return made

    return make


def device(function: Function) -> Function:
    """Let kernels of the same module call this function. It stays a plain Python function everywhere else."""
    _devices.append(function)
    return function


def kernels() -> tuple[Kernel[Any, Any], ...]:
    """Return the kernels of all modules imported so far."""
    return tuple(_kernels)


def are_ready() -> bool:
    """Tell whether calling a kernel is cheap: Numba has been imported, and what all kernels need is made."""
    return Kernel.are_ready


def prepare(is_over: Callable[[], bool]) -> None:
    """Load the kernels of all modules imported so far that are in Numba's cache, unless it is over before the next one.

    Nothing is compiled, nothing is said, and nothing fails: whoever calls a kernel that was left out sees to it.
    """
    for each in kernels():
        if is_over():
            return
        each.load_cached()
        Kernel.are_ready = True


def notices_to(show: Callable[[str], None]) -> Callable[[str], None]:
    """Hand the lines meant for the user to ``show`` from now on, and return who got them so far."""
    global _show
    before, _show = _show, show
    return before


def _write_to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")


_show: Callable[[str], None] = _write_to_stderr
_shown: set[str] = set()


def _show_once(line: str) -> None:
    if line not in _shown:
        _shown.add(line)
        _show(line)


def _compile(function: Callable[P, R]) -> Callable[P, R]:
    import numba

    if numba.config.DISABLE_JIT:
        return function
    _register_devices()
    try:
        return _specialise(function, cache=True)
    except Exception as error:  # noqa: BLE001 - other programs' files fail in any way
        # An error of the kernel itself comes again from the second attempt, which touches no file.
        compiled = _specialise(function, cache=False)
        _show_once(_CACHE_FAILED.format(error=error))
        return compiled


def _cached(function: Callable[P, R]) -> Callable[P, R] | None:
    """Return a function compiled, if it is in Numba's cache."""
    import numba

    if numba.config.DISABLE_JIT:
        return function
    try:
        dispatcher = _dispatcher(function, cache=True)
    except Exception:  # noqa: BLE001 - there is no folder for a cache; who needs the function is told
        return None
    return dispatcher if _load_cached(dispatcher, _signature(function)) else None


def _register_devices() -> None:
    from numba.extending import register_jitable

    inlined = register_jitable(forceinline=True, _nrt=False)
    while _devices:
        inlined(_devices.pop())


def _specialise(function: Callable[P, R], *, cache: bool) -> Callable[P, R]:
    from numba.core import event

    class Announcer(event.Listener):  # type: ignore[misc]
        """Speaks up when numba has not found the kernel in its cache."""

        def on_start(self, started: Any) -> None:
            if started.data["dispatcher"] is dispatcher:
                _show_once(_COMPILING)

        def on_end(self, ended: Any) -> None:
            """Nothing to say: the kernel runs."""

    dispatcher = _dispatcher(function, cache=cache)
    if not (cache and _load_cached(dispatcher, _signature(function))):
        with event.install_listener("numba:compile", Announcer()):
            dispatcher.compile(_signature(function))
        dispatcher.disable_compile()
    compiled: Callable[P, R] = dispatcher
    return compiled


def _dispatcher(function: Callable[..., Any], *, cache: bool) -> Any:
    import numba

    return numba.njit(nogil=True, cache=cache)(function)


def _load_cached(dispatcher: Any, signature: tuple[Any, ...]) -> bool:
    """Take a kernel from Numba's cache, and tell whether it was there.

    ``dispatcher.compile`` would do the same, after it has registered all that Numba can compile: in each process that
    takes as long as importing Numba once more, and machine code that is made already has no use for it. This goes by
    Numba's inner names. Where a version has others, or the cache is damaged, the usual way is left to cope with it.
    """
    try:
        from numba.core.runtime import rtsys

        rtsys.initialize(dispatcher.targetctx)  # Kernels allocate the arrays that they return.
        found = dispatcher._cache._load_overload(signature, dispatcher.targetctx)
        if found is None:
            return False
        dispatcher.add_overload(found)
        dispatcher.disable_compile()
    except Exception:  # noqa: BLE001 - other programs' files fail in any way
        return False
    return True


def _signature(function: Callable[..., Any]) -> tuple[Any, ...]:
    return tuple(_numba_type(name) for parameter, name in function.__annotations__.items() if parameter != "return")


def _numba_type(annotation: str) -> Any:
    from numba import types

    if annotation in _SCALARS:
        return getattr(types, _SCALARS[annotation])
    assert annotation in _ARRAYS, f"a kernel cannot take {annotation}: annotate with the names of kernels/jit.py"
    return types.Array(getattr(types, _ARRAYS[annotation]), 1, "C", readonly=True)
