"""Controls for a planner's settings: generated from its dataclass, for anybody's planner.

A field's type says what kind of control it gets, and the planner itself says what it accepts: a control's
ends are found by trying them. What two settings refuse only together is told when it is chosen.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin

Kind = Literal["whole", "number", "switch", "choice"]


@dataclass(frozen=True, slots=True)
class SettingControl:
    """A control of one setting.

    Attributes:
        name: The field.
        kind: ``"whole"`` and ``"number"``: a slider, or a text where it may be None; ``"switch"``: a
            checkbox; ``"choice"``: a list.
        value: Its present value.
        optional: Whether it may be None.
        low: Lower end of a slider.
        high: Upper end of a slider.
        choices: Values of a list.
    """

    name: str
    kind: Kind
    value: Any
    optional: bool = False
    low: float = 0.0
    high: float = 1.0
    choices: tuple[Any, ...] = ()


def setting_controls(planner: Any) -> list[SettingControl]:
    """A control for each field of a planner that is a number, a truth value or one of several words.

    Args:
        planner: A dataclass instance; other objects have no settings that are known.
    """
    if not is_dataclass(planner) or isinstance(planner, type):
        return []
    hints = typing.get_type_hints(type(planner))
    made = [_control(planner, field.name, hints[field.name]) for field in fields(planner) if field.init]
    return [control for control in made if control is not None]


def with_setting(planner: Any, name: str, value: Any) -> Any:
    """The planner with another value of one setting.

    Raises:
        ValueError: If the planner refuses it; the message is its own.
        TypeError: If it is not of its type.
    """
    return replace(planner, **{name: value})


def _control(planner: Any, name: str, hint: Any) -> SettingControl | None:
    value = getattr(planner, name)
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        members = [kind for kind in get_args(hint) if kind is not type(None)]
        optional = len(members) < len(get_args(hint))
        if len(members) != 1:
            return None
        (hint,) = members
    if get_origin(hint) is Literal:
        choices = (None, *get_args(hint)) if optional else get_args(hint)
        return SettingControl(name, "choice", value, optional, choices=tuple(choices))
    if hint is bool:
        return None if optional else SettingControl(name, "switch", value)
    low: float
    high: float
    if hint is int:
        low, high = _whole_ends(planner, name, value)
        kind: Kind = "whole"
    elif hint is float:
        low, high = _number_ends(planner, name, value)
        kind = "number"
    else:
        return None
    if low == high and not optional:
        return None  # with its other settings, the planner accepts nothing else
    return SettingControl(name, kind, value, optional, low, high)


def _whole_ends(planner: Any, name: str, value: int | None) -> tuple[int, int]:
    known = 1 if value is None else value
    low, accepted = 0, known
    while low < accepted:  # the lowest that is accepted, as far as what is accepted has no gaps
        middle = (low + accepted) // 2
        low, accepted = (low, middle) if _accepts(planner, name, middle) else (middle + 1, accepted)
    ends = (max(4 * known, 8), 2 * known, known + 1)
    high = next((end for end in ends if _accepts(planner, name, end)), known)
    return low, high


def _number_ends(planner: Any, name: str, value: float | None) -> tuple[float, float]:
    known = 1.0 if value is None else float(value)
    low = next((end for end in (0.0, known / 10) if end <= known and _accepts(planner, name, end)), known)
    ends = (4 * known, 2 * known) if known > 1 else (4.0, 1.0, 0.99, 4 * known, 2 * known)
    high = next((end for end in ends if end >= known and _accepts(planner, name, end)), known)
    return low, high


def _accepts(planner: Any, name: str, value: Any) -> bool:
    try:
        replace(planner, **{name: value})
    except Exception:  # a stranger's planner may refuse in any way
        return False
    return True
