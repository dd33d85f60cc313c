"""Values of a column as its indexes see them: whether a condition's value is one of them, as numbers, and as hashes.

A condition's value is believed only if the column can hold exactly it: 2.5 is no integer, and 0.1 no 32-bit float. What
a rounded value would match is a matter of whoever applies the condition, and an index must not decide it.

Hashes are written to disk. Numbers are widened first, and -0.0 is hashed as 0.0, which it equals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mitoframe.kernels.hashing import hash_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

Hashes: TypeAlias = npt.NDArray[np.uint64]
Mask: TypeAlias = npt.NDArray[np.bool_]

NO_SUCH_VALUE = (pa.ArrowException, TypeError, ValueError, ArithmeticError)
"""What Arrow and Python raise when a column cannot be compared with a value."""


def exact_values(values: Iterable[Any], data_type: pa.DataType) -> pa.Array | None:
    """Return a condition's values as those of a column, without nulls; None if the column cannot hold one of them."""
    try:
        scalars = [pa.scalar(value, data_type) for value in values if value is not None]
        if not all(_is_same(scalar, value) for scalar, value in zip(scalars, _without_nulls(values), strict=True)):
            return None
        return pa.array(scalars, data_type)
    except NO_SUCH_VALUE:
        return None


def _without_nulls(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _is_same(scalar: pa.Scalar, value: Any) -> bool:
    if isinstance(value, int) and pa.types.is_temporal(scalar.type):
        return bool(scalar.value == value)  # A moment may come as the integer that is kept of it.
    return bool(scalar.as_py() == value)  # NaN is not: what it equals is a matter of taste.


def is_numeric(data_type: pa.DataType) -> bool:
    """Tell whether `numbers_of` takes such a column."""
    return bool(
        pa.types.is_integer(data_type)
        or pa.types.is_floating(data_type)
        or pa.types.is_temporal(data_type)
        or pa.types.is_boolean(data_type)
    )


def numbers_of(values: pa.Array) -> npt.NDArray[Any]:
    """Return values as numbers in the same order; 0 stands for null. Requires: `is_numeric`."""
    if pa.types.is_temporal(values.type):
        values = values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    numbers: npt.NDArray[Any] = (values.fill_null(0) if values.null_count else values).to_numpy()
    return numbers


def nan_mask(values: pa.Array) -> Mask:
    """Tell which values are not a number. Polars has NaN equal itself and above all, others have it equal nothing."""
    if not pa.types.is_floating(values.type):
        return np.zeros(len(values), np.bool_)
    return np.asarray(np.isnan(numbers_of(values)), np.bool_)


def null_mask(values: pa.Array) -> Mask:
    if not values.null_count:
        return np.zeros(len(values), np.bool_)
    mask: Mask = values.is_null().to_numpy(zero_copy_only=False)
    return mask


def hashes_of(values: pa.Array) -> Hashes:
    """Return the hash of each value. Requires: none is null."""
    if is_numeric(values.type):
        return _mixed(_bits(numbers_of(values)))
    if pa.types.is_decimal128(values.type):
        values = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), len(values), values.buffers(), offset=values.offset
        )
    return _mixed(_hash_binary(values.cast(pa.large_binary())))


def _bits(numbers: npt.NDArray[Any]) -> Hashes:
    if np.issubdtype(numbers.dtype, np.floating):
        return (numbers.astype(np.float64) + 0.0).view(np.uint64)
    if numbers.dtype == np.uint64:
        return numbers
    return numbers.astype(np.int64).view(np.uint64)


def _hash_binary(values: pa.Array) -> Hashes:
    _, offsets, data = values.buffers()
    first, count = values.offset, len(values)
    bounds = np.frombuffer(offsets, np.int64)[first : first + count + 1] if offsets else np.zeros(1, np.int64)
    return hash_bytes(bounds, np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8))


def _mixed(bits: Hashes) -> Hashes:
    """Let each bit of a number depend on all: the last steps of SplitMix64."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
