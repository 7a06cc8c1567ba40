"""Powers of 2 of many numbers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit

from tdm_agents.world_models.transformer.cpu.vectors import as_float, largest

# infinities count
loop = functools.partial(
    njit, fastmath={"contract", "nnan", "nsz", "reassoc"}, nogil=True, error_model="numpy"
)


@loop
def exp2(x: Any) -> Any:
    """``2 ** x`` with a relative error below 3e-7; an ``x`` below -126 counts as -126.

    The power of the fraction is a polynomial (least squares at Chebyshev's nodes); the whole number is added
    to the exponent.
    """
    x = max(x, np.float32(-126))
    whole = np.floor(x + np.float32(0.5))
    f = x - whole
    y = np.float32(_EXP2[5])
    y = y * f + np.float32(_EXP2[4])
    y = y * f + np.float32(_EXP2[3])
    y = y * f + np.float32(_EXP2[2])
    y = y * f + np.float32(_EXP2[1])
    y = y * f + np.float32(_EXP2[0])
    return y * as_float((np.int32(whole) + np.int32(127)) << np.int32(23))


@loop
def exp2_over_max(x: Any) -> Any:
    """Set ``x = 2 ** (x - max(x))`` in place, and return the sum."""
    most = largest(x, x.shape[0])
    total = np.float32(0)
    for j in range(x.shape[0]):
        y = exp2(x[j] - most)
        x[j] = y
        total += y
    return total


def _exp2_polynomial() -> tuple[float, ...]:
    """Coefficients of powers 0 to 5; that of power 0 is 1."""
    node = 0.5 * np.cos((np.arange(64) + 0.5) * np.pi / 64)
    powers = node[:, None] ** np.arange(1, 6)
    scale = 2.0**-node  # relative errors
    found, *_ = np.linalg.lstsq(powers * scale[:, None], (2.0**node - 1.0) * scale, rcond=None)
    return (1.0, *(float(x) for x in found))


_EXP2 = _exp2_polynomial()
