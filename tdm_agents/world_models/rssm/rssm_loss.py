"""What a recurrent state-space model learns from: the parts of its loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tdm_agents.world_models.rssm.filtering import Filtered
from tdm_agents.world_models.rssm.one_hot import balanced_divergence
from tdm_agents.world_models.rssm.recurrent_networks import RSSMNetworks
from tdm_agents.world_models.rssm.rssm_config import RSSMConfig


def rssm_losses(
    networks: RSSMNetworks,
    config: RSSMConfig,
    sequence: Filtered,
    *,
    observation: Tensor,
    reward: Tensor,
    alive: Tensor,
    valid: Tensor,
    terminates: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Negative log-likelihoods under unit variance, without constants, plus the scaled divergence.

    Observations count on every valid step; rewards and ends on those that an action of the same window led
    to. The sums are over the scalars of a step, the means over steps.

    Args:
        networks: The weights.
        config: Settings.
        sequence: What was filtered from the windows.
        observation: Normalised, ``[B, T, n]``.
        reward: Normalised, ``[B, T]``; NaN where unknown.
        alive: ``[B, T]`` bool.
        valid: ``[B, T]`` bool.
        terminates: Whether ends are learned.

    Returns:
        The loss, and its parts without gradients: ``observation`` (where decoded), ``reward``, ``kl`` (before
        free nats and scale) and ``alive`` (where episodes end).
    """
    rows = sequence.features()[valid]  # [R, D + S * C]
    follows = (valid & F.pad(valid, (1, 0))[:, :-1])[valid]  # [R]
    loss, kl = balanced_divergence(
        sequence.posterior[valid],
        networks.prior(sequence.deterministic[valid]),
        balance=config.kl_balance,
        free_nats=config.free_nats,
    )
    parts = {"kl": kl}
    total = config.kl_scale * loss
    if networks.decoder is not None:
        error = (networks.decoder(rows).float() - observation[valid]).square().sum(-1)
        parts["observation"] = 0.5 * error.mean()
        total = total + parts["observation"]
    target = reward[valid]
    known = follows & target.isfinite()
    # a NaN must not even enter a term that is masked later: 0 * NaN is NaN in the gradient
    error = (networks.reward_head(rows)[:, 0].float() - torch.where(known, target, 0.0)).square()
    parts["reward"] = 0.5 * _mean(error, known)
    total = total + parts["reward"]
    if terminates:
        error = F.binary_cross_entropy_with_logits(
            networks.alive_head(rows)[:, 0].float(), alive[valid].float(), reduction="none"
        )
        parts["alive"] = _mean(error, follows)
        total = total + parts["alive"]
    return total, {name: part.detach() for name, part in parts.items()}


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)
