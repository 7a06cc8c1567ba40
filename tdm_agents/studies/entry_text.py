"""Names and settings as text: the nearest name where there is none of that name, and lines of entries."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from tdm_agents.errors import UnknownNameError
from tdm_agents.settings_text import value_text

T = TypeVar("T")


def in_a_line(settings: Mapping[str, Any]) -> str:
    """Settings as ``NAME=VALUE`` pairs, as an entry takes them."""
    return " ".join(f"{name}={value_text(value)}" for name, value in settings.items())


def named(what: str, name: str, known: Mapping[str, T]) -> T:
    """What is known by a name.

    Raises:
        UnknownNameError: If nothing is; the message has the nearest name and all others.
    """
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(f"no {what} {name!r}; {hint}there are {', '.join(known)}")
