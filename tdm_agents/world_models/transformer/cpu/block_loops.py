"""What a block does between its products, and its gradients, as one loop each: for training on a CPU.

PyTorch makes a pass over memory per operation, and another per change of the type of numbers. In a small
transformer these passes take several times as long as the products. Every loop shares its rows among the
threads of torch's own operators. ``like`` is a number as activations are stored, see :mod:`.stored`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit

from tdm_agents.world_models.transformer.cpu.powers import exp2
from tdm_agents.world_models.transformer.cpu.stored import number, stored
from tdm_agents.world_models.transformer.cpu.vectors import largest

EPSILON = 1e-5
"""Of LayerNorm."""

_LOG2_E = np.float32(np.log2(np.e))
_HALF = np.float32(0.5)
_ONE = np.float32(1)

_loop = functools.partial(
    njit, fastmath={"contract", "nsz", "reassoc", "arcp", "afn"}, nogil=True, error_model="numpy"
)


@_loop
def norm(first: int, end: int, x: Any, gain: Any, shift: Any, y: Any, moments: Any) -> None:
    """``y = LayerNorm(x)`` of rows ``[R, d]``; ``moments[r]`` are the mean and 1 / standard deviation."""
    width, like = x.shape[1], y[0, 0]
    for r in range(first, end):
        total, squares = np.float32(0), np.float32(0)
        for j in range(width):
            total += x[r, j]
        mean = total / np.float32(width)
        for j in range(width):
            squares += (x[r, j] - mean) * (x[r, j] - mean)
        scale = _ONE / np.sqrt(squares / np.float32(width) + np.float32(EPSILON))
        moments[r, 0], moments[r, 1] = mean, scale
        for j in range(width):
            y[r, j] = stored((x[r, j] - mean) * scale * gain[j] + shift[j], like)


@_loop
def norm_gradient(
    first: int, end: int, x: Any, gain: Any, moments: Any, dy: Any, dx: Any, dgain: Any, dshift: Any
) -> None:
    """The gradients of :func:`norm`; to those of ``gain`` and ``shift`` ``[d]`` these rows' are added."""
    width = x.shape[1]
    h, d = np.empty(width, np.float32), np.empty(width, np.float32)
    for r in range(first, end):
        mean, scale = moments[r, 0], moments[r, 1]
        one, two = np.float32(0), np.float32(0)
        for j in range(width):
            h[j] = (x[r, j] - mean) * scale
            g = number(dy[r, j])
            dgain[j] += g * h[j]
            dshift[j] += g
            d[j] = g * gain[j]
            one += d[j]
            two += d[j] * h[j]
        one, two = one / np.float32(width), two / np.float32(width)
        for j in range(width):
            dx[r, j] = scale * (d[j] - one - h[j] * two)


@_loop
def rotate(first: int, end: int, qkv: Any, cosine: Any, sine: Any, out: Any) -> None:
    """Rotated queries and keys, and values: ``[3, heads, S, head_dim]`` of ``qkv[S, 3, heads, head_dim]``."""
    heads, half = qkv.shape[2], cosine.shape[1]
    for s in range(first, end):
        for part in range(2):
            for h in range(heads):
                for j in range(half):
                    a, b = number(qkv[s, part, h, j]), number(qkv[s, part, h, half + j])
                    out[part, h, s, j] = a * cosine[s, j] - b * sine[s, j]
                    out[part, h, s, half + j] = b * cosine[s, j] + a * sine[s, j]
        for h in range(heads):
            for j in range(2 * half):
                out[2, h, s, j] = number(qkv[s, 2, h, j])


@_loop
def rotate_gradient(
    first: int, end: int, dquery: Any, dkey: Any, dvalue: Any, cosine: Any, sine: Any, dqkv: Any
) -> None:
    """The gradient of :func:`rotate`, from those of queries, keys and values ``[heads, S, head_dim]``."""
    heads, half, like = dqkv.shape[2], cosine.shape[1], dqkv[0, 0, 0, 0]
    for s in range(first, end):
        for h in range(heads):
            for j in range(half):
                a, b = dquery[h, s, j], dquery[h, s, half + j]
                dqkv[s, 0, h, j] = stored(a * cosine[s, j] + b * sine[s, j], like)
                dqkv[s, 0, h, half + j] = stored(b * cosine[s, j] - a * sine[s, j], like)
            for j in range(half):
                a, b = dkey[h, s, j], dkey[h, s, half + j]
                dqkv[s, 1, h, j] = stored(a * cosine[s, j] + b * sine[s, j], like)
                dqkv[s, 1, h, half + j] = stored(b * cosine[s, j] - a * sine[s, j], like)
            for j in range(2 * half):
                dqkv[s, 2, h, j] = stored(dvalue[h, s, j], like)


@_loop
def gate(first: int, end: int, x: Any, y: Any) -> None:
    """``y = GELU(x[:, :f]) x[:, f:]`` of rows ``[R, 2 f]``."""
    size, like = y.shape[1], y[0, 0]
    for r in range(first, end):
        for j in range(size):
            a = number(x[r, j])
            y[r, j] = stored(a * _below(a) * number(x[r, size + j]), like)


@_loop
def gate_gradient(first: int, end: int, x: Any, dy: Any, dx: Any) -> None:
    """The gradient of :func:`gate`."""
    size, like = dy.shape[1], dx[0, 0]
    of_gate, of_value = np.empty(size, np.float32), np.empty(size, np.float32)
    for r in range(first, end):
        # parts of rows are arrays of their own: of other loops, LLVM makes no vectors
        gates, values, d = x[r, :size], x[r, size:], dy[r]
        dgates, dvalues = dx[r, :size], dx[r, size:]
        for j in range(size):
            a = number(gates[j])
            below = _below(a)
            density = exp2(a * a * (-_HALF * _LOG2_E)) * np.float32(0.3989422804)
            of_gate[j], of_value[j] = below + a * density, a * below
        for j in range(size):
            dgates[j] = stored(number(d[j]) * number(values[j]) * of_gate[j], like)
        for j in range(size):
            dvalues[j] = stored(number(d[j]) * of_value[j], like)


@_loop
def _below(a: Any) -> Any:
    """The share of a standard normal distribution below ``a``.

    Abramowitz and Stegun 7.1.26: an error of at most 8e-8.
    """
    t = _ONE / (_ONE + np.float32(0.3275911 * 0.7071067812) * abs(a))
    p = np.float32(1.061405429)
    p = p * t + np.float32(-1.453152027)
    p = p * t + np.float32(1.421413741)
    p = p * t + np.float32(-0.284496736)
    p = p * t + np.float32(0.254829592)
    tail = _HALF * p * t * exp2(a * a * (-_HALF * _LOG2_E))
    return _ONE - tail if a > 0 else tail


@_loop
def add(first: int, end: int, x: Any, y: Any, kept: Any, out: Any) -> None:
    """``out = x + y kept`` of rows ``[R, d]``, or ``x + y`` where ``kept`` has no rows."""
    width = x.shape[1]
    if kept.shape[0]:
        for r in range(first, end):
            for j in range(width):
                out[r, j] = x[r, j] + number(y[r, j]) * kept[r, j]
    else:
        for r in range(first, end):
            for j in range(width):
                out[r, j] = x[r, j] + number(y[r, j])


@_loop
def add_gradient(first: int, end: int, dout: Any, kept: Any, dy: Any) -> None:
    """The gradient of what :func:`add` adds."""
    width, like = dout.shape[1], dy[0, 0]
    if kept.shape[0]:
        for r in range(first, end):
            for j in range(width):
                dy[r, j] = stored(dout[r, j] * kept[r, j], like)
    else:
        for r in range(first, end):
            for j in range(width):
                dy[r, j] = stored(dout[r, j], like)


@_loop
def entropy(first: int, end: int, logits: Any, target: Any, choices: Any, nll: Any, totals: Any) -> None:
    """``nll[r] = log sum exp logits[r, :choices[r]] - logits[r, target[r]]``; 0 where the target is negative.

    ``totals[r]`` is the logarithm of the sum, to base 2. NaN stays NaN.
    """
    width = logits.shape[1]
    u = np.empty(width, np.float32)
    for r in range(first, end):
        count = choices[r] if choices.shape[0] else width
        finite = np.float32(0)
        for j in range(count):
            u[j] = number(logits[r, j])
            finite += u[j] * np.float32(0)
        most = largest(u, count)
        total = np.float32(0)
        for j in range(count):
            total += exp2((u[j] - most) * _LOG2_E)
        totals[r] = np.log2(total) + most * _LOG2_E + finite
        nll[r] = np.float32(0)
        if target[r] >= 0:
            nll[r] = totals[r] / _LOG2_E - u[target[r]]


@_loop
def entropy_gradient(
    first: int, end: int, logits: Any, target: Any, choices: Any, totals: Any, dnll: Any, dlogits: Any
) -> None:
    """The gradient of :func:`entropy`."""
    width, like = logits.shape[1], dlogits[0, 0]
    for r in range(first, end):
        count = choices[r] if choices.shape[0] else width
        share = dnll[r] if target[r] >= 0 else np.float32(0)
        for j in range(count):
            dlogits[r, j] = stored(share * exp2(number(logits[r, j]) * _LOG2_E - totals[r]), like)
        for j in range(count, width):
            dlogits[r, j] = stored(np.float32(0), like)
        if target[r] >= 0:
            at = target[r]
            probability = exp2(number(logits[r, at]) * _LOG2_E - totals[r])
            dlogits[r, at] = stored(share * (probability - _ONE), like)


@_loop
def factors(first: int, end: int, seeds: Any, ends: Any, nth: int, least: int, factor: Any, out: Any) -> None:
    """Dropout's factors of rows ``[S, d]``: ``factor``, or 0 where a hash of 32 bits is below ``least``.

    It is a hash of the seed of the row's window and of the number's place in the window's ``nth`` draws.
    Window ``w`` has the rows before ``ends[w]``. The hash is ``lowbias32`` (C. Wellons, "Prospecting for hash
    functions"), of the place and then with either half of the seed.
    """
    width, window, before = out.shape[1], 0, 0
    for r in range(first, end):
        while r >= ends[window]:
            window, before = window + 1, ends[window]
        low, high = np.uint32(seeds[window]), np.uint32(seeds[window] >> 32)
        place = np.uint32(((ends[window] - before) * nth + r - before) * width)
        line = out[r]
        for j in range(width):
            drawn = _mixed(_mixed(_mixed(place + np.uint32(j)) ^ low) ^ high)
            line[j] = factor if drawn >= np.uint32(least) else np.float32(0)


@_loop
def _mixed(x: Any) -> Any:
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))
