"""Ranges of bins, fitted to data."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError

OBSERVATION_TAIL = 0.0005
"""Share of observations that is left out at each end of a quantile range."""
CHANGE_TAIL = 0.0002
"""Share of changes that is left out at each end of their range."""
QUANTILE_MARGIN = 0.10
"""Growth of a quantile range at each end, as a share of its length."""
REWARD_MARGIN = 0.05
"""Growth of the rewards' min-max range at each end: a planner seeks the top, so nothing is cut off."""


def check_samples(name: str, data: Tensor, columns: int | None = None) -> None:
    """Refuse data from which no range can be taken.

    Args:
        name: Name of the data, for the message.
        data: ``[S]``, or ``[S, columns]``.
        columns: Number of columns, or None for one scalar.

    Raises:
        ValueError: If they are empty, have another shape, are not floating point, or have a NaN or inf.
    """
    expected = "[S]" if columns is None else f"[S, {columns}]"
    wrong = data.ndim != 1 if columns is None else data.ndim != 2 or data.shape[1] != columns
    if wrong or not data.shape[0]:
        raise WrongValueError(f"{name} has shape {tuple(data.shape)}; expected {expected} with S >= 1")
    if not data.is_floating_point():
        raise WrongValueError(f"{name} is {data.dtype}; expected floating point")
    if not torch.isfinite(data).all():
        count = int((~torch.isfinite(data)).sum())
        raise WrongValueError(
            f"{name} has {count} NaN or inf of {data.numel()}; fit on known, finite values only"
        )


def column_ranges(name: str, columns: Iterable[Tensor], count: int, tail: float) -> tuple[Tensor, Tensor]:
    """The ranges ``[count]`` of columns ``[S]``, without the ``tail`` share at each end, then widened.

    Quantiles are nearest ranks, rounded outwards. One column is read at a time.

    Raises:
        ValueError: If there are fewer or more columns, or no range can be taken from one.
    """
    lows, highs = [], []
    for data in columns:
        check_samples(name, data)
        last = data.shape[0] - 1
        ranks = [math.floor(tail * last), math.ceil((1.0 - tail) * last)]
        # numpy's partition stores no indices beside the numbers, unlike torch's kthvalue
        low, high = np.partition(data.cpu().numpy(), ranks)[ranks]
        lows.append(torch.tensor(low, dtype=torch.float64, device="cpu"))
        highs.append(torch.tensor(high, dtype=torch.float64, device="cpu"))
    if len(lows) != count:
        raise WrongValueError(f"{name} has {len(lows)} columns; expected {count}")
    return _moved_out(torch.stack(lows), torch.stack(highs), QUANTILE_MARGIN)


def least_to_most(name: str, chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The range from the least to the greatest of all chunks ``[any]``, then widened; chunks may be empty.

    Raises:
        ValueError: If there is not a single number, or no range can be taken from a chunk.
    """
    lows, highs = [], []
    for data in chunks:
        if data.numel():
            check_samples(name, data)
            lows.append(data.min().double())
            highs.append(data.max().double())
    if not lows:
        raise WrongValueError(f"{name} has shape (0,); expected [S] with S >= 1")
    return _moved_out(torch.stack(lows).min(), torch.stack(highs).max(), REWARD_MARGIN)


def _moved_out(low: Tensor, high: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    step = margin * (high - low)
    return low - step, high + step


def column_edges(name: str, columns: Iterable[Tensor], count: int, bins: int) -> Tensor:
    """Edges ``[count, bins + 1]``, float64, between which each column ``[S]`` has equally many numbers.

    Raises:
        ValueError: If there are fewer or more columns, or no edges can be taken from one.
    """
    shares = np.linspace(0.0, 1.0, bins + 1)
    edges = []
    for data in columns:
        check_samples(name, data)
        edges.append(torch.from_numpy(np.quantile(data.double().cpu().numpy(), shares)))
    if len(edges) != count:
        raise WrongValueError(f"{name} has {len(edges)} columns; expected {count}")
    return torch.stack(edges)
