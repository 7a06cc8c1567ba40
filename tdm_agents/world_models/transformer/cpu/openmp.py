"""The threads of torch's own operators, used for a C function: other threads would compete for the cores."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch


def in_threads(function: int, arguments: int, *, parts: int) -> None:
    """Call a C function in each of ``torch.get_num_threads()`` threads, or in this one if there is one part.

    All threads are always used: teams of changing size would end and start threads.

    Args:
        function: Address of the function, which learns its thread's number by :func:`thread_functions`.
        arguments: Address that the function is given.
        parts: Largest number of parts of its work.
    """
    openmp = _openmp()
    if openmp is None or parts == 1 or torch.get_num_threads() == 1:
        _callable(function)(arguments)
    else:
        openmp.GOMP_parallel(ctypes.c_void_p(function), ctypes.c_void_p(arguments), 0, 0)


def can_share() -> bool:
    """Whether a C function can run in those threads, if there are several."""
    return _openmp() is not None or torch.get_num_threads() == 1


@functools.cache
def thread_functions() -> tuple[int, int]:
    """Addresses of the functions for a thread's number and the number of threads; 0 if there is one."""
    openmp = _openmp()
    if openmp is None:
        return 0, 0
    number, count = (
        ctypes.cast(function, ctypes.c_void_p).value
        for function in (openmp.omp_get_thread_num, openmp.omp_get_num_threads)
    )
    assert number is not None
    assert count is not None
    return number, count


@functools.cache
def _callable(function: int) -> Callable[[int], None]:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)


@functools.cache
def _openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP, if torch uses it; a name is looked up in a library and in those that it uses."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        found = ctypes.CDLL(str(library))
        found.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        found.GOMP_parallel.restype = None
    except (OSError, AttributeError):
        return None
    return found
