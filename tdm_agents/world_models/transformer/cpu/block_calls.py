"""The loops of :mod:`.block_loops` as C functions, called in the threads of torch's own operators.

A C function reads a table of integers: two functions that say which thread this is and how many there are,
the number of rows, three sizes or other integers, and then addresses of contiguous arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import carray, cfunc, njit, types
from torch import Tensor

from tdm_agents.world_models.transformer.cpu import band_loops
from tdm_agents.world_models.transformer.cpu import block_loops as loops
from tdm_agents.world_models.transformer.cpu.keeping import VERSION, kept
from tdm_agents.world_models.transformer.cpu.openmp import in_threads, thread_functions
from tdm_agents.world_models.transformer.cpu.vectors import call, pointer

_NUMBER, _COUNT, _ROWS, _A, _B, _C, _FIRST = range(7)
_MOST = _FIRST + 9
"""Integers in a table."""


def run(loop: Callable[[int], Any], rows: int, *tensors: Tensor, sizes: tuple[int, ...] = ()) -> None:
    """Call a loop of this module.

    Args:
        loop: The loop; it is compiled for activations in bfloat16 if a tensor is of that type.
        rows: Rows that threads share.
        tensors: Contiguous arrays in the order of the loop's addresses; an empty one is not there.
        sizes: Up to three integers.
    """
    if rows == 0:
        return
    size = min((t.element_size() for t in tensors if t.dtype == torch.bfloat16), default=4)
    threads = thread_functions() if torch.get_num_threads() > 1 else (0, 0)
    table = np.zeros(_MOST, np.int64)
    table[: _A + len(sizes)] = (*threads, rows, *sizes)
    table[_FIRST : _FIRST + len(tensors)] = [t.data_ptr() if t.numel() else 0 for t in tensors]
    in_threads(loop(size).address, table.ctypes.data, parts=rows)


@njit  # type: ignore[untyped-decorator]
def _thread(of: Any) -> Any:
    """This thread's number."""
    return call(of[_NUMBER]) if of[_NUMBER] else 0


@njit  # type: ignore[untyped-decorator]
def _share(of: Any) -> Any:
    """This thread's first row, and the one after its last."""
    rows, number, count = of[_ROWS], 0, 1
    if of[_NUMBER]:
        number, count = call(of[_NUMBER]), call(of[_COUNT])
    each = (rows + count - 1) // count
    return min(rows, number * each), min(rows, (number + 1) * each)


@njit  # type: ignore[untyped-decorator]
def _vector(of: Any, place: int, size: int) -> Any:
    """An array of the table, float32."""
    return carray(pointer(of[_FIRST + place]), size, np.float32)


@njit  # type: ignore[untyped-decorator]
def _matrix(of: Any, place: int, rows: int, width: int) -> Any:
    """An array of the table, float32."""
    return carray(pointer(of[_FIRST + place]), (rows, width), np.float32)


@njit  # type: ignore[untyped-decorator]
def _stored(of: Any, place: int, rows: int, width: int, kind: Any) -> Any:
    """An array of the table, as activations are stored."""
    return carray(pointer(of[_FIRST + place]), (rows, width), kind)


@njit  # type: ignore[untyped-decorator]
def _heads(of: Any, place: int, heads: int, tokens: int, width: int) -> Any:
    """An array of the table, float32."""
    return carray(pointer(of[_FIRST + place]), (heads, tokens, width), np.float32)


@njit  # type: ignore[untyped-decorator]
def _integers(of: Any, place: int, size: int) -> Any:
    """An array of the table, int64."""
    return carray(pointer(of[_FIRST + place]), size, np.int64)


def _kind(size: int) -> Any:
    return np.uint16 if size == 2 else np.float32


def _function(share: Any, size: int) -> Any:
    return kept(functools.partial(cfunc, types.void(types.voidptr)), share, size)


# the tables' integers are named where they are read; `version` is what numba compares with what it kept


@functools.cache
def norm(size: int) -> Any:
    """Width; x, gain, shift, y, moments."""
    kind, version = _kind(size), VERSION

    def block_norm(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, width = _share(of), of[_ROWS], of[_A]
        loops.norm(
            first, end, _matrix(of, 0, rows, width), _vector(of, 1, width), _vector(of, 2, width),
            _stored(of, 3, rows, width, kind), _matrix(of, 4, rows, 2),
        )  # fmt: skip

    return _function(block_norm, size)


@functools.cache
def norm_gradient(size: int) -> Any:
    """Width, threads; x, gain, moments, dy, dx, and dgain and dshift of each thread."""
    kind, version = _kind(size), VERSION

    def block_norm_gradient(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, width, thread = _share(of), of[_ROWS], of[_A], _thread(of)
        loops.norm_gradient(
            first, end, _matrix(of, 0, rows, width), _vector(of, 1, width), _matrix(of, 2, rows, 2),
            _stored(of, 3, rows, width, kind), _matrix(of, 4, rows, width),
            _matrix(of, 5, of[_B], width)[thread], _matrix(of, 6, of[_B], width)[thread],
        )  # fmt: skip

    return _function(block_norm_gradient, size)


@functools.cache
def rotate(size: int) -> Any:
    """Heads, half of their width; qkv, cosine, sine, out."""
    kind, version = _kind(size), VERSION

    def block_rotate(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, heads, half = _share(of), of[_ROWS], of[_A], of[_B]
        loops.rotate(
            first, end, carray(pointer(of[_FIRST]), (rows, 3, heads, 2 * half), kind),
            _matrix(of, 1, rows, half), _matrix(of, 2, rows, half),
            carray(pointer(of[_FIRST + 3]), (3, heads, rows, 2 * half), np.float32),
        )  # fmt: skip

    return _function(block_rotate, size)


@functools.cache
def rotate_gradient(size: int) -> Any:
    """Heads, half of their width; dquery, dkey, dvalue, cosine, sine, dqkv."""
    kind, version = _kind(size), VERSION

    def block_rotate_gradient(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, heads, half = _share(of), of[_ROWS], of[_A], of[_B]
        loops.rotate_gradient(
            first, end, _heads(of, 0, heads, rows, 2 * half), _heads(of, 1, heads, rows, 2 * half),
            _heads(of, 2, heads, rows, 2 * half), _matrix(of, 3, rows, half), _matrix(of, 4, rows, half),
            carray(pointer(of[_FIRST + 5]), (rows, 3, heads, 2 * half), kind),
        )  # fmt: skip

    return _function(block_rotate_gradient, size)


@functools.cache
def gate(size: int) -> Any:
    """Width of y; x, y."""
    kind, version = _kind(size), VERSION

    def block_gate(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, width = _share(of), of[_ROWS], of[_A]
        loops.gate(
            first, end, _stored(of, 0, rows, 2 * width, kind), _stored(of, 1, rows, width, kind),
        )  # fmt: skip

    return _function(block_gate, size)


@functools.cache
def gate_gradient(size: int) -> Any:
    """Width of y; x, dy, dx."""
    kind, version = _kind(size), VERSION

    def block_gate_gradient(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, width = _share(of), of[_ROWS], of[_A]
        loops.gate_gradient(
            first, end, _stored(of, 0, rows, 2 * width, kind), _stored(of, 1, rows, width, kind),
            _stored(of, 2, rows, 2 * width, kind),
        )  # fmt: skip

    return _function(block_gate_gradient, size)


@functools.cache
def add(size: int) -> Any:
    """Width, 1 if there are factors; x, y, factors, out."""
    kind, version = _kind(size), VERSION

    def block_add(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, width = _share(of), of[_ROWS], of[_A]
        loops.add(
            first, end, _matrix(of, 0, rows, width), _stored(of, 1, rows, width, kind),
            _matrix(of, 2, rows * of[_B], width), _matrix(of, 3, rows, width),
        )  # fmt: skip

    return _function(block_add, size)


@functools.cache
def add_gradient(size: int) -> Any:
    """Width, 1 if there are factors; dout, factors, dy."""
    kind, version = _kind(size), VERSION

    def block_add_gradient(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, width = _share(of), of[_ROWS], of[_A]
        loops.add_gradient(
            first, end, _matrix(of, 0, rows, width), _matrix(of, 1, rows * of[_B], width),
            _stored(of, 2, rows, width, kind),
        )  # fmt: skip

    return _function(block_add_gradient, size)


@functools.cache
def entropy(size: int) -> Any:
    """Bins, 1 if there are choices; logits, target, choices, nll, totals."""
    kind, version = _kind(size), VERSION

    def block_entropy(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, bins = _share(of), of[_ROWS], of[_A]
        loops.entropy(
            first, end, _stored(of, 0, rows, bins, kind), _integers(of, 1, rows),
            _integers(of, 2, rows * of[_B]), _vector(of, 3, rows), _vector(of, 4, rows),
        )  # fmt: skip

    return _function(block_entropy, size)


@functools.cache
def entropy_gradient(size: int) -> Any:
    """Bins, 1 if there are choices; logits, target, choices, totals, dnll, dlogits."""
    kind, version = _kind(size), VERSION

    def block_entropy_gradient(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, bins = _share(of), of[_ROWS], of[_A]
        loops.entropy_gradient(
            first, end, _stored(of, 0, rows, bins, kind), _integers(of, 1, rows),
            _integers(of, 2, rows * of[_B]), _vector(of, 3, rows), _vector(of, 4, rows),
            _stored(of, 5, rows, bins, kind),
        )  # fmt: skip

    return _function(block_entropy_gradient, size)


@functools.cache
def factors(size: int) -> Any:
    """Width, which draws they are, the least hash that is kept; seeds, ends, [factor], out."""
    version = VERSION

    def block_factors(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, width = _share(of), of[_ROWS], of[_A]
        loops.factors(
            first, end, _integers(of, 0, rows), _integers(of, 1, rows), of[_B], of[_C],
            _vector(of, 2, 1)[0], _matrix(of, 3, rows, width),
        )  # fmt: skip

    return _function(block_factors, size)


@functools.cache
def attend(size: int) -> Any:
    """Heads, their width, tokens; windows, [longest], query, key, value, out, totals."""
    kind, version = _kind(size), VERSION

    def block_attend(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, heads, width, tokens = _share(of), of[_ROWS], of[_A], of[_B], of[_C]
        band_loops.attend(
            first, end, _integers(of, 0, (rows // heads) * 5).reshape(-1, 5), _integers(of, 1, 1)[0],
            _heads(of, 2, heads, tokens, width), _heads(of, 3, heads, tokens, width),
            _heads(of, 4, heads, tokens, width), _stored(of, 5, tokens, heads * width, kind),
            _matrix(of, 6, heads, tokens),
        )  # fmt: skip

    return _function(block_attend, size)


@functools.cache
def attend_gradient(size: int) -> Any:
    """Heads, their width, tokens; windows, [longest], query, key, value, totals, dout, all gradients."""
    kind, version = _kind(size), VERSION

    def block_attend_gradient(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _MOST, np.int64)
        (first, end), rows, heads, width, tokens = _share(of), of[_ROWS], of[_A], of[_B], of[_C]
        made = carray(pointer(of[_FIRST + 7]), (3, heads, tokens, width), np.float32)
        band_loops.attend_gradient(
            first, end, _integers(of, 0, (rows // heads) * 5).reshape(-1, 5), _integers(of, 1, 1)[0],
            _heads(of, 2, heads, tokens, width), _heads(of, 3, heads, tokens, width),
            _heads(of, 4, heads, tokens, width), _matrix(of, 5, heads, tokens),
            _stored(of, 6, tokens, heads * width, kind), made[0], made[1], made[2],
        )  # fmt: skip

    return _function(block_attend_gradient, size)
