"""Compiled functions that the next process finds on disk."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path
from typing import Any

import llvmlite.binding

VERSION = zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
"""Of this folder. numba knows what it kept by the function's own source and the constants around it: what it
calls has to be among them."""


def kept(compiler: Any, function: Any, *sizes: int) -> Any:
    """A function that numba compiles, and keeps on disk where that can be.

    Its name says for which sizes, version and processor it is: what has one name shares an index on disk,
    which processes that compile at the same time would mix up.

    Args:
        compiler: Takes ``cache``, and returns what compiles at once.
        function: To compile.
        sizes: That it is made for.
    """
    processor = zlib.crc32(llvmlite.binding.get_host_cpu_name().encode())
    name = "_".join([function.__name__, *map(str, sizes), f"{VERSION:08x}", f"{processor:08x}"])
    function.__name__ = function.__qualname__ = name
    try:
        return compiler(cache=True)(function)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
        # nowhere to write, neither beside its file nor in the user's cache; a full disk; a broken file
        return compiler()(function)
