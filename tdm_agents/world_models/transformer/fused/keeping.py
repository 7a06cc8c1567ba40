"""Compiled functions that the next process finds on disk."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

VERSION = zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
"""Of this folder. numba knows what it kept by the function's own source and the constants around it: what it
calls has to be among them."""


def kept(compiler: Any, function: Any) -> Any:
    """A function that numba compiles when it is first called, and keeps on disk where that can be."""
    try:
        return compiler(cache=True)(function)
    except RuntimeError:  # nowhere to write: neither beside its file nor in the user's cache
        return compiler()(function)
