"""The three losses of implicit Q-learning (Kostrikov, Nair and Levine 2021, arXiv:2110.06169)."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_WEIGHT = 100.0
"""Largest weight of an action of the data, as in the paper's code."""


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """``|expectile - 1(u < 0)| u^2`` of differences ``u`` (equation 5), of any shape.

    The value that minimises its mean is the expectile of what it is subtracted from: 0.5 gives the mean,
    and towards 1 the maximum.
    """
    weight = torch.where(difference < 0.0, 1.0 - expectile, expectile)
    return weight * difference.square()


def advantage_weight(advantage: Tensor, beta: float) -> Tensor:
    """``min(exp(beta A), 100)``, by which the policy imitates an action (equation 7)."""
    return (beta * advantage).exp().clamp(max=MOST_WEIGHT)


def q_target(reward: Tensor, alive: Tensor, after: Tensor, discount: float) -> Tensor:
    """``r + discount V(s')`` (equation 6), without the value where the episode terminated.

    Args:
        reward: ``[R]``.
        alive: ``[R]`` bool; True where the episode went on or was only cut off.
        after: ``[R]``, values of the observations after.
        discount: Factor per decision.
    """
    return reward + discount * torch.where(alive, after, 0.0)
