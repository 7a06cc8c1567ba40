"""Mistakes of whoever makes an environment, kept apart from bugs: each says what was expected.

Each class is also the built-in exception of its kind, so that ``except ValueError`` catches it.
"""

from __future__ import annotations


class EnvsError(Exception):
    """A setting, file or name of which no environment can be made; the message says what was expected."""


class EnvsValueError(EnvsError, ValueError):
    """A value that cannot be used."""


class EnvsTypeError(EnvsError, TypeError):
    """A value of the wrong kind."""


class EnvsLookupError(EnvsError, LookupError):
    """A name that does not exist; the message gives the nearest one."""
