"""Settings of the whole process while a model trains: threads, freed memory, and the meaning of Ctrl-C."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of PyTorch's threads on the CPU, and restore it at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> bool:
    """Let the process keep the memory that it frees, where its C library is glibc.

    Every update of a model needs the same sizes. By default, glibc gives large blocks back to the system when
    they are freed, so that the pages of the next update's tensors are made, and filled with zeros, anew
    (``benchmarks/freed_memory.py``). This holds until the process ends.

    Returns:
        Whether it could be set.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    # from malloc.h: M_TRIM_THRESHOLD is -1, M_MMAP_THRESHOLD -3
    return bool(mallopt(-1, 2**31 - 1)) and bool(mallopt(-3, 2**30) or mallopt(-3, 2**25))


@contextmanager
def interrupts(*, once: bool = True) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets.

    Args:
        once: Whether a second one interrupts as usual. If not, it is ignored, since torchrun passes on to its
            processes what a terminal has sent them already; it kills those that do not end.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # Python lets only the main thread handle signals
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def restore() -> None:
        for kind, handler in before.items():
            signal.signal(kind, handler)

    def note(_signal: int, _frame: object) -> None:
        event.set()
        if once:
            restore()

    for kind in kinds:
        signal.signal(kind, note)
    try:
        yield event
    finally:
        restore()
