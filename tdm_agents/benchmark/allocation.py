"""How this process gets memory from the system."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT = 2**30
_AHEAD = 2**26


def keep_freed_memory() -> bool:
    """Let the C library keep up to a GiB of freed memory for this process, which asks for it again.

    glibc gives large blocks back, and the system clears every page that it gives out. How long that takes
    depends on the system rather than on who computes. It holds for the whole process and for good. The
    package's own decisions are as fast either way (``benchmarks/kept_memory.py``).

    Returns:
        Whether it could be set; only glibc has such settings (``man mallopt``).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    settings = ((_M_MMAP_THRESHOLD, _KEPT), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, _AHEAD))
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(setting, value) == 1 for setting, value in settings)
