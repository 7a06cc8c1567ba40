"""Attention inside causal bands of decision steps, and its gradient, as one loop each: for training on a CPU.

A head of a window is a piece of work. As in FlashAttention (2205.14135), weights are never all in memory:
those of a few queries are computed, used and forgotten, and the gradient computes them anew from the
logarithm of their sum. Keys and values that a band does not let a query see are not multiplied.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit

from tdm_agents.world_models.transformer.cpu.powers import exp2
from tdm_agents.world_models.transformer.cpu.register_products import product
from tdm_agents.world_models.transformer.cpu.registers import COLUMNS, ROWS
from tdm_agents.world_models.transformer.cpu.stored import number, stored
from tdm_agents.world_models.transformer.cpu.vectors import largest

BLOCK = 4 * ROWS
"""Queries whose weights the gradient keeps at a time."""

_LOG2_E = np.float32(np.log2(np.e))
_ONE = np.float32(1)
_loop = functools.partial(
    njit, fastmath={"contract", "nsz", "reassoc", "arcp", "afn"}, nogil=True, error_model="numpy"
)


@_loop
def attend(
    first: int, end: int, windows: Any, longest: int, query: Any, key: Any, value: Any, out: Any, totals: Any
) -> None:
    """Attention of pieces ``first`` to ``end``, of which each window has one per head.

    Args:
        first: Number of the first piece; piece ``p`` is head ``p % heads`` of window ``p // heads``.
        end: Number after the last one.
        windows: ``[W, 5]`` int64: first token, tokens, tokens per step, steps of the band, whether the tokens
            of a step see each other.
        longest: Tokens of the longest window.
        query: ``[heads, S, head_dim]``, as ``key`` and ``value``.
        key: See ``query``.
        value: See ``query``.
        out: ``[S, heads * head_dim]``, as activations are stored.
        totals: ``[heads, S]``, the logarithm of the sum of weights, to base 2.
    """
    heads, _, size = query.shape
    wide, across, like = _up(size, COLUMNS), _up(longest, COLUMNS), out[0, 0]
    queries = np.zeros((_up(longest, ROWS), size), np.float32)
    keys, values = np.zeros((size, across), np.float32), np.zeros((across, wide), np.float32)
    weights, found = np.zeros((ROWS, across), np.float32), np.zeros((ROWS, wide), np.float32)
    share = np.zeros(ROWS, np.float32)
    for piece in range(first, end):
        window, h = windows[piece // heads], piece % heads
        begin, tokens = window[0], window[1]
        _copy(query[h, begin : begin + tokens], queries, _LOG2_E / np.sqrt(np.float32(size)))
        _copy_down(key[h, begin : begin + tokens], keys, _ONE)
        _copy(value[h, begin : begin + tokens], values, _ONE)
        for i in range(0, tokens, ROWS):
            last = min(i + ROWS, tokens)
            low, top = _seen(i, window)[0] // COLUMNS * COLUMNS, _up(_seen(last - 1, window)[1], COLUMNS)
            for j in range(low, top, COLUMNS):
                product(queries, i * size, size, 1, keys, j, across, weights, j, across, size, False)
            for r in range(last - i):
                line = weights[r]
                since, until = _seen(i + r, window)
                line[low:since] = np.float32(0)
                line[until:top] = np.float32(0)
                seen = line[since:until]
                most, total = largest(seen, until - since), np.float32(0)
                for j in range(until - since):
                    seen[j] = exp2(seen[j] - most)
                    total += seen[j]
                share[r] = _ONE / total
                totals[h, begin + i + r] = most + np.log2(total)
            for j in range(0, wide, COLUMNS):
                product(
                    weights, low, across, 1, values, low * wide + j, wide, found, j, wide, top - low, False
                )
            for r in range(last - i):
                line, result = out[begin + i + r, h * size : (h + 1) * size], found[r]
                for j in range(size):
                    line[j] = stored(result[j] * share[r], like)


@_loop
def attend_gradient(
    first: int,
    end: int,
    windows: Any,
    longest: int,
    query: Any,
    key: Any,
    value: Any,
    totals: Any,
    dout: Any,
    dquery: Any,
    dkey: Any,
    dvalue: Any,
) -> None:
    """The gradient of :func:`attend`, with the same arguments."""
    heads, _, size = query.shape
    wide, across = _up(size, COLUMNS), _up(_up(longest, COLUMNS), BLOCK)
    scale = _ONE / np.sqrt(np.float32(size))
    queries, rows = np.zeros((across, wide), np.float32), np.zeros((across, wide), np.float32)
    douts = np.zeros((across, wide), np.float32)
    keys, values = np.zeros((size, across), np.float32), np.zeros((size, across), np.float32)
    dkeys, dvalues = np.zeros((across, wide), np.float32), np.zeros((across, wide), np.float32)
    weights, slopes = np.zeros((BLOCK, across), np.float32), np.zeros((BLOCK, across), np.float32)
    found = np.zeros((ROWS, wide), np.float32)
    for piece in range(first, end):
        window, h = windows[piece // heads], piece % heads
        begin, tokens = window[0], window[1]
        past = begin + tokens
        _copy(query[h, begin:past], queries, _ONE)
        _copy(key[h, begin:past], rows, _ONE)
        _copy_stored(dout[begin:past, h * size : (h + 1) * size], douts)
        _copy_down(key[h, begin:past], keys, scale * _LOG2_E)
        _copy_down(value[h, begin:past], values, _ONE)
        dkeys[:tokens], dvalues[:tokens] = np.float32(0), np.float32(0)
        for i in range(0, tokens, BLOCK):
            last = min(i + BLOCK, tokens)
            low, top = _seen(i, window)[0] // COLUMNS * COLUMNS, _up(_seen(last - 1, window)[1], COLUMNS)
            for r in range(0, last - i, ROWS):
                at = (i + r) * wide
                for j in range(low, top, COLUMNS):
                    into = r * across + j
                    product(queries, at, wide, 1, keys, j, across, weights, into, across, size, False)
                    product(douts, at, wide, 1, values, j, across, slopes, into, across, size, False)
            for r in range(BLOCK):
                line, slope = weights[r], slopes[r]
                if i + r >= tokens:
                    line[low:top], slope[low:top] = np.float32(0), np.float32(0)
                    continue
                since, until = _seen(i + r, window)
                line[low:since], slope[low:since] = np.float32(0), np.float32(0)
                line[until:top], slope[until:top] = np.float32(0), np.float32(0)
                _slopes(line[since:until], slope[since:until], totals[h, begin + i + r])
            for r in range(0, last - i, ROWS):
                for j in range(0, wide, COLUMNS):
                    product(
                        slopes, r * across + low, across, 1, rows, low * wide + j, wide, found, j, wide,
                        top - low, False,
                    )  # fmt: skip
                for q in range(min(ROWS, last - i - r)):
                    line, result = dquery[h, begin + i + r + q], found[q]
                    for j in range(size):
                        line[j] = result[j] * scale
            for k in range(low, top, ROWS):
                for j in range(0, wide, COLUMNS):
                    at, into = i * wide + j, k * wide + j
                    product(slopes, k, 1, across, queries, at, wide, dkeys, into, wide, BLOCK, True)
                    product(weights, k, 1, across, douts, at, wide, dvalues, into, wide, BLOCK, True)
        for t in range(tokens):
            for j in range(size):
                dkey[h, begin + t, j] = dkeys[t, j] * scale
                dvalue[h, begin + t, j] = dvalues[t, j]


@_loop
def _slopes(scores: Any, slopes: Any, total: Any) -> None:
    """Turn scores into weights, and the gradient of these into that of the scores, in place."""
    mean = np.float32(0)
    for j in range(scores.shape[0]):
        scores[j] = exp2(scores[j] - total)
        mean += scores[j] * slopes[j]
    for j in range(scores.shape[0]):
        slopes[j] = scores[j] * (slopes[j] - mean)


@_loop
def _seen(i: int, window: Any) -> Any:
    """The first token that token ``i`` of a window sees, and the one after the last."""
    step, context, whole = window[2], window[3], window[4]
    number = i // step
    return max(0, number - context + 1) * step, (number + 1) * step if whole else i + 1


@_loop
def _up(x: int, unit: int) -> int:
    """The next multiple of a unit."""
    return (x + unit - 1) // unit * unit


@_loop
def _copy(rows: Any, into: Any, scale: Any) -> None:
    """Copy ``[T, n]`` times ``scale`` into the corner of a larger array; rows after it become 0."""
    for t in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            into[t, j] = rows[t, j] * scale
    into[rows.shape[0] :] = np.float32(0)


@_loop
def _copy_stored(rows: Any, into: Any) -> None:
    """:func:`_copy` of activations as they are stored."""
    for t in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            into[t, j] = number(rows[t, j])
    into[rows.shape[0] :] = np.float32(0)


@_loop
def _copy_down(rows: Any, into: Any, scale: Any) -> None:
    """Copy the transpose of ``[T, n]`` times ``scale``; columns after it become 0."""
    for t in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            into[j, t] = rows[t, j] * scale
    into[:, rows.shape[0] :] = np.float32(0)
