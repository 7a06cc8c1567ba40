"""Time on any device: a stopwatch, and the rates at which the machine multiplies and copies."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST_SECONDS = 0.02
"""Shortest time that is measured at once, in seconds."""


class Stopwatch:
    """A stopwatch, by CUDA events on a GPU and by the clock elsewhere.

    Args:
        device: Device that does the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = 0.0
        self._first: torch.cuda.Event | None = None

    def start(self) -> None:
        """Begin, once all earlier work is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            self._first = _moment()
        self._began = time.perf_counter()

    @property
    def passed(self) -> float:
        """Seconds on the CPU; a GPU may still have work to do."""
        return time.perf_counter() - self._began

    def stop(self) -> float:
        """Seconds until all work since the start is done."""
        if self._first is None:
            return self.passed
        last = _moment()
        torch.cuda.synchronize(self._device)
        milliseconds: float = self._first.elapsed_time(last)
        return milliseconds / 1e3


def _moment() -> torch.cuda.Event:
    """An event that a GPU records when it has done all earlier work."""
    event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


@dataclass(frozen=True, slots=True)
class Imagined:
    """The progress of a decision in its time.

    Attributes:
        seconds: Seconds taken.
        transitions: Transitions imagined in them.
    """

    seconds: float
    transitions: int


def time_decision(steps: Iterable[Tensor], device: torch.device, *, at_most: float) -> Imagined:
    """Imagine one step after another, ``[N, n]`` each, until the decision is made or its time is over."""
    watch = Stopwatch(device)
    watch.start()
    transitions = 0
    for observation in steps:
        transitions += len(observation)
        if watch.passed > at_most:
            break
    return Imagined(watch.stop(), transitions)


def median_seconds(work: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """The median over repetitions; short work is done many times in each. It is done once beforehand."""
    work()
    times = max(1, int(_LEAST_SECONDS / _seconds_each(work, device, times=1)))
    return statistics.median(_seconds_each(work, device, times=times) for _ in range(repeats))


def _seconds_each(work: Callable[[], object], device: torch.device, *, times: int) -> float:
    watch = Stopwatch(device)
    watch.start()
    for _ in range(times):
        work()
    return watch.stop() / times


def product_flops_per_second(device: torch.device, dtype: torch.dtype, *, size: int, repeats: int) -> float:
    """FLOPs per second of products of two square matrices of ``size``."""
    left, right = (torch.ones((size, size), device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: left @ right, device, repeats=repeats)


def copy_bytes_per_second(device: torch.device, *, megabytes: int, repeats: int) -> float:
    """Bytes read and written per second by copying a tensor of this size to another."""
    source = torch.ones(megabytes * 2**18, device=device)  # float32
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_seconds(lambda: target.copy_(source), device, repeats=repeats)


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that are free now on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
