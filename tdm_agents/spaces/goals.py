"""Observations that hold a goal, as those of ``gymnasium_robotics.GoalEnv`` do.

Such a space is a ``Dict`` with the keys ``observation``, ``achieved_goal`` and ``desired_goal``. What is
desired is given: it does not follow from anything, and nobody acts on it.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

KEYS = frozenset({"observation", "achieved_goal", "desired_goal"})


def goal_columns(space: spaces.Space[Any]) -> slice | None:
    """The columns of the desired goal in the flat observation; None where the space holds no goal."""
    if not isinstance(space, spaces.Dict) or not space.spaces.keys() >= KEYS:
        return None
    start = 0
    for key, child in space.spaces.items():
        stop = start + int(spaces.flatdim(child))
        if key == "desired_goal":
            return slice(start, stop)
        start = stop
    return None
