"""Exceptions that are mistakes of whoever typed a command, and the one line that tells them.

These are :class:`tdm_agents.errors.TDMError`, errors of the operating system about a file that the command
names, a full disk, too little memory for what was asked, and a renderer of MUJOCO_GL that is not there.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from tdm_agents.errors import is_mistake

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MEMORY = "out of memory: {}; ask for less at once (fewer samples, a smaller batch, fewer workers)"
_RENDERERS = ("/gl_context.py", "/mujoco/egl/", "/mujoco/osmesa/", "/mujoco/glfw/", "/dm_control/_render/")
"""Parts of the paths of code that loads a renderer."""


def mistake(error: Exception, words: Sequence[str], settings: Any = None) -> str | None:
    """The line that tells the user about a mistake; None where the error is a bug.

    Args:
        error: The exception that a command raised.
        words: The words that were typed after the command.
        settings: The dataclass that they were read as; None where they could not be read.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if is_mistake(error):
        return text
    if _is_out_of_memory(error):
        return _MEMORY.format(text)
    if isinstance(error, OSError) and (error.errno in _FULL or _names(error, [*words, *_texts(settings)])):
        return text
    if _is_of_a_renderer(error):
        return (
            f"MUJOCO_GL is {os.environ['MUJOCO_GL']!r}, and that renderer cannot be loaded ({text}); "
            "expected egl or osmesa where it is installed, or disable where nothing is rendered: "
            "`tdm doctor` tells"
        )
    return None


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python or PyTorch found no memory; PyTorch on a CPU has no class of its own for that."""
    of_torch = type(error).__name__ == "OutOfMemoryError" and type(error).__module__.startswith("torch")
    on_cpu = isinstance(error, RuntimeError) and "you tried to allocate" in str(error)
    return isinstance(error, MemoryError) or of_torch or on_cpu


def _is_of_a_renderer(error: Exception) -> bool:
    """Whether loading what MUJOCO_GL names failed."""
    files = [Path(frame.filename).as_posix() for frame in traceback.extract_tb(error.__traceback__)]
    return "MUJOCO_GL" in os.environ and any(part in file for file in files for part in _RENDERERS)


def _names(error: OSError, given: Sequence[str]) -> bool:
    """Whether an error's file is one of those given, is inside one, or is on the way to one."""
    if not isinstance(error.filename, str):
        return False
    file = Path(error.filename).absolute()
    for text in filter(None, given):
        path = Path(text).expanduser().absolute()
        if file == path or path in file.parents or (os.sep in text and file in path.parents):
            return True
    return False


def _texts(settings: Any) -> Iterator[str]:
    """All paths and texts among the settings, those of a sub-command included."""
    if isinstance(settings, str | Path):
        yield str(settings)
    elif isinstance(settings, tuple | list):
        for one in settings:
            yield from _texts(one)
    elif is_dataclass(settings):
        for f in fields(settings):
            yield from _texts(getattr(settings, f.name))
