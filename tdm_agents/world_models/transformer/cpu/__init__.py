"""Attention of imagined rows as one loop per block, compiled by numba, for CPUs in float32."""

import os

PANEL = 32
"""Tokens of a history whose keys are stored together; the same on every machine, so that memory is known."""


def compiles() -> bool:
    """Whether numba compiles, which ``NUMBA_DISABLE_JIT`` turns off."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
