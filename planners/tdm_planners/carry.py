"""The memory of a shooting planner from one decision to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ShootingCarry:
    """The memory of a shooting planner for each environment; every tensor has a leading ``B``.

    Attributes:
        mean: ``[B, H, m]``, the centre of the last plan: its mean, or the likeliest choices (int64).
        elites: ``[B, E, H, m]``, the best candidates, best first.
        known: ``[B]`` bool; False where there is no plan yet and the rest is meaningless.
    """

    mean: Tensor
    elites: Tensor
    known: Tensor


def shift(carry: ShootingCarry, elapsed: Tensor, *, warm: bool = True) -> ShootingCarry:
    """Move each environment's plan ``elapsed[B]`` decisions ahead; the new tail repeats the last action.

    A row forgets its plan where ``elapsed`` is 0 (a new episode) or nothing of the plan is left
    (``elapsed >= H``), and everywhere if not ``warm``.
    """
    horizon = carry.mean.shape[1]
    known = carry.known & (elapsed > 0) & (elapsed < horizon) & warm
    steps = torch.arange(horizon, device=elapsed.device)
    source = (steps + elapsed[:, None]).clamp_max(horizon - 1)  # [B, H]
    plans = torch.cat([carry.mean[:, None], carry.elites], dim=1)  # [B, 1 + E, H, m]
    moved = plans.gather(2, source[:, None, :, None].expand_as(plans))
    moved = moved.masked_fill(~known[:, None, None, None], 0)
    return ShootingCarry(mean=moved[:, 0], elites=moved[:, 1:], known=known)
