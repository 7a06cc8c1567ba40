"""The networks of a recurrent state-space model."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.world_models.rssm.rssm_config import RSSMConfig


class LayerNormGRU(nn.Module):
    """A gated recurrent unit whose gates are normalised together.

    Args:
        inputs: Size of the input.
        size: Size of the state.
    """

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + size, 3 * size, device="cpu", dtype=torch.float32)
        self.norm = nn.LayerNorm(3 * size, device="cpu", dtype=torch.float32)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The next state ``[N, size]`` from ``[N, inputs]`` and ``[N, size]``."""
        reset, candidate, update = self.norm(self.gates(torch.cat([inputs, state], -1))).chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1.0)  # a new state keeps most of the old one
        return update * candidate + (1.0 - update) * state


def perceptron(inputs: int, outputs: int | None, config: RSSMConfig) -> nn.Sequential:
    """Hidden layers of ``units`` with ELU, then a linear layer if ``outputs`` is given."""
    widths = [inputs] + [config.units] * config.layers
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        parts += [nn.Linear(before, after, device="cpu", dtype=torch.float32), nn.ELU()]
    if outputs is not None:
        parts.append(nn.Linear(config.units, outputs, device="cpu", dtype=torch.float32))
    return nn.Sequential(*parts)


class RSSMNetworks(nn.Module):
    """All weights: encoder, recurrent state, prior and posterior of the latents, decoder and heads.

    Args:
        observation: Scalars of an observation, ``n``.
        action: Scalars of an encoded action.
        config: Sizes.
        seed: Of the weights (Glorot's uniform distribution; biases are 0).

    Attributes:
        deterministic: Width of the recurrent state, ``D``.
        shape: Latents and classes, ``(S, C)``.
    """

    def __init__(self, observation: int, action: int, config: RSSMConfig, *, seed: int) -> None:
        super().__init__()
        self.deterministic = config.deterministic
        self.shape = (config.latents, config.classes)
        flat = config.latents * config.classes
        feature = config.deterministic + flat
        with torch.random.fork_rng(devices=[]):  # constructors draw from the global state, for nothing
            self.encoder = perceptron(observation, None, config)
            self.before_cell = nn.Linear(flat + action, config.hidden, device="cpu", dtype=torch.float32)
            self.cell = LayerNormGRU(config.hidden, config.deterministic)
            self.before_prior = nn.Linear(
                config.deterministic, config.hidden, device="cpu", dtype=torch.float32
            )
            self.prior_head = nn.Linear(config.hidden, flat, device="cpu", dtype=torch.float32)
            self.before_posterior = nn.Linear(
                config.deterministic + config.units, config.hidden, device="cpu", dtype=torch.float32
            )
            self.posterior_head = nn.Linear(config.hidden, flat, device="cpu", dtype=torch.float32)
            self.decoder = perceptron(feature, observation, config) if config.imagines_observations else None
            self.reward_head = perceptron(feature, 1, config)
            self.alive_head = perceptron(feature, 1, config)
        generator = torch.Generator("cpu").manual_seed(int(seed))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def recur(self, deterministic: Tensor, latent: Tensor, action: Tensor) -> Tensor:
        """The next recurrent state.

        Args:
            deterministic: ``[N, D]``.
            latent: ``[N, S * C]``, one-hot or the mean of such.
            action: Encoded ``[N, A]``, taken in that state.

        Returns:
            ``[N, D]``.
        """
        after: Tensor = self.cell(F.elu(self.before_cell(torch.cat([latent, action], -1))), deterministic)
        return after

    def prior(self, deterministic: Tensor) -> Tensor:
        """Logits ``[..., S, C]`` of the latents before the observation is seen, from ``[..., D]``."""
        logits: Tensor = self.prior_head(F.elu(self.before_prior(deterministic)))
        return logits.view(*logits.shape[:-1], *self.shape)

    def posterior(self, deterministic: Tensor, encoded: Tensor) -> Tensor:
        """Logits ``[..., S, C]`` once it is seen.

        Args:
            deterministic: ``[..., D]``.
            encoded: The observation, encoded, ``[..., units]``.
        """
        both = torch.cat([deterministic, encoded], -1)
        logits: Tensor = self.posterior_head(F.elu(self.before_posterior(both)))
        return logits.view(*logits.shape[:-1], *self.shape)
