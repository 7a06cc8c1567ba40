"""Modules that a user names on the command line or in Python: they may lie in the current folder."""

from __future__ import annotations

import os
import sys
from importlib import import_module


def import_typed(module: str) -> None:
    """Import a module that the user named; it may lie in the current folder.

    Raises:
        ImportError: If it cannot be found or its import fails.
    """
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        here = os.getcwd()
        if error.name != module.partition(".")[0] or here in sys.path:
            raise
        sys.path.append(here)  # last: nothing that is installed is shadowed
        import_module(module)
