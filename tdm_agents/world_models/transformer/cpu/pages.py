"""Huge pages of memory, of which there are fewer to clear, and fewer to look up while much is read."""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Callable
from typing import Any

from torch import Tensor

_SIZE = 2**21  # bytes of a huge page


def in_huge_pages(tensor: Tensor) -> Tensor:
    """Ask Linux to use huge pages for what is not in memory yet; elsewhere do nothing."""
    advise = _madvise()
    first = -(-tensor.data_ptr() // _SIZE) * _SIZE
    size = (tensor.data_ptr() + tensor.nbytes - first) // _SIZE * _SIZE
    if advise is not None and size > 0:
        advise(first, size, mmap.MADV_HUGEPAGE)  # only advice: it is no failure if Linux ignores it
    return tensor


@functools.cache
def _madvise() -> Callable[[int, int, int], Any] | None:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return lambda first, size, how: advise(first, size, how)
