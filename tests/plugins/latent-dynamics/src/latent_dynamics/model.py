"""The model, its settings and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.data.moments import moments
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.protocols import Batch, History, ModelSpec, Proposal, Step
from tdm_agents.world_models.learned import LearnedModel
from tdm_agents.world_models.model_files import read_model, write_model


@dataclass(frozen=True, slots=True)
class LatentConfig:
    """Settings of a :class:`LatentModel`.

    Attributes:
        latent: Size of the latent vector, at least 2.
        hidden: Width of the hidden layer of each network, at least 1.
        discount: Factor per decision in the value, in [0, 1).
    """

    latent: int = 32
    hidden: int = 128
    discount: float = 0.95

    def __post_init__(self) -> None:
        if self.latent < 2 or self.hidden < 1 or not 0.0 <= self.discount < 1.0:
            raise ValueError(
                f"latent is {self.latent}, hidden {self.hidden} and discount {self.discount}; expected "
                "latent >= 2, hidden >= 1 and 0 <= discount < 1"
            )


@dataclass(slots=True)
class LatentState:
    """``N`` latent vectors ``[N, z]``; None once a step has consumed them."""

    latent: Tensor | None

    def read(self) -> Tensor:
        """The latent vectors.

        Raises:
            RuntimeError: If a step has consumed them.
        """
        if self.latent is None:
            raise RuntimeError("this state was consumed by step(): take() its rows first to keep it")
        return self.latent


class LatentModel(LearnedModel):
    """A latent model: ``z = encode(o)``, then ``z', r = dynamics(z, a)``, with value and proposal from ``z``.

    Args:
        spec: Spec of the environment, which has continuous actions.
        config: Settings of the model.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If actions are discrete.
    """

    config_type: ClassVar[type[LatentConfig]] = LatentConfig

    def __init__(self, spec: ModelSpec, config: LatentConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        if spec.action_kind != "continuous":
            raise ValueError(f"actions are {spec.action_kind}; a latent model needs continuous ones")
        self.config = config if config is not None else LatentConfig()
        self._spec = replace(
            spec, history_steps=1, terminates=False, imagines_observations=False, dtype=torch.float32
        )
        n, m, z = spec.observation_dim, spec.action_dim, self.config.latent
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = self._network(n, z)
            self.dynamics = self._network(z + m, z + 1)  # change of the latent, reward
            self.value_head = self._network(z, 1)
            self.proposal_head = self._network(z, m)
        self.log_std = nn.Parameter(torch.zeros(m))
        self.mean: Tensor
        self.scale: Tensor
        self.reward_mean: Tensor
        self.reward_scale: Tensor
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_scale", torch.ones(()))

    def _network(self, inputs: int, outputs: int) -> nn.Sequential:
        hidden = self.config.hidden
        return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))

    @property
    def spec(self) -> ModelSpec:
        """The spec, on the device of the weights."""
        return replace(self._spec, device=self.log_std.device)

    def encode(self, observation: Tensor) -> Tensor:
        """The latents ``[..., z]`` of observations ``[..., n]``."""
        return _normalised(self.encoder((observation - self.mean) / self.scale))

    def imagined(self, latent: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The next latents ``[..., z]`` and normalised rewards ``[...]``."""
        outputs = self.dynamics(torch.cat([latent, action], dim=-1))
        return _normalised(latent + outputs[..., :-1]), outputs[..., -1]

    @torch.no_grad()
    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Fit the normalisation of observations and rewards to data."""
        (trajectories,) = data.values()
        mean, spread = moments(e.observation for e in trajectories.iterate())  # [n]
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(spread > 1e-8, spread, 1.0)))
        mean, spread = moments(e.reward[np.isfinite(e.reward)] for e in trajectories.iterate())  # []
        self.reward_mean.fill_(float(mean))
        self.reward_scale.fill_(float(spread) if spread > 1e-8 else 1.0)

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of what is imagined from each window's first observation.

        Latents are compared with the encodings of the observations, which get no gradient: with one they
        would collapse to a point. Rewards and values of the imagined latents keep them apart.
        """
        real = batch.acted[:, :-1] & batch.valid[:, 1:]  # [B, T-1]
        known = real & batch.reward[:, 1:].isfinite()
        reward = torch.where(known, (batch.reward[:, 1:] - self.reward_mean) / self.reward_scale, 0.0)
        with torch.no_grad():
            observed = self.encode(batch.observation)  # [B, T, z]
            value = self._valued(observed)  # [B, T]
            for t in reversed(range(reward.shape[1])):  # discounted rewards from here to the window's end
                ahead = reward[:, t] + self.config.discount * value[:, t + 1]
                value[:, t] = torch.where(real[:, t], ahead, value[:, t])
        latents, rewards = [self.encode(batch.observation[:, 0])], []
        for t in range(reward.shape[1]):
            after, predicted = self.imagined(latents[-1], batch.action[:, t])
            latents.append(after)
            rewards.append(predicted)
        before, after = torch.stack(latents[:-1], dim=1), torch.stack(latents[1:], dim=1)  # [B, T-1, z]
        deviation = (batch.action[:, :-1] - self._proposed(before)) / self.log_std.exp()  # [B, T-1, m]
        errors = {
            "latent": (after - observed[:, 1:]).square().mean(dim=-1),
            "reward": torch.where(known, (torch.stack(rewards, dim=1) - reward).square(), 0.0),
            # a sum of about 1 / (1 - discount) rewards
            "value": (1.0 - self.config.discount) * (self._valued(before) - value[:, :-1]).square(),
            "proposal": (deviation.square() / 2 + self.log_std).mean(dim=-1),  # Gaussian NLL less a constant
        }
        means = {name: error[real].mean() for name, error in errors.items()}
        return torch.stack(list(means.values())).sum(), {name: mean.detach() for name, mean in means.items()}

    def start(self, history: History, *, horizon: int) -> LatentState:
        """The encodings of the present observations."""
        with torch.no_grad():
            return LatentState(self.encode(history.observation[:, -1].to(self.mean)))

    @torch.no_grad()
    def step(
        self, state: LatentState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[LatentState, Step]:
        """One transition, without an observation; consumes ``state``."""
        after, reward = self.imagined(state.read(), action)
        state.latent = None
        reward = reward * self.reward_scale + self.reward_mean
        return LatentState(after), Step(None, reward, torch.ones_like(reward, dtype=torch.bool))

    def take(self, state: LatentState, rows: Tensor) -> LatentState:
        """A new state of the rows."""
        return LatentState(state.read()[rows])

    @torch.no_grad()
    def value(self, state: LatentState) -> Tensor:
        """The discounted rewards ``[N]`` from here on, for the policy of the data."""
        offset = self.reward_mean / (1.0 - self.config.discount)
        return self._valued(state.read()) * self.reward_scale + offset

    @torch.no_grad()
    def propose(
        self,
        state: LatentState,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """``count`` actions per row, as in the data, or their mean if ``deterministic``."""
        mean = self._proposed(state.read())[:, None].repeat(1, count, 1)  # [N, count, m]
        if deterministic:
            return Proposal(mean)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return Proposal((mean + self.log_std.exp() * noise).clamp(-1.0, 1.0))

    def _valued(self, latent: Tensor) -> Tensor:
        value: Tensor = self.value_head(latent)
        return value[..., 0]

    def _proposed(self, latent: Tensor) -> Tensor:
        return torch.tanh(self.proposal_head(latent))

    def save(self, folder: Path | str) -> None:
        """Write ``model.json`` and ``weights.safetensors``."""
        write_model(folder, "latent", self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote."""
        return read_model(
            folder, "latent", lambda spec, config: cls(spec, LatentConfig(**config)), device=device
        )


def _normalised(latent: Tensor) -> Tensor:
    # a fixed length, so that latents cannot shrink to make their errors small
    return F.layer_norm(latent, latent.shape[-1:])
