"""Settings of the whole process while a model trains: threads, and the meaning of Ctrl-C."""

from __future__ import annotations

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
