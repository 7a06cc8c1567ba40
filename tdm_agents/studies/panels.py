"""The panels of a report: which contestants belong together, in one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
"""A contestant of a report; inside a panel, ``"here"`` is what it reached in the panel's task."""


def panels_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each panel; those without a panel are in every panel of their tasks."""
    named = dict.fromkeys(row["panel"] for row in rows if row["panel"])
    if not named:
        tasks = dict.fromkeys(task for row in rows for task in row["tasks"])
        return {task: [_only(row, task) for row in rows if task in row["tasks"]] for task in tasks}
    found = {}
    for name in named:
        (task,) = next(row["tasks"] for row in rows if row["panel"] == name)
        found[name] = [
            _only(row, task) for row in rows if task in row["tasks"] and row["panel"] in ("", name)
        ]
    return found


def _only(row: Row, task: str) -> Row:
    """A row in one of its tasks."""
    return {**row, "here": row["tasks"][task]}
