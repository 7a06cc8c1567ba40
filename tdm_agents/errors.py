"""Mistakes of the user, kept apart from bugs.

Code that refuses something a user gave (a setting, an option, a file, a space, an observation, a plug-in)
raises a :class:`TDMError`. Its message names the value, what was expected and the remedy. ``tdm`` prints it
as one line and exits with 2. Any other exception is a bug, in this package or in a plug-in: ``tdm`` shows
where it comes from, asks for a report and exits with 1.

Each class is also the built-in exception of its kind, so that ``except ValueError`` goes on catching it. The
kinds that belong to one module are defined there: ``CheckpointError`` and ``FolderInUseError`` in
:mod:`tdm_agents.storage`, ``PluginError`` in :mod:`tdm_agents.registry`, and so on.

Some exceptions stay built-in on purpose: those by which one part of a program refuses another (a state that
was used after ``step`` had consumed it, an action of the wrong shape that a planner gave to a model). Only a
bug raises them, and whoever fixes it needs the traceback. :mod:`tdm_envs` knows nothing of this package and
has its own base class, ``tdm_envs.mistakes.EnvsError``; :func:`is_mistake` knows both.
"""

from __future__ import annotations

import sys


class TDMError(Exception):
    """A mistake of the user; the message says what it is, and what to do."""


class WrongValueError(TDMError, ValueError):
    """A value that cannot be used: a setting, an option, a space, an observation, what a plug-in returned."""


class WrongTypeError(TDMError, TypeError):
    """A value of the wrong kind, or a setting that does not exist."""


class UnknownNameError(TDMError, LookupError):
    """A name that does not exist; the message gives the nearest one, or all that exist."""


class WrongOrderError(TDMError, RuntimeError):
    """A call at a time when it makes no sense; the message says what comes first."""


class MissingPackageError(TDMError, ImportError):
    """An optional package that is not installed; the message says how to install it."""


class PathError(TDMError, OSError):
    """A file or folder that cannot be read, made or written."""


class PathMissingError(PathError, FileNotFoundError):
    """A file or folder that does not exist."""


class PathTakenError(PathError, FileExistsError):
    """A file or folder that holds something else, which is left alone."""


def is_mistake(error: BaseException) -> bool:
    """Whether an exception says that the user made a mistake: a ``TDMError``, or one of ``tdm_envs``."""
    envs = sys.modules.get("tdm_envs.mistakes")  # where nobody has imported it, nothing of it was raised
    return isinstance(error, TDMError) or (envs is not None and isinstance(error, envs.EnvsError))


def brief(error: object, limit: int = 600) -> str:
    """What an error says, its middle left out where it repeats a long value from a file."""
    text = str(error)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def retold(error: Exception, text: str) -> ValueError:
    """An exception to raise from ``error``, with more context; it is a mistake only if ``error`` is one."""
    return WrongValueError(text) if is_mistake(error) else ValueError(text)
