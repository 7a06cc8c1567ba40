"""Checks of a planner's settings: each error names the setting, its value and what was expected."""

from __future__ import annotations

import math
import numbers
from dataclasses import fields
from typing import Any

import numpy as np

from tdm_agents.errors import WrongTypeError, WrongValueError

_TYPES: dict[str, tuple[type, str]] = {
    "int": (numbers.Integral, "an integer, for example 8"),
    "float": (numbers.Real, "a number, for example 0.5"),
    "bool": (bool, "True or False"),
}


_LARGEST = 3.4e38
"""Of float32."""


def check_types(planner: Any) -> None:
    """Refuse a planner's settings that are not of their declared type (``int``, ``float`` or ``bool``).

    NumPy's numbers are taken, and become Python's.

    Raises:
        TypeError: If there is one; the message names the first.
    """
    for setting in fields(planner):
        # a string where the planner's module postpones its annotations
        stated = setting.type.__name__ if isinstance(setting.type, type) else str(setting.type)
        name, _, optional = stated.partition(" | ")
        value: Any = getattr(planner, setting.name)
        if name not in _TYPES or (optional == "None" and value is None):
            continue
        kind, expected = _TYPES[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            also = ", or None" if optional else ""
            raise WrongTypeError(
                f"{setting.name} of {type(planner).__name__} is {value!r}; expected {expected}{also}"
            )
        if isinstance(value, np.generic):  # so that the planner prints and is saved as with Python's numbers
            object.__setattr__(planner, setting.name, value := value.item())
        number: Any = value
        if abs(number) > _LARGEST:
            raise WrongValueError(
                f"{setting.name} of {type(planner).__name__} is beyond {_LARGEST:g}, the largest number that "
                "models compute with"
            )


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise a ``ValueError`` that names the setting unless ``value >= least``."""
    if not value >= least:
        raise WrongValueError(f"{name} is {value}; expected at least {least}")


def check_discount(discount: float) -> None:
    """Raise a ``ValueError`` unless ``0 < discount <= 1``."""
    if not 0.0 < discount <= 1.0:
        raise WrongValueError(f"discount is {discount}; expected 0 < discount <= 1 (1: none)")


MOST = {
    "horizon": 100_000,
    "iterations": 10_000,
    "num_samples": 10_000_000,
    "beam_width": 10_000_000,
    "num_expand": 10_000_000,
    "num_outcomes": 100_000,
}
"""Of the settings that say how much a decision imagines; and their product has at most this."""
MOST_TRANSITIONS = 100_000_000


def check_work(planner: Any) -> None:
    """Refuse settings with which a decision would take hours or more memory than there is.

    The product of the settings in :data:`MOST` that the planner has is what a decision imagines, at most
    :data:`MOST_TRANSITIONS`; a policy that imagines nothing is not asked.

    Raises:
        ValueError: Naming the setting, or the product and what it is made of.
    """
    found = {name: getattr(planner, name) for name in MOST if getattr(planner, name, None) is not None}
    for name, value in found.items():
        if value > MOST[name]:
            raise WrongValueError(f"{name} is {value}; expected at most {MOST[name]:,}")
    if (product := math.prod(found.values())) > MOST_TRANSITIONS:
        said = " times ".join(f"{name} {value:,}" for name, value in found.items())
        raise WrongValueError(
            f"{said} is {product:,} imagined transitions per decision; expected at most "
            f"{MOST_TRANSITIONS:,}: make one of them smaller"
        )
