"""Products of bfloat16 matrices by AMX, Intel's unit for tiles of matrices, in LLVM instructions.

A tile has 16 rows of 64 bytes: 32 numbers of bfloat16, or 16 sums in float32. A product of tiles takes 16
cycles, in which the vector unit makes a sixteenth of the products in float32.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from typing import Any

import llvmlite.binding
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor
from torch.nn.functional import pad

ROWS = 32
"""Rows of a product that are computed together, in two tiles."""
COLUMNS = 32
"""Columns of a product that are computed together, in two tiles; matrices are padded to a multiple."""
DEPTH = 32
"""Numbers per row of a tile of bfloat16; matrices are padded to a multiple."""

_BYTES = 64 * 16  # of a tile
_BYTE, _POINTER, _INDEX = ir.IntType(8), ir.IntType(8).as_pointer(), ir.IntType(64)
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18  # Linux on x86-64


@functools.cache
def has_tiles() -> bool:
    """Whether this processor has AMX for bfloat16, and Linux lets this process use it."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    features = llvmlite.binding.get_host_cpu_features()
    if not (features.get("amx-tile") and features.get("amx-bf16")):
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


def padded(size: int) -> int:
    """The size of a matrix with whole tiles."""
    return -(-size // DEPTH) * DEPTH


def packed(weight: Tensor) -> Tensor:
    """The weights ``[n, k]`` of a linear layer as :func:`tile_product` reads them, in bfloat16.

    Returns:
        ``[n / 32, k / 32, 2, 16, 16, 2]``: blocks of columns, tiles of the depth, two tiles of columns, whose
        rows hold two numbers of the depth per column.
    """
    n, k = weight.shape
    whole = pad(weight.detach().float(), (0, padded(k) - k, 0, padded(n) - n)).T  # [k, n]
    tiles = whole.reshape(padded(k) // DEPTH, 16, 2, padded(n) // COLUMNS, 2, 16)
    return tiles.permute(3, 0, 4, 1, 5, 2).to(torch.bfloat16).contiguous()


def _shapes() -> np.ndarray:
    """What LDTILECFG reads: palette 1, and eight tiles of 16 rows of 64 bytes."""
    shapes = np.zeros(64, np.uint8)
    shapes[0] = 1
    shapes[16:32].view(np.uint16)[:] = 64
    shapes[48:56] = 16
    return shapes


SHAPES = _shapes()
"""Shapes of the tiles, whose address :func:`configure` takes."""


def _call(builder: Any, name: str, *arguments: Any) -> None:
    kinds = [argument.type for argument in arguments]
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), kinds), f"llvm.x86.{name}"
    )
    builder.call(function, arguments)


@intrinsic  # type: ignore[untyped-decorator]
def configure(_: Any, shapes: Any) -> Any:
    """Prepare the tiles, of the :data:`SHAPES` at an address; :func:`release` them at the end."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "ldtilecfg", builder.inttoptr(args[0], _POINTER))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def release(_: Any) -> Any:
    """Return the tiles to their initial state, so that nothing has to be saved when the thread pauses."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic  # type: ignore[untyped-decorator]
def tile_product(_: Any, a: Any, a_row: Any, b: Any, tiles: Any, c: Any, c_row: Any) -> Any:
    """``c = a @ b`` for :data:`ROWS` rows and :data:`COLUMNS` columns; arguments are addresses and bytes.

    ``a`` is bfloat16, ``c`` float32, and ``b`` a block of columns of :func:`packed` weights of ``tiles``
    tiles of depth. Rows of ``a`` and ``c`` are ``a_row`` and ``c_row`` bytes apart.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def address(base: Any, *terms: tuple[Any, int]) -> Any:
            for index, size in terms:
                base = builder.add(base, builder.mul(index, ir.Constant(_INDEX, size)))
            return builder.inttoptr(base, _POINTER)

        sums, left, right = (0, 1, 2, 3), (4, 5), (6, 7)
        number = [ir.Constant(_BYTE, tile) for tile in range(8)]
        one, line = ir.Constant(_INDEX, 1), ir.Constant(_INDEX, 64)
        for tile in sums:
            _call(builder, "tilezero", number[tile])
        with cgutils.for_range(builder, args[3]) as loop:
            for half in range(2):
                at = address(args[0], (loop.index, 64), (args[1], 16 * half))
                _call(builder, "tileloadd64", number[left[half]], at, args[1])
                at = address(args[2], (loop.index, 2 * _BYTES), (one, _BYTES * half))
                _call(builder, "tileloadd64", number[right[half]], at, line)
            for tile in sums:
                _call(builder, "tdpbf16ps", number[tile], number[left[tile // 2]], number[right[tile % 2]])
        for tile in sums:
            at = address(args[4], (args[5], 16 * (tile // 2)), (one, 64 * (tile % 2)))
            _call(builder, "tilestored64", number[tile], at, args[5])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate
