"""How a kernel is compiled, and the few machine instructions that numba does not offer by name.

Every kernel is single-threaded, releases the interpreter lock and is compiled on its first call, then
loaded from numba's cache: beside the source, or in the user's cache folder where the package is read-only.
numba renews a cached kernel when its own file changes, not when a kernel that it calls from another file
does; so the stamp that decides is taken over all files of this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])


def _stamp() -> tuple[tuple[str, int, int], ...]:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


STAMP = _stamp()


def kernel(function: Function) -> Function:
    """Compile `function` lazily: no lock, no parallel threads, strict IEEE arithmetic, cached on disk.

    A literal 0 handed to another kernel is a type of its own to numba, and the kernel compiled once more:
    counters that are handed on start as np.int64(0).
    """
    compiled = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    index: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        index._source_stamp = STAMP
    return cast(Function, compiled)


def inlined(function: Function) -> Function:
    """A piece of a kernel, copied into every kernel that calls it: a call with arrays is dear in a hot loop."""
    return cast(Function, numba.njit(nogil=True, error_model="numpy", forceinline=True)(function))


class _Writable:
    """The memory of a read-only array, offered as if it could be written to."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.owner = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def plain(array: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """`array` as C-contiguous, aligned memory of `dtype`, copied only where it is not that already.

    Read-only memory comes back as a writable alias, because numba would otherwise compile each kernel a
    second time for it. Kernels never write to their inputs.
    """
    out: np.ndarray[Any, Any] = np.require(array, dtype, ["C", "A"])
    return out if out.flags.writeable else np.asarray(_Writable(out))


@intrinsic
def load64(context: Any, array: Any, index: Any) -> Any:
    """The eight bytes of a uint8 array from `index` on, as uint64, little endian; no alignment needed."""

    return types.uint64(array, types.intp), _load


@intrinsic
def load_double(context: Any, array: Any, index: Any) -> Any:
    """The eight bytes of a uint8 array from `index` on, as a little-endian double; no alignment needed."""
    return types.float64(array, types.intp), _load


@intrinsic
def store64(context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write the eight bytes of the uint64 `value` to a uint8 array from `index` on, little endian."""

    return types.void(array, types.intp, types.uint64), _store


@intrinsic
def store_double(context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write the double `value` to eight bytes of a uint8 array from `index` on, little endian."""
    return types.void(array, types.intp, types.float64), _store


def _load(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    loaded = builder.load(_address(context, builder, signature, values, signature.return_type))
    loaded.align = 1
    return loaded


def _store(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    stored = builder.store(values[2], _address(context, builder, signature, values, signature.args[2]))
    stored.align = 1
    return context.get_dummy_value()


def _address(context: Any, builder: Any, signature: Any, values: Any, kind: Any) -> Any:
    array = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=values[0])
    byte = builder.gep(builder.bitcast(array.data, cgutils.voidptr_t), [values[1]])
    return builder.bitcast(byte, context.get_value_type(kind).as_pointer())


@intrinsic
def swap64(context: Any, value: Any) -> Any:
    """The bytes of a uint64 in reverse order."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bswap(values[0])

    return types.uint64(types.uint64), build


@intrinsic
def zeros64(context: Any, value: Any) -> Any:
    """Number of zero bits below the lowest one of a uint64; 64 for 0."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], cgutils.false_bit)

    return types.int64(types.uint64), build
