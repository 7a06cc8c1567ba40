"""Attention of imagined rows as one compiled loop a block, for CPUs in float32; numba compiles it."""

PANEL = 32
"""Tokens of a history whose keys stand together; the same on every machine, so that memory is known."""
