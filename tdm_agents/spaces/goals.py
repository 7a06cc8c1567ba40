"""Observations that hold a goal, as those of ``gymnasium_robotics.GoalEnv`` do.

Such a space is a ``Dict`` with the keys ``observation``, ``achieved_goal`` and ``desired_goal``. What is
desired is given: it does not follow from anything, and nobody acts on it.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from torch import Tensor

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


def with_goal_of(before: Tensor, after: Tensor, goal: slice | None) -> Tensor:
    """Observations that were imagined, with the goal that was given.

    Args:
        before: ``[..., n]``, observations before the transition.
        after: ``[..., n]``, those that were imagined from there.
        goal: Columns of the goal; None where there is none.
    """
    if goal is None:
        return after
    held = after.clone()
    held[..., goal] = before[..., goal].to(after.dtype)
    return held
