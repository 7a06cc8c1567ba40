"""Filtering: recurrent states and posteriors along sequences of observations and actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tdm_agents.world_models.rssm.one_hot import drawn, expected, straight_through
from tdm_agents.world_models.rssm.recurrent_networks import RSSMNetworks


@dataclass(frozen=True, slots=True)
class Filtered:
    """``B`` sequences of ``T`` steps.

    Attributes:
        deterministic: Recurrent states ``[B, T, D]``, before each observation is seen.
        latent: Latents ``[B, T, S * C]``, one-hot or the mean of such, after it is seen.
        posterior: Their logits ``[B, T, S, C]``.
    """

    deterministic: Tensor
    latent: Tensor
    posterior: Tensor

    def features(self) -> Tensor:
        """What decoder and heads read, ``[B, T, D + S * C]``."""
        return torch.cat([self.deterministic, self.latent], -1)


def filtered(
    networks: RSSMNetworks,
    observation: Tensor,
    action: Tensor,
    known: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Filtered:
    """Go through sequences; each begins, with a state of zeros, at its first known step.

    Args:
        networks: The weights.
        observation: Normalised, ``[B, T, n]``.
        action: Encoded, ``[B, T - 1, A]`` or one longer; ``action[:, t]`` was taken after
            ``observation[:, t]``.
        known: ``[B, T]`` bool; False on padding to the left or right. What is there does not matter.
        generator: Of drawn latents; None takes the mean of each.
    """
    count, steps = known.shape
    encoded = networks.encoder(observation)
    # [T, B, S]: the draws of a step do not depend on how many steps follow
    uniform = None
    if generator is not None:
        shape = (steps, count, networks.shape[0])
        uniform = torch.rand(shape, generator=generator, device=observation.device, dtype=torch.float32)
    led = F.pad(action[:, : steps - 1], (0, 0, 1, 0))  # [B, T, A]: the action that led to each observation
    follows = known & F.pad(known, (1, 0))[:, :-1]  # [B, T]
    deterministic = observation.new_zeros(count, networks.deterministic)
    latent = observation.new_zeros(count, networks.shape[0] * networks.shape[1])
    states, latents, posteriors = [], [], []
    for t in range(steps):
        begun = follows[:, t, None]
        deterministic, latent = torch.where(begun, deterministic, 0.0), torch.where(begun, latent, 0.0)
        deterministic = networks.recur(deterministic, latent, torch.where(begun, led[:, t], 0.0))
        logits = networks.posterior(deterministic, encoded[:, t])
        latent = expected(logits) if uniform is None else straight_through(logits, drawn(logits, uniform[t]))
        states.append(deterministic)
        latents.append(latent)
        posteriors.append(logits)
    return Filtered(torch.stack(states, 1), torch.stack(latents, 1), torch.stack(posteriors, 1))
