"""Attention of imagined rows as one compiled loop per block, for CPUs in float32; numba compiles it."""

import os

PANEL = 32
"""Tokens of a history whose keys stand together; the same on every machine, so that memory is known."""


def compiles() -> bool:
    """Whether numba compiles: ``NUMBA_DISABLE_JIT`` asks it not to."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
