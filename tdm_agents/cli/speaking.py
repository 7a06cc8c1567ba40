"""``--quiet`` and ``--verbose``: how much every command says besides its results and mistakes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tdm_agents.cli.every_command import EveryCommand

_LOGGER = logging.getLogger("tdm_agents")


class _ToStderr(logging.Handler):
    """Lines on what ``sys.stderr`` is when they are said; those for ``--verbose`` with the time of day."""

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if record.levelno < logging.WARNING:
            line = f"{logging.Formatter().formatTime(record, '%H:%M:%S')} {line}"
        print(line, file=sys.stderr, flush=True)


@contextmanager
def speaking(every: EveryCommand) -> Iterator[None]:
    """Say as much as the options ask for while the block runs."""
    before, told, propagated = _LOGGER.level, _ToStderr(), _LOGGER.propagate
    _LOGGER.setLevel(logging.ERROR if every.quiet else logging.INFO if every.verbose else logging.WARNING)
    _LOGGER.addHandler(told)
    _LOGGER.propagate = False  # absl, which dm_control imports, would say it again at the root
    try:
        yield
    finally:
        _LOGGER.removeHandler(told)
        _LOGGER.propagate = propagated
        _LOGGER.setLevel(before)
