"""Mistakes of whoever makes an environment, told apart from bugs: each says what was expected.

Each class is also the built-in exception of its kind, so that ``except ValueError`` catches it.
"""

from __future__ import annotations


class EnvsError(Exception):
    """A setting, file or name that no environment can be made of; the message says what would do."""


class EnvsValueError(EnvsError, ValueError):
    """A value that cannot be used."""


class EnvsTypeError(EnvsError, TypeError):
    """Something of another kind than is needed."""


class EnvsLookupError(EnvsError, LookupError):
    """A name that nothing has; the message says which is nearest."""
