"""Policies of a latent state: a squashed Gaussian of continuous actions, choices of discrete ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.protocols import ModelSpec
from tdm_agents.world_models.tdmpc2.normed_layers import perceptron

LOG_STD = (-10.0, 2.0)


@dataclass(frozen=True, slots=True)
class Draw:
    """Actions of a policy, one per latent state.

    Attributes:
        action: ``[..., m]``, float32 in [-1, 1] or int64 choices.
        encoded: ``[..., a]``, as networks read it; with a gradient to the policy.
        log_prob: ``[...]``.
        entropy: ``[...]``; of continuous actions the estimate of the one draw, times their number.
    """

    action: Tensor
    encoded: Tensor
    log_prob: Tensor
    entropy: Tensor


class GaussianPolicy(nn.Module):
    """The tanh of a Gaussian with a mean and a standard deviation of each action scalar.

    Args:
        latent: Scalars of a latent state.
        width: Of the two hidden layers.
        spec: Of the model.
        generator: Of the weights.
    """

    def __init__(self, latent: int, width: int, spec: ModelSpec, *, generator: torch.Generator) -> None:
        super().__init__()
        self.network = perceptron(latent, (width, width), 2 * spec.action_dim, generator=generator)

    def forward(
        self,
        latent: Tensor,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None,
        deterministic: bool = False,
    ) -> Draw:
        """Draw an action for each latent state ``[..., z]``, or take the tanh of the mean.

        Args:
            latent: The states.
            mask: ``[..., m]``, 0 for action scalars that do not exist there: they are 0, and count neither in
                the density nor in the number of scalars; None: all exist.
            generator: Source of the draws.
            deterministic: Whether to take the tanh of the mean.
        """
        mean, raw = self.network(latent).float().chunk(2, dim=-1)
        low, high = LOG_STD
        log_std = low + 0.5 * (high - low) * (torch.tanh(raw) + 1)
        if deterministic:
            noise = torch.zeros_like(mean)
        else:
            noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=torch.float32)
        before = mean + log_std.exp() * noise
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(u)^2), without the difference that rounds to 0
        slope = 2 * (math.log(2) - before - F.softplus(-2 * before))
        action, density, scalars = torch.tanh(before), gaussian - slope, mean.shape[-1]
        if mask is None:
            log_prob = density.sum(dim=-1)
            return Draw(action, action, log_prob, -scalars * log_prob)
        action, log_prob = mask * action, (mask * density).sum(dim=-1)
        return Draw(action, action, log_prob, -mask.sum(dim=-1) * log_prob)


class CategoricalPolicy(nn.Module):
    """A distribution over the choices of each action component.

    The gradient of a draw is that of the softmax with the same Gumbel noise (Jang, Gu and Poole 2017,
    arXiv:1611.01144, straight-through).

    Args:
        latent: Scalars of a latent state.
        width: Of the two hidden layers.
        spec: Of the model.
        generator: Of the weights.
    """

    def __init__(self, latent: int, width: int, spec: ModelSpec, *, generator: torch.Generator) -> None:
        super().__init__()
        self.choices = spec.action_choices
        self.network = perceptron(latent, (width, width), sum(self.choices), generator=generator)

    def forward(
        self,
        latent: Tensor,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None,
        deterministic: bool = False,
    ) -> Draw:
        """Draw an action for each latent state ``[..., z]``, or take the likeliest choices; no ``mask``."""
        logits = self.network(latent).float()
        noisy = logits
        if not deterministic:
            uniform = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=torch.float32)
            noisy = logits - uniform.clamp_min(1e-20).log().neg().log()
        actions, encoded, log_prob, entropy = [], [], [], []
        for part, plain in zip(noisy.split(self.choices, -1), logits.split(self.choices, -1), strict=True):
            chosen = part.argmax(dim=-1)
            soft, log_probs = torch.softmax(part, dim=-1), torch.log_softmax(plain, dim=-1)
            hard = F.one_hot(chosen, part.shape[-1]).to(soft.dtype)
            actions.append(chosen)
            encoded.append(hard + soft - soft.detach())
            log_prob.append((log_probs * hard).sum(dim=-1))
            entropy.append(-(log_probs.exp() * log_probs).sum(dim=-1))
        return Draw(
            torch.stack(actions, dim=-1),
            torch.cat(encoded, dim=-1),
            torch.stack(log_prob).sum(dim=0),
            torch.stack(entropy).sum(dim=0),
        )


def policy_of(
    latent: int, width: int, spec: ModelSpec, *, generator: torch.Generator
) -> GaussianPolicy | CategoricalPolicy:
    """The policy that fits the model's kind of action."""
    kind = GaussianPolicy if spec.action_kind == "continuous" else CategoricalPolicy
    return kind(latent, width, spec, generator=generator)


def encoded_action(action: Tensor, spec: ModelSpec) -> Tensor:
    """Actions ``[..., m]`` as networks read them: as they are, or one-hot choices beside each other."""
    if spec.action_kind == "continuous":
        return action
    columns = zip(action.unbind(-1), spec.action_choices, strict=True)
    return torch.cat([F.one_hot(a, c).to(spec.dtype) for a, c in columns], dim=-1)
