"""Values of imagined rows, and the refusal of those that are not finite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import HasValue, Rollout, WorldModel
from tdm_agents.protocols.values import lived


def evaluate(model: WorldModel[Any], imagined: Rollout, *, discount: float) -> Tensor:
    """The value ``[N]`` of imagined rows: discounted rewards while alive, then the model's own value, if any.

    ``sum_t discount^t (alive before step t) reward_t + discount^H (alive at the end) value(final state)``,
    where "alive" is the probability of it if the model knows one, and else 0 or 1. (With 0 or 1, the reward
    that comes with an end would count again and again while the end is uncertain.)

    Args:
        model: The model that imagined them; its ``value`` counts where it has one.
        imagined: ``N`` rows.
        discount: Factor per decision, in (0, 1].
    """
    reward = imagined.reward  # [N, H]
    alive = lived(imagined.alive if imagined.survival is None else imagined.survival).to(reward.dtype)
    before = torch.cat([torch.ones_like(alive[:, :1]), alive[:, :-1]], dim=1)
    powers = discount ** torch.arange(reward.shape[1], device=reward.device, dtype=reward.dtype)
    value = (weighted(before, reward) * powers).sum(dim=1)
    if isinstance(model, HasValue):
        beyond = weighted(alive[:, -1], model.value(imagined.state))
        value = value + discount ** reward.shape[1] * beyond
    return value


def weighted(weight: Tensor, value: Tensor) -> Tensor:
    """Their product, and 0 where the weight is: after the end of a row, values may be NaN."""
    return torch.where(weight > 0.0, weight * value, 0.0)


def refuse_non_finite(values: Tensor) -> int:
    """Set NaN and inf in ``values`` ``[B, K]`` to -inf, in place, and count them.

    Raises:
        ValueError: If an environment has no finite value; the message names it.
    """
    bad = ~values.isfinite()
    count = int(bad.sum())
    if count:
        lost = bad.all(dim=1).nonzero().flatten().tolist()
        if lost:
            raise WrongValueError(
                f"environment {lost[0]} has no candidate with a finite value ({values.shape[1]} of "
                f"{values.shape[1]} are NaN or inf): the model diverges from its present state, or the "
                "reward function returns NaN; check that function and the observation, shorten the horizon, "
                "or train the model on such states"
            )
        values.masked_fill_(bad, -math.inf)
    return count


def finite_std(values: Tensor) -> Tensor:
    """Standard deviation ``[B]`` over the finite of ``values`` ``[B, K]``; 0 for a single one."""
    moderate, exponent = moderated(values)
    finite = moderate.isfinite()
    count = finite.sum(dim=1).clamp_min(1)
    mean = torch.where(finite, moderate, 0.0).sum(dim=1) / count
    spread = torch.where(finite, moderate - mean[:, None], 0.0)
    return torch.ldexp((spread.square().sum(dim=1) / count).sqrt(), exponent)


def moderated(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values over a power of two, so that neither their squares nor their differences overflow or vanish.

    Exact: that changes no digit, only the exponent.

    Args:
        values: ``[B, K]``; -inf stays -inf.

    Returns:
        ``[B, K]`` of which the largest finite magnitude is in [0.5, 2), or all 0; and the exponents
        ``[B]`` of what they were divided by.
    """
    finite = values.isfinite()
    _, exponent = torch.frexp(torch.where(finite, values, 0.0).abs().amax(dim=1))
    most = int(-math.log2(torch.finfo(values.dtype).tiny))  # beyond it, two to that power is no number
    exponent = exponent.clamp(-most, most)
    return torch.where(finite, torch.ldexp(values, -exponent[:, None]), values), exponent
