"""Values of viser's controls."""

from __future__ import annotations

from typing import Any


def show_value(control: Any, value: Any) -> None:
    """Let a control show a value; nothing is sent where it shows it already.

    Args:
        control: A control of viser's, whose type says that its value cannot be set, which it can.
        value: The value.
    """
    if control.value != value:
        control.value = value
