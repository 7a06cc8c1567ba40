"""Numbers as loops read and write them: float32, or bfloat16 as the uint16 that have its bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from tdm_agents.world_models.transformer.cpu.vectors import as_bits, as_float


def number(stored: Any) -> Any:
    """A stored number as float32; for compiled loops."""
    raise NotImplementedError


def stored(number: Any, like: Any) -> Any:
    """A float32 as ``like`` is stored, rounded to the nearest if to bfloat16; for compiled loops."""
    raise NotImplementedError


@overload(number, strict=False)  # type: ignore[untyped-decorator]
def _number(stored: Any) -> Any:
    if stored == types.uint16:
        return lambda stored: as_float(np.int32(stored) << np.int32(16))
    return lambda stored: stored


@overload(stored, strict=False)  # type: ignore[untyped-decorator]
def _stored(number: Any, like: Any) -> Any:
    if like != types.uint16:
        return lambda number, like: number

    def rounded(number: Any, like: Any) -> Any:
        bits = as_bits(number)
        odd = (bits >> np.int32(16)) & np.int32(1)
        return np.uint16((bits + np.int32(0x7FFF) + odd) >> np.int32(16))

    return rounded
