"""Names that users type, and the nearest one where there is none of that name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from tdm_agents.errors import UnknownNameError

T = TypeVar("T")


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
