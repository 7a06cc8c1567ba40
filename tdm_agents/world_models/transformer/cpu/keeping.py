"""Compiled functions, kept on disk for the next process."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path
from typing import Any

import llvmlite.binding

from tdm_agents.remarks import announced

VERSION = zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
"""Version of the code in this folder. numba finds what it kept by a function's own source and constants. It
does not compare the functions that are called, so their version has to be one of the constants."""

_COMPILING = "numba compiles loops for this processor, some seconds each; they are kept for the next time"


def kept(compiler: Any, function: Any, *sizes: int) -> Any:
    """A function that numba compiles, and keeps on disk where possible.

    Its name contains the sizes, version and processor that it is made for: functions with the same name share
    an index on disk, which processes that compile at the same time would mix up.

    Args:
        compiler: Takes ``cache``, and returns a decorator that compiles at once.
        function: The function to compile.
        sizes: Sizes that it is made for.
    """
    processor = zlib.crc32(llvmlite.binding.get_host_cpu_name().encode())
    name = "_".join([function.__name__, *map(str, sizes), f"{VERSION:08x}", f"{processor:08x}"])
    function.__name__ = function.__qualname__ = name
    with announced(_COMPILING):
        try:
            return compiler(cache=True)(function)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
            # no writable folder, neither beside its file nor in the user's cache; a full disk; a broken file
            return compiler()(function)
