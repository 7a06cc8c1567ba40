"""The model, its settings and its state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tdm_agents.data.moments import moments
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, History, ModelSpec, Step
from tdm_agents.world_models.learned import LearnedModel
from tdm_agents.world_models.model_files import read_model, write_model


@dataclass(frozen=True, slots=True)
class QuadraticConfig:
    """Settings of a :class:`QuadraticModel`.

    Attributes:
        ridge: Penalty on squared coefficients, relative to the number of transitions; at least 0.
        limit: Standard deviations from the data's mean at which observations are clipped.
    """

    ridge: float = 1e-6
    limit: float = 5.0

    def __post_init__(self) -> None:
        if not self.ridge >= 0.0 or not self.limit > 0.0:
            raise WrongValueError(
                f"ridge is {self.ridge} and limit {self.limit}; expected ridge >= 0 and limit > 0"
            )


@dataclass(slots=True)
class QuadraticState:
    """``N`` observations ``[N, n]``; None once a step has consumed them."""

    observation: Tensor | None

    def read(self) -> Tensor:
        """The observations."""
        if self.observation is None:
            raise RuntimeError("this state was consumed by step(): take() its rows first to keep it")
        return self.observation


class QuadraticModel(LearnedModel):
    """A quadratic model ``(o' - o, r) = W phi``; ``phi`` has all products of ``o`` and ``a`` up to degree 2.

    Args:
        spec: Spec of the environment, which has continuous actions.
        config: Settings of the model.
        seed: Not used, since nothing is random.
    """

    config_type: ClassVar[type[QuadraticConfig]] = QuadraticConfig

    def __init__(self, spec: ModelSpec, config: QuadraticConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        if spec.action_kind != "continuous":
            raise WrongValueError(f"actions are {spec.action_kind}; a quadratic model needs continuous ones")
        self.config = config if config is not None else QuadraticConfig()
        self._spec = replace(spec, history_steps=1, terminates=False, dtype=torch.float32)
        n, size = spec.observation_dim, 1 + spec.observation_dim + spec.action_dim
        self.weight = nn.Parameter(torch.zeros(size * (size + 1) // 2, n + 1))
        self.mean: Tensor
        self.scale: Tensor
        self.output_scale: Tensor
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))
        self.register_buffer("output_scale", torch.ones(n + 1))

    @property
    def spec(self) -> ModelSpec:
        """The spec, on the device of the weights."""
        return replace(self._spec, device=self.weight.device)

    def _features(self, observation: Tensor, action: Tensor) -> Tensor:
        z = ((observation - self.mean) / self.scale).clamp(-self.config.limit, self.config.limit)
        z = torch.cat([torch.ones_like(z[..., :1]), z, action], dim=-1)
        row, column = torch.triu_indices(z.shape[-1], z.shape[-1], device=z.device)
        return z[..., row] * z[..., column]

    def predicted(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The next observations ``[..., n]`` and rewards ``[...]``."""
        outputs = (self._features(observation, action) @ self.weight) * self.output_scale
        return observation + outputs[..., :-1], outputs[..., -1]

    @torch.no_grad()
    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Fit by ridge regression to all transitions with known rewards, one episode in memory at a time."""
        (trajectories,) = data.values()
        mean, spread = moments(e.observation for e in trajectories.iterate())
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(spread > 1e-8, spread, 1.0)))
        _, deviation = moments(target for _, target in self._regression(trajectories))
        scale = torch.from_numpy(deviation).clamp_min(1e-8)
        gram = torch.zeros(2 * self.weight.shape[:1], dtype=torch.float64)
        moment = torch.zeros(self.weight.shape, dtype=torch.float64)
        count = 0
        for phi, target in self._regression(trajectories):
            gram += phi.T @ phi
            moment += phi.T @ (torch.from_numpy(target) / scale)
            count += len(phi)
        penalty = max(self.config.ridge, 1e-12) * count * torch.eye(len(gram), dtype=torch.float64)
        self.output_scale.copy_(scale)
        self.weight.copy_(torch.linalg.solve(gram + penalty, moment))

    def _regression(self, trajectories: Trajectories) -> Iterator[tuple[Tensor, npt.NDArray[np.float64]]]:
        """The features and targets ``[transitions, ...]`` of each episode, where the reward is known."""
        for e in trajectories.iterate():
            known = np.isfinite(e.reward[1:])
            now, action = (torch.from_numpy(x[:-1][known]) for x in (e.observation, e.action))
            target = np.column_stack([np.diff(e.observation, axis=0), e.reward[1:]])[known]
            yield self._features(now, action).double(), target.astype(np.float64)

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The squared error of imagination from each window's first observation, in standard deviations."""
        real = batch.acted[:, :-1] & batch.valid[:, 1:]  # [B, T-1]
        known = real & batch.reward[:, 1:].isfinite()
        imagined, now = [], batch.observation[:, 0]
        for t in range(batch.action.shape[1] - 1):
            now, reward = self.predicted(now, batch.action[:, t])
            imagined.append(torch.cat([now / self.scale, reward[:, None] / self.output_scale[-1]], dim=-1))
        target = torch.cat(
            [
                batch.observation[:, 1:] / self.scale,
                torch.where(known, batch.reward[:, 1:], 0.0)[..., None] / self.output_scale[-1],
            ],
            dim=-1,
        )
        error = (torch.stack(imagined, dim=1) - target).square()
        observation = error[..., :-1].mean(dim=-1)[real].mean()
        reward = (error[..., -1] * known).sum() / known.sum().clamp_min(1)
        return observation + reward, {"observation": observation.detach(), "reward": reward.detach()}

    def start(self, history: History, *, horizon: int) -> QuadraticState:
        """The present observations."""
        return QuadraticState(history.observation[:, -1].to(self.weight))

    @torch.no_grad()
    def step(
        self, state: QuadraticState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[QuadraticState, Step]:
        """One transition; consumes ``state``."""
        after, reward = self.predicted(state.read(), action)
        state.observation = None
        return QuadraticState(after), Step(after, reward, torch.ones_like(reward, dtype=torch.bool))

    def take(self, state: QuadraticState, rows: Tensor) -> QuadraticState:
        """A new state of the rows."""
        return QuadraticState(state.read()[rows])

    def save(self, folder: Path | str) -> None:
        """Write ``model.json`` and ``weights.safetensors``."""
        write_model(folder, "quadratic", self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote."""
        return read_model(
            folder, "quadratic", lambda spec, config: cls(spec, QuadraticConfig(**config)), device=device
        )
