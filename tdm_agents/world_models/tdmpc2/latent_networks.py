"""The networks of TD-MPC2, and what they say of latent states."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tdm_agents.protocols import ModelSpec
from tdm_agents.world_models.tdmpc2.normed_layers import latent_perceptron, perceptron
from tdm_agents.world_models.tdmpc2.policy_prior import policy_of
from tdm_agents.world_models.tdmpc2.q_ensemble import FIRST_TWO, QEnsemble
from tdm_agents.world_models.tdmpc2.running_scale import RunningScale
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config
from tdm_agents.world_models.tdmpc2.symlog_bins import SymlogBins


class LatentNetworks(nn.Module):
    """Encoder, dynamics, reward, termination, policy, values, and the target networks of the values.

    Args:
        spec: Of the model; there is no termination where episodes do not end.
        config: Sizes.
        generator: Of the weights.
    """

    def __init__(self, spec: ModelSpec, config: TDMPC2Config, *, generator: torch.Generator) -> None:
        super().__init__()
        action = sum(spec.action_choices) or spec.action_dim
        latent, hidden = config.latent, (config.width, config.width)
        self.encoder = latent_perceptron(
            spec.observation_dim,
            (config.encoder_width,) * (config.encoder_layers - 1),
            latent,
            group=config.group,
            generator=generator,
        )
        self.dynamics = latent_perceptron(
            latent + action, hidden, latent, group=config.group, generator=generator
        )
        self.reward = perceptron(latent + action, hidden, config.bins, generator=generator, zero=True)
        self.termination = perceptron(latent, hidden, 1, generator=generator) if spec.terminates else None
        self.policy = policy_of(latent, config.width, spec, generator=generator)
        self.q = QEnsemble(
            latent + action,
            config.width,
            config.bins,
            members=config.members,
            dropout=config.dropout,
            generator=generator,
        )
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)
        self.bins = SymlogBins(config.bins, config.bins_limit)
        self.scale = RunningScale(config.tau)

    def model_weights(self) -> list[nn.Parameter]:
        """Everything that the model's loss trains, beside the encoder: neither policy nor targets."""
        parts = [self.dynamics, self.reward, self.q]
        parts += [self.termination] if self.termination is not None else []
        return [weight for part in parts for weight in part.parameters()]

    def moved(self, latent: Tensor, encoded: Tensor) -> Tensor:
        """The next latent states ``[..., z]`` after actions ``[..., a]``, as networks read them."""
        following: Tensor = self.dynamics(_beside(latent, encoded))
        return following

    def rewards(self, latent: Tensor, encoded: Tensor) -> Tensor:
        """The logits ``[..., V]`` of the rewards of actions ``[..., a]`` in latent states ``[..., z]``."""
        logits: Tensor = self.reward(_beside(latent, encoded))
        return logits

    def ends(self, latent: Tensor) -> Tensor:
        """Logits ``[...]`` of the episode having ended in latent states ``[..., z]``."""
        if self.termination is None:
            return latent.new_full(latent.shape[:-1], -torch.inf)
        logits: Tensor = self.termination(latent)
        return logits[..., 0]

    def worth(self, latent: Tensor) -> Tensor:
        """Values ``[...]`` of latent states: two members' mean, of the policy's mean action."""
        encoded = self.policy(latent, generator=None, deterministic=True).encoded
        logits = self.q(_beside(latent, encoded), members=FIRST_TWO)
        return self.bins.decode(logits).mean(dim=0)

    def encoded(self, observation: Tensor) -> Tensor:
        """Latent states ``[..., z]`` of observations ``[..., n]``, in the dtype of the weights."""
        latent: Tensor = self.encoder(observation.to(next(self.encoder.parameters()).dtype))
        return latent

    def rounded(self) -> LatentNetworks:
        """A copy to imagine with, whose products are of bfloat16, but for the last layer of values."""
        copied = copy.deepcopy(self).requires_grad_(False)
        precise = (".norm.", "gains", "shifts", "q.weights.2", "q.biases.2")
        for name, weight in copied.named_parameters():
            if not any(part in name for part in precise):
                weight.data = weight.data.to(torch.bfloat16)
        return copied

    @torch.no_grad()
    def follow(self, others: LatentNetworks) -> None:
        """Take the weights of networks of the same sizes, rounded where these are of less precision."""
        torch._foreach_copy_(list(self.parameters()), list(others.parameters()))

    @torch.no_grad()
    def targets_follow(self, tau: float) -> None:
        """Move the target networks ``tau`` of the way to the networks."""
        torch._foreach_lerp_(list(self.target_q.parameters()), list(self.q.parameters()), tau)


def _beside(latent: Tensor, encoded: Tensor) -> Tensor:
    return torch.cat([latent, encoded.to(latent.dtype)], dim=-1)
