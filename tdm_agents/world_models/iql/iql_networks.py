"""The networks of implicit Q-learning: a value, two Qs and their targets, and a policy."""

from __future__ import annotations

import copy
import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.protocols import ModelSpec
from tdm_agents.world_models.iql.iql_config import IQLConfig
from tdm_agents.world_models.mlp import linear_layer

LOG_STD = (-5.0, 2.0)
"""Range of the logarithm of the policy's standard deviation, as in the paper's code."""


class Perceptron(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        inputs: Numbers read.
        outputs: Numbers given.
        config: Width and number of the hidden layers.
        generator: Of the weights.
    """

    def __init__(self, inputs: int, outputs: int, config: IQLConfig, generator: torch.Generator) -> None:
        super().__init__()
        widths = [inputs, *[config.iql_hidden] * config.iql_layers, outputs]
        self.layers = nn.ModuleList(linear_layer(i, o, generator) for i, o in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., inputs]`` to ``[..., outputs]``."""
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        outputs: Tensor = last(x)
        return outputs


class IQLNetworks(nn.Module):
    """The networks of one environment; all read normalised observations.

    Args:
        spec: Of the model.
        config: Widths.
        generator: Of the weights.
    """

    def __init__(self, spec: ModelSpec, config: IQLConfig, generator: torch.Generator) -> None:
        super().__init__()
        n, choices = spec.observation_dim, spec.action_choices
        self._choices = list(choices)
        both = n + (sum(choices) or spec.action_dim)
        self.value = Perceptron(n, 1, config, generator)
        self.qs = nn.ModuleList(Perceptron(both, 1, config, generator) for _ in range(2))
        self.target_qs = copy.deepcopy(self.qs).requires_grad_(False)
        self.policy = Perceptron(n, sum(choices) or spec.action_dim, config, generator)
        if not choices:
            self.log_std = nn.Parameter(torch.zeros(spec.action_dim, device="cpu", dtype=torch.float32))

    def policy_weights(self) -> list[nn.Parameter]:
        """What the policy's loss trains."""
        return [*self.policy.parameters(), *([] if self._choices else [self.log_std])]

    def critic_weights(self) -> list[nn.Parameter]:
        """What the losses of value and Q train."""
        return [*self.value.parameters(), *self.qs.parameters()]

    def values(self, observation: Tensor) -> Tensor:
        """``V``, ``[...]``, of normalised observations ``[..., n]``."""
        values: Tensor = self.value(observation)
        return values[..., 0]

    def both_qs(self, inputs: Tensor) -> Tensor:
        """The two ``Q``, ``[2, ...]``, of normalised observations beside encoded actions."""
        return torch.stack([q(inputs)[..., 0] for q in self.qs])

    @torch.no_grad()
    def target_q(self, inputs: Tensor) -> Tensor:
        """The lower of the two target networks, ``[...]``."""
        return torch.stack([q(inputs)[..., 0] for q in self.target_qs]).amin(dim=0)

    @torch.no_grad()
    def targets_follow(self, tau: float) -> None:
        """Move the target networks by ``tau`` of the way to the Qs."""
        torch._foreach_lerp_(list(self.target_qs.parameters()), list(self.qs.parameters()), tau)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Logarithm of the policy's density (or probability) of actions ``[R, m]``, ``[R]``."""
        outputs = self.policy(observation)
        if self._choices:
            parts = zip(outputs.split(self._choices, -1), action.unbind(-1), strict=True)
            chosen = [-F.cross_entropy(logits, one, reduction="none") for logits, one in parts]
            return torch.stack(chosen).sum(dim=0)
        log_std = self.log_std.clamp(*LOG_STD)
        standard = (action - torch.tanh(outputs)) / log_std.exp()
        return (-0.5 * standard.square() - log_std - 0.5 * math.log(2.0 * math.pi)).sum(dim=-1)

    def actions(self, observation: Tensor, *, generator: torch.Generator | None, best: bool) -> Tensor:
        """Actions ``[..., m]`` of normalised observations ``[..., n]``: drawn, or the likeliest ones."""
        outputs = self.policy(observation)
        made = {"device": outputs.device, "dtype": torch.float32}
        if self._choices:
            if not best:
                uniform = torch.rand(outputs.shape, generator=generator, **made)
                outputs = outputs - uniform.clamp_min(1e-20).log().neg().log()  # Gumbel
            return torch.stack([part.argmax(dim=-1) for part in outputs.split(self._choices, -1)], dim=-1)
        mean = torch.tanh(outputs)
        if best:
            return mean
        noise = torch.randn(mean.shape, generator=generator, **made)
        return (mean + self.log_std.clamp(*LOG_STD).exp() * noise).clamp(-1.0, 1.0)
