"""An extension of Griffe: docstrings of this project, written for Sphinx's roles, as Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:\w+:)?\w+:`(?P<short>~?)(?P<name>[^`<]+?)(?:\s*<[^`]*>)?`")


def as_markdown(docstring: str) -> str:
    """Roles as code (``~a.b.C`` as ``C``), and ``::`` before a literal block as a colon."""

    def code(role: re.Match[str]) -> str:
        name = role["name"]
        return f"`{name.rpartition('.')[2] if role['short'] else name.lstrip('.')}`"

    return re.sub(r"::$", ":", _ROLE.sub(code, docstring), flags=re.MULTILINE)


class Docstrings(griffe.Extension):  # type: ignore[misc]  # Griffe is not followed
    """Rewrites each docstring when it is collected."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
