"""What is said besides results: progress and remarks, on stderr.

The level of Python's logger ``tdm_agents`` decides how much: at ``ERROR`` nothing (``--quiet``); at
``WARNING``, which is Python's default, progress and remarks; at ``INFO`` also what is made, written and
waited for (``--verbose``).
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from rich.console import Console

LOG = logging.getLogger("tdm_agents")
_SLOW_SECONDS = 1.0

P = ParamSpec("P")
T = TypeVar("T")
_said: set[str] = set()


def remarks(**settings: Any) -> Console:
    """A console on stderr for progress and remarks, which is silent where they are not wanted.

    Args:
        settings: Further arguments of ``rich.console.Console``.
    """
    return Console(stderr=True, quiet=not LOG.isEnabledFor(logging.WARNING), **settings)


def remark(text: str) -> None:
    """Print one remark on a line of its own."""
    remarks().print(text, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def announced(what: str) -> Iterator[None]:
    """Say what the block does where that takes more than a second: once per process, and before it is done.

    Args:
        what: A sentence without its full stop.
    """
    timer = threading.Timer(_SLOW_SECONDS, _say_once, [what])
    timer.daemon = True
    began = time.perf_counter()
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        LOG.info("%s: %.1f s", what, time.perf_counter() - began)


def announced_once(what: str, function: Callable[P, T]) -> Callable[P, T]:
    """``function``, whose first call is :func:`announced`, since that one compiles."""
    called = False

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal called
        if called:
            return function(*args, **kwargs)
        called = True
        with announced(what):
            return function(*args, **kwargs)

    return call


def _say_once(what: str) -> None:
    if what not in _said:
        _said.add(what)
        LOG.warning(what)
