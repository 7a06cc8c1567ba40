"""Checks of a planner's settings: each error names the setting, its value and what was expected."""

from __future__ import annotations

import numbers
from dataclasses import fields
from typing import Any

from tdm_agents.errors import WrongTypeError, WrongValueError

_TYPES: dict[str, tuple[type, str]] = {
    "int": (numbers.Integral, "an integer, for example 8"),
    "float": (numbers.Real, "a number, for example 0.5"),
    "bool": (bool, "True or False"),
}


def check_types(planner: Any) -> None:
    """Refuse a planner's settings that are not of their declared type (``int``, ``float`` or ``bool``).

    Raises:
        TypeError: If there is one; the message names the first.
    """
    for setting in fields(planner):
        # a string where the planner's module postpones its annotations
        stated = setting.type.__name__ if isinstance(setting.type, type) else str(setting.type)
        name, _, optional = stated.partition(" | ")
        value = getattr(planner, setting.name)
        if name not in _TYPES or (optional == "None" and value is None):
            continue
        kind, expected = _TYPES[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            also = ", or None" if optional else ""
            raise WrongTypeError(
                f"{setting.name} of {type(planner).__name__} is {value!r}; expected {expected}{also}"
            )


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise a ``ValueError`` that names the setting unless ``value >= least``."""
    if not value >= least:
        raise WrongValueError(f"{name} is {value}; expected at least {least}")


def check_discount(discount: float) -> None:
    """Raise a ``ValueError`` unless ``0 < discount <= 1``."""
    if not 0.0 < discount <= 1.0:
        raise WrongValueError(f"discount is {discount}; expected 0 < discount <= 1 (1: none)")
