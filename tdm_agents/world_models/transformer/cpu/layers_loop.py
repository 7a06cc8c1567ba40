"""All blocks of a network for the new tokens of all rows, as one loop, with products in bfloat16.

Tokens go through a block in groups of 32, the rows of two tiles, and stay in the second-level cache between
its products. What is multiplied is rounded to bfloat16; sums, the residual stream, norms, GELU, rotation and
attention (:mod:`.attention_loop`) are float32. A row needs nothing of another row, so each thread takes its
share through all blocks.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types

from tdm_agents.world_models.transformer.cpu.arguments import Argument
from tdm_agents.world_models.transformer.cpu.keeping import VERSION, kept
from tdm_agents.world_models.transformer.cpu.layer_arguments import LayerArgument, PassArgument
from tdm_agents.world_models.transformer.cpu.powers import exp2
from tdm_agents.world_models.transformer.cpu.registers import ROWS as SHARED_ROWS
from tdm_agents.world_models.transformer.cpu.tiles import (
    COLUMNS,
    DEPTH,
    ROWS,
    configure,
    release,
    tile_product,
)
from tdm_agents.world_models.transformer.cpu.vectors import as_bits, call, call_with, pointer

EPSILON = 1e-5
"""Of LayerNorm."""

_COUNT, _PER_LAYER, _FOR_ATTENTION = len(PassArgument) + len(Argument), len(LayerArgument), len(Argument)
# plain integers: older numba does not accept members of enumerations as indices
_NEW, _OWN, _OUT, _ROWS = int(Argument.NEW), int(Argument.OWN), int(Argument.OUT), int(Argument.ROWS)
_CHUNK, _OUTPUTS = int(Argument.CHUNK), int(Argument.OUTPUTS)
_THREAD_NUMBER, _THREAD_COUNT = int(Argument.THREAD_NUMBER), int(Argument.THREAD_COUNT)
_X, _HIDDEN, _LAYERS, _LAYER_COUNT = range(PassArgument.X, PassArgument.LAYER_COUNT + 1)
_NORM, _ROTATION, _FEEDFORWARD = range(PassArgument.NORM, PassArgument.FEEDFORWARD + 1)
_SHAPES, _ATTENTION = range(PassArgument.SHAPES, PassArgument.ATTENTION + 1)

_HALF, _ONE, _LOG2_E = np.float32(0.5), np.float32(1), np.float32(np.log2(np.e))
_FAST = {"contract", "nnan", "nsz", "reassoc", "arcp", "afn"}
_loop = functools.partial(njit, fastmath=_FAST, nogil=True, error_model="numpy")


@functools.cache
def layers(heads: int, head_dim: int) -> Any:
    """The loop for heads of one size, as a C function of a table of :class:`.layer_arguments.PassArgument`.

    It does its thread's share of the rows. It is compiled here, which takes seconds, and kept on disk.
    """
    width = heads * head_dim
    version = VERSION  # numba compares it with what it kept

    def through_layers(arguments: Any) -> None:
        _ = version
        of = carray(arguments, _COUNT, np.int64)
        rows, chunk, feedforward = of[_ROWS], of[_CHUNK], of[_FEEDFORWARD]
        number, count = 0, 1
        if of[_THREAD_NUMBER]:
            number, count = call(of[_THREAD_NUMBER]), call(of[_THREAD_COUNT])
        # the share that attention takes in this thread
        size = ((rows + count - 1) // count + SHARED_ROWS - 1) // SHARED_ROWS * SHARED_ROWS
        begin, end = min(rows, number * size), min(rows, (number + 1) * size)
        if begin == end:
            return
        x = carray(pointer(of[_X]), (rows * chunk, width), np.float32)
        new = carray(pointer(of[_NEW]), (rows * chunk, 3 * width), np.float32)
        rotation = carray(pointer(of[_ROTATION]), (2, head_dim // 2), np.float32)
        layers = carray(pointer(of[_LAYERS]), (of[_LAYER_COUNT], _PER_LAYER), np.int64)
        attention = of[:_FOR_ATTENTION].copy()
        left = np.zeros((ROWS, _whole(max(width, feedforward))), np.uint16)
        right = np.empty((ROWS, _whole(max(3 * width, 2 * feedforward))), np.float32)
        configure(of[_SHAPES])
        for index in range(of[_LAYER_COUNT]):
            norm1, qkv, out = layers[index, 4], layers[index, 5], layers[index, 6]
            norm2, gated, down = layers[index, 7], layers[index, 8], layers[index, 9]
            outputs, into = chunk, of[_OUT]
            if index == of[_LAYER_COUNT] - 1:
                # with fewer lines a row's have other places; another thread may still be in the layers before
                outputs, into = of[_OUTPUTS], of[_HIDDEN]
            attended = carray(pointer(into), (rows * outputs, width), np.float32)
            norm = carray(pointer(norm1), (2, width), np.float32)
            _project(x, begin * chunk, end * chunk, norm, qkv, rotation, new, left, right)
            attention[_OWN : _OWN + 4] = layers[index, :4]  # own, past, keys, values
            attention[_OUTPUTS], attention[_OUT] = outputs, into
            call_with(of[_ATTENTION], attention.ctypes.data)
            norm = carray(pointer(norm2), (2, width), np.float32)
            _finish(
                x, attended, begin, end, chunk, outputs, out, norm, gated, down, feedforward, left, right
            )  # fmt: skip
        release()
        outputs = of[_OUTPUTS]
        norm = carray(pointer(of[_NORM]), (2, width), np.float32)
        hidden = carray(pointer(of[_HIDDEN]), (rows * outputs, width), np.float32)
        for line in range(begin * outputs, end * outputs):
            _normal(x[_token(line, chunk, outputs)], norm, hidden[line])

    return kept(functools.partial(cfunc, types.void(types.voidptr)), through_layers, heads, head_dim)


@functools.cache
def head() -> Any:
    """The output layer: ``(hidden[R, d], address of packed weights, logits[R, bins], shapes)``."""
    version = VERSION

    def read_head(hidden: Any, weights: int, logits: Any, shapes: int) -> None:
        _ = version
        rows, width = hidden.shape
        bins = logits.shape[1]
        left = np.zeros((ROWS, _whole(width)), np.uint16)
        right = np.empty((ROWS, _whole(bins)), np.float32)
        configure(shapes)
        for line in range(0, rows, ROWS):
            count = min(ROWS, rows - line)
            for i in range(count):
                _rounded(hidden[line + i], left[i])
            _product(left, width, weights, bins, right)
            for i in range(count):
                for j in range(bins):
                    logits[line + i, j] = right[i, j]
        release()

    takes = types.void(types.float32[:, ::1], types.int64, types.float32[:, ::1], types.int64)
    return kept(functools.partial(njit, takes, nogil=True, error_model="numpy"), read_head)


@_loop
def _whole(size: int) -> int:
    return (size + DEPTH - 1) // DEPTH * DEPTH


@_loop
def _token(line: int, chunk: int, outputs: int) -> int:
    """The token of a line; a line is one of the last ``outputs`` tokens of a row."""
    return line // outputs * chunk + chunk - outputs + line % outputs


@_loop
def _bits(number: Any) -> Any:
    """The bits of a float32 rounded to the nearest bfloat16."""
    bits = as_bits(number)
    return np.uint16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))


@_loop
def _rounded(x: Any, into: Any) -> None:
    for j in range(x.shape[0]):
        into[j] = _bits(x[j])


@_loop
def _normal(x: Any, norm: Any, into: Any) -> None:
    """LayerNorm with the gain and shift ``norm[2, d]``; ``into`` is float32 and may be ``x``."""
    width = x.shape[0]
    total, squares = np.float32(0), np.float32(0)
    for j in range(width):
        total += x[j]
    mean = total / np.float32(width)
    for j in range(width):
        squares += (x[j] - mean) * (x[j] - mean)
    scale = _ONE / np.sqrt(squares / np.float32(width) + np.float32(EPSILON))
    for j in range(width):
        into[j] = (x[j] - mean) * scale * norm[0, j] + norm[1, j]


@_loop
def _product(left: Any, depth: int, weights: int, columns: int, right: Any) -> None:
    """``right = left @ weights`` for the rows of two tiles."""
    tiles = (depth + DEPTH - 1) // DEPTH
    a, c = left.ctypes.data, right.ctypes.data
    a_row, c_row = 2 * left.shape[1], 4 * right.shape[1]
    for block in range((columns + COLUMNS - 1) // COLUMNS):
        tile_product(a, a_row, weights + block * tiles * 64 * COLUMNS, tiles, c + block * 4 * COLUMNS, c_row)


@_loop
def _project(
    x: Any, begin: int, end: int, norm: Any, weights: int, rotation: Any, new: Any, left: Any, right: Any
) -> None:
    """Rotated queries and keys, and values, of the tokens from ``begin`` to ``end``."""
    width, half = x.shape[1], rotation.shape[1]
    normal = np.empty(width, np.float32)
    for token in range(begin, end, ROWS):
        count = min(ROWS, end - token)
        for i in range(count):
            _normal(x[token + i], norm, normal)
            _rounded(normal, left[i])
        _product(left, width, weights, 3 * width, right)
        for i in range(count):
            line, into = right[i], new[token + i]
            for at in range(0, 2 * width, 2 * half):
                for j in range(half):
                    into[at + j] = line[at + j] * rotation[0, j] - line[at + half + j] * rotation[1, j]
                    into[at + half + j] = line[at + half + j] * rotation[0, j] + line[at + j] * rotation[1, j]
            for j in range(2 * width, 3 * width):
                into[j] = line[j]


@_loop
def _finish(
    x: Any,
    attended: Any,
    begin: int,
    end: int,
    chunk: int,
    outputs: int,
    out: int,
    norm: Any,
    gated: int,
    down: int,
    feedforward: int,
    left: Any,
    right: Any,
) -> None:
    """What a block adds to its tokens, from the attended values of the lines of rows ``begin`` to ``end``."""
    width = x.shape[1]
    normal = np.empty(width, np.float32)
    for line in range(begin * outputs, end * outputs, ROWS):
        count = min(ROWS, end * outputs - line)
        for i in range(count):
            _rounded(attended[line + i], left[i])
        _product(left, width, out, width, right)
        for i in range(count):
            _add(right[i], x[_token(line + i, chunk, outputs)])
            _normal(x[_token(line + i, chunk, outputs)], norm, normal)
            _rounded(normal, left[i])
        _product(left, width, gated, 2 * feedforward, right)
        for i in range(count):
            _gate(right[i], feedforward, left[i])
        _product(left, feedforward, down, width, right)
        for i in range(count):
            _add(right[i], x[_token(line + i, chunk, outputs)])


@_loop
def _add(more: Any, x: Any) -> None:
    for j in range(x.shape[0]):
        x[j] += more[j]


@_loop
def _gate(x: Any, size: int, into: Any) -> None:
    """GELU of the first ``size`` numbers times the next, rounded.

    The error function is Abramowitz and Stegun's 7.1.26, with an error below 1.5e-7.
    """
    for j in range(size):
        gate = x[j]
        z = abs(gate) * np.float32(0.5**0.5)
        t = _ONE / (_ONE + np.float32(0.3275911) * z)
        y = np.float32(1.061405429) * t + np.float32(-1.453152027)
        y = y * t + np.float32(1.421413741)
        y = y * t + np.float32(-0.284496736)
        y = y * t + np.float32(0.254829592)
        tail = _HALF * y * t * exp2(-z * z * _LOG2_E)  # the share of a normal distribution beyond |gate|
        share = tail if gate < np.float32(0) else _ONE - tail
        into[j] = _bits(gate * share * x[size + j])
