"""Loops for CPUs, compiled by numba: attention of imagined rows, and what blocks do in training."""

import os

PANEL = 32
"""Tokens of a history whose keys are stored together; the same on every machine, so that memory is known."""


def compiles() -> bool:
    """Whether numba compiles, which ``NUMBA_DISABLE_JIT`` turns off."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
