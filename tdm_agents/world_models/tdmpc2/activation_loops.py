"""LayerNorm followed by Mish or SimNorm as one loop per row, compiled by numba, and its gradient.

PyTorch makes several passes and computes Mish, and softmax of groups of 8, one number at a time. Numbers
are float32, or bfloat16 as the uint16 that have its bits.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit, types

from tdm_agents.world_models.transformer.cpu.keeping import VERSION, kept
from tdm_agents.world_models.transformer.cpu.powers import exp2
from tdm_agents.world_models.transformer.cpu.stored import number, stored

EPSILON = 1e-5
"""Of LayerNorm."""

_LOG2_E = np.float32(np.log2(np.e))
_BEYOND = np.float32(20.0)  # where Mish is its argument to the last bit
_LARGEST = np.float32(80.0)  # e to that power, and a sum of many of them, is a float32
_FAST = {"contract", "nnan", "nsz", "reassoc", "arcp", "afn"}


@functools.cache
def loops(size: int, group: int) -> tuple[Any, Any]:
    """The loops forward and backward.

    Args:
        size: Bytes per number, 4 or 2.
        group: Numbers that SimNorm makes sum to 1; 0 for Mish.
    """
    kind = types.uint16 if size == 2 else types.float32
    data, vector, rows = kind[:, :, ::1], types.float32[:, ::1], types.float32[:, :, ::1]
    every = max(group, 1)
    version = VERSION  # numba compares it with what it kept

    # x, gain, shift, y, [mean, 1 / std]
    def forward(x: Any, gain: Any, shift: Any, y: Any, moments: Any) -> None:
        _ = version
        width, like = x.shape[2], x[0, 0, 0]
        u = np.empty(width, np.float32)
        for e in range(x.shape[0]):
            for r in range(x.shape[1]):
                total, squares = np.float32(0), np.float32(0)
                for j in range(width):
                    u[j] = number(x[e, r, j])
                    total += u[j]
                mean = total / np.float32(width)
                for j in range(width):
                    squares += (u[j] - mean) * (u[j] - mean)
                scale = np.float32(1) / np.sqrt(squares / np.float32(width) + np.float32(EPSILON))
                moments[e, r, 0], moments[e, r, 1] = mean, scale
                for j in range(width):
                    u[j] = (u[j] - mean) * scale * gain[e, j] + shift[e, j]
                if group:
                    _softmax(u, every)
                    for j in range(width):
                        y[e, r, j] = stored(u[j], like)
                else:
                    for j in range(width):
                        p = exp2(min(u[j], _BEYOND) * _LOG2_E)
                        n = p * (p + np.float32(2))
                        y[e, r, j] = stored(u[j] * n / (n + np.float32(2)), like)

    # x, gain, shift, moments, gradient of y; into: gradients of x, gain, shift
    def backward(
        x: Any, gain: Any, shift: Any, moments: Any, dy: Any, dx: Any, dgain: Any, dshift: Any
    ) -> None:
        _ = version
        width, like = x.shape[2], x[0, 0, 0]
        u, h, d = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
        for e in range(x.shape[0]):
            dgain[e], dshift[e] = np.float32(0), np.float32(0)
            for r in range(x.shape[1]):
                mean, scale = moments[e, r, 0], moments[e, r, 1]
                for j in range(width):
                    h[j] = (number(x[e, r, j]) - mean) * scale
                    u[j] = h[j] * gain[e, j] + shift[e, j]
                    d[j] = number(dy[e, r, j])
                if group:
                    _softmax(u, every)
                    _softmax_gradient(u, d, every)
                else:
                    _mish_gradient(u, d)
                first, second = np.float32(0), np.float32(0)
                for j in range(width):
                    dgain[e, j] += d[j] * h[j]
                    dshift[e, j] += d[j]
                    d[j] *= gain[e, j]
                    first += d[j]
                    second += d[j] * h[j]
                first, second = first / np.float32(width), second / np.float32(width)
                for j in range(width):
                    dx[e, r, j] = stored(scale * (d[j] - first - h[j] * second), like)

    one = types.void(data, vector, vector, data, rows)
    two = types.void(data, vector, vector, rows, data, data, vector, vector)
    return tuple(
        kept(functools.partial(_compiled, signature), function, size, group)
        for signature, function in ((one, forward), (two, backward))
    )


def _compiled(signature: Any, *, cache: bool = False) -> Any:
    return njit(signature, fastmath=_FAST, nogil=True, error_model="numpy", cache=cache)


_loop = functools.partial(njit, fastmath=_FAST, nogil=True, error_model="numpy")


# numba's cache misses for loops that call closures, so these are functions of the module
@_loop
def _softmax(u: Any, group: int) -> None:
    """Softmax over consecutive groups, in place.

    After LayerNorm no number is so large that its exponential overflows, unless its gain is absurd.
    """
    for j in range(u.shape[0]):
        u[j] = exp2(min(u[j], _LARGEST) * _LOG2_E)
    for first in range(0, u.shape[0], group):
        total = np.float32(0)
        for j in range(group):
            total += u[first + j]
        share = np.float32(1) / total
        for j in range(group):
            u[first + j] *= share


@_loop
def _softmax_gradient(y: Any, d: Any, group: int) -> None:
    """The gradient ``d`` of that softmax, which is ``y``, into that of its argument, in place."""
    for first in range(0, y.shape[0], group):
        total = np.float32(0)
        for j in range(group):
            total += d[first + j] * y[first + j]
        for j in range(group):
            d[first + j] = y[first + j] * (d[first + j] - total)


@_loop
def _mish_gradient(u: Any, d: Any) -> None:
    """The gradient ``d`` of Mish into that of its argument ``u``, in place.

    With ``p = e^u`` and ``n = p (p + 2)``, Mish is ``u n / (n + 2)``, whose second factor has the slope
    ``4 p (p + 1) / (n + 2)^2``.
    """
    for j in range(u.shape[0]):
        p = exp2(min(u[j], _BEYOND) * _LOG2_E)
        n = p * (p + np.float32(2))
        share = np.float32(1) / (n + np.float32(2))
        d[j] *= n * share + u[j] * np.float32(4) * p * (p + np.float32(1)) * share * share
