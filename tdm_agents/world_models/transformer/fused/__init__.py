"""Attention of imagined rows as one compiled loop a block, for CPUs; needs numba."""
