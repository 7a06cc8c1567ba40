"""Ranges of bins that are taken from data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

OBSERVATION_TAIL = 0.0005
"""Share of observations left out at each end of a quantile range."""
CHANGE_TAIL = 0.0002
"""Share of changes left out at each end of their range."""
QUANTILE_MARGIN = 0.10
"""What a quantile range grows at each end, as a share of itself."""
REWARD_MARGIN = 0.05
"""What the rewards' min-max range grows at each end: a planner seeks the top, so nothing is cut off."""


def check_samples(name: str, data: Tensor, columns: int | None) -> None:
    """Refuse data that no range can be taken from.

    Args:
        name: What the data are, for the message.
        data: ``[S]``, or ``[S, columns]``.
        columns: How many, or None for one scalar.

    Raises:
        ValueError: If they are empty, of another shape, not floating point, or have a NaN or inf.
    """
    expected = "[S]" if columns is None else f"[S, {columns}]"
    wrong = data.ndim != 1 if columns is None else data.ndim != 2 or data.shape[1] != columns
    if wrong or not data.shape[0]:
        raise ValueError(f"{name} has shape {tuple(data.shape)}; expected {expected} with S >= 1")
    if not data.is_floating_point():
        raise ValueError(f"{name} is {data.dtype}; expected floating point")
    if not torch.isfinite(data).all():
        count = int((~torch.isfinite(data)).sum())
        raise ValueError(f"{name} has {count} NaN or inf of {data.numel()}; fit on known, finite values only")


def quantile_range(data: Tensor, tail: float, margin: float) -> tuple[Tensor, Tensor]:
    """Range of ``[S, ...]`` without the ``tail`` share at each end, each end then moved out.

    Nearest ranks, rounded outwards: ``torch.quantile`` refuses more than 2^24 elements.
    """
    last = data.shape[0] - 1
    low = data.kthvalue(1 + math.floor(tail * last), dim=0).values.double()
    high = data.kthvalue(1 + math.ceil((1.0 - tail) * last), dim=0).values.double()
    step = margin * (high - low)
    return low - step, high + step
