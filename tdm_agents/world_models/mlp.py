"""The first baseline of the TDM paper: an MLP that predicts the change of the observation.

``(o, a) -> (o' - o, r, alive)`` with normalised inputs and outputs, deterministic and memoryless: only the
present observation of a history counts. Angles get no special treatment.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.data.moments import moments
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, History, ModelSpec, Rollout, Step, looped_rollout
from tdm_agents.world_models.learned import LearnedModel
from tdm_agents.world_models.model_files import read_model, write_model

if TYPE_CHECKING:
    from tdm_agents.data.trajectories import Trajectories


@dataclass(frozen=True, slots=True)
class MLPConfig:
    """Size of an :class:`MLPWorldModel`.

    Attributes:
        hidden: Width of the hidden layers, from 1 to 65,536.
        layers: Number of hidden layers, from 1 to 1,000.

    Raises:
        ValueError: If a setting makes no sense.
    """

    hidden: int = 256
    layers: int = 3

    def __post_init__(self) -> None:
        for name, most in (("hidden", 65_536), ("layers", 1_000)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise WrongValueError(
                    f"MLPConfig.{name} is {value}; expected at least 1 and at most {most:,}"
                )


class MLPState:
    """``N`` present observations ``[N, n]``, with one owner."""

    __slots__ = ("_observation",)

    def __init__(self, observation: Tensor) -> None:
        self._observation: Tensor | None = observation

    @property
    def observation(self) -> Tensor:
        """The present observations ``[N, n]``.

        Raises:
            RuntimeError: If a step has consumed the state.
        """
        if self._observation is None:
            raise RuntimeError(
                "this state was consumed by step() or rollout(): take() its rows first to keep it"
            )
        return self._observation

    def consume(self) -> Tensor:
        """The present observations ``[N, n]``; the state cannot be used afterwards."""
        observation, self._observation = self.observation, None
        return observation


class MLPWorldModel(LearnedModel):
    """A deterministic delta model behind the :class:`~tdm_agents.protocols.WorldModel` protocol.

    Args:
        spec: Spec of the environment. ``history_steps`` becomes 1; the device follows the module.
        config: Size of the model.
        seed: Seed of the initial weights (PyTorch's default distribution for linear layers).
    """

    config_type: ClassVar[type[MLPConfig]] = MLPConfig

    def __init__(self, spec: ModelSpec, config: MLPConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config if config is not None else MLPConfig()
        self._spec = replace(spec, history_steps=1, dtype=torch.float32)
        n = spec.observation_dim
        widths = [n + (sum(spec.action_choices) or spec.action_dim)]
        widths += [self.config.hidden] * self.config.layers
        generator = torch.Generator("cpu").manual_seed(int(seed))
        made: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
        self.hidden = nn.ModuleList(_linear(i, o, generator) for i, o in itertools.pairwise(widths))
        self.head = _linear(widths[-1], n + 2, generator)  # change of n scalars, reward, logit of alive
        self.observation_mean: Tensor
        self.observation_scale: Tensor
        self.output_mean: Tensor
        self.output_scale: Tensor
        self.register_buffer("observation_mean", torch.zeros(n, **made))
        self.register_buffer("observation_scale", torch.ones(n, **made))
        self.register_buffer("output_mean", torch.zeros(n + 1, **made))  # changes, reward
        self.register_buffer("output_scale", torch.ones(n + 1, **made))

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes, time step, and the device of the weights."""
        return replace(self._spec, device=self.observation_mean.device)

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Fit the normalisation of inputs and outputs to the data of the environment.

        Raises:
            ValueError: If the data hold no transition, or observations of another size.
        """
        (trajectories,) = data.values()
        if trajectories.observation_dim != self._spec.observation_dim:
            raise WrongValueError(
                f"the data's observations have {trajectories.observation_dim} scalars; "
                f"the model expects {self._spec.observation_dim}"
            )
        mean, std = moments(e.observation for e in trajectories.iterate())  # [n]
        self.observation_mean.copy_(torch.from_numpy(mean))
        self.observation_scale.copy_(_scale(std))
        mean, std = moments(np.diff(e.observation, axis=0) for e in trajectories.iterate())  # [n]
        self.output_mean[:-1].copy_(torch.from_numpy(mean))
        self.output_scale[:-1].copy_(_scale(std))
        mean, std = moments(e.reward[np.isfinite(e.reward)] for e in trajectories.iterate())  # []
        self.output_mean[-1] = float(mean)
        self.output_scale[-1] = _scale(std)

    def normalised(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the next step, normalised.

        Args:
            observation: ``[..., n]``.
            action: ``[..., m]``.

        Returns:
            The normalised changes and reward ``[..., n + 1]``, and the logit of alive ``[...]``.
        """
        x = torch.cat(
            [(observation - self.observation_mean) / self.observation_scale, self._encode(action)], -1
        )
        for layer in self.hidden:
            x = F.silu(layer(x))
        outputs: Tensor = self.head(x)
        return outputs[..., :-1], outputs[..., -1]

    def _encode(self, action: Tensor) -> Tensor:
        if self._spec.action_kind == "continuous":
            return action  # in [-1, 1] already
        columns = zip(action.unbind(-1), self._spec.action_choices, strict=True)
        return torch.cat([F.one_hot(a, c).to(self._spec.dtype) for a, c in columns], -1)

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the normalised changes and reward, plus cross-entropy of alive where episodes end.

        Args:
            batch: Windows of at least two steps.
            generator: Not used, since nothing is random.

        Raises:
            ValueError: If the batch holds no transition.
        """
        real = batch.acted[:, :-1] & batch.valid[:, 1:]  # [B, T-1]
        if not real.any():
            raise ValueError("the batch holds no transition: windows need at least 2 steps")
        now, after = batch.observation[:, :-1][real], batch.observation[:, 1:][real]  # [R, n]
        reward, alive = batch.reward[:, 1:][real], batch.alive[:, 1:][real]  # [R]
        # a NaN must not enter even a term that is masked later: 0 * NaN is NaN in the gradient
        known = reward.isfinite()
        reward = torch.where(known, reward, 0.0)
        predicted, logit = self.normalised(now, batch.action[:, :-1][real])
        target = (torch.cat([after - now, reward[:, None]], -1) - self.output_mean) / self.output_scale
        error = (predicted.float() - target).square()
        change_loss = error[:, :-1].mean()
        reward_loss = (error[:, -1] * known).sum() / known.sum().clamp(min=1)
        total = change_loss + reward_loss
        metrics = {"observation": change_loss.detach(), "reward": reward_loss.detach()}
        if self._spec.terminates:
            alive_loss = F.binary_cross_entropy_with_logits(logit.float(), alive.float())
            total, metrics["alive"] = total + alive_loss, alive_loss.detach()
        return total, metrics

    def start(self, history: History, *, horizon: int) -> MLPState:
        """The present observations of ``B`` histories; ``horizon`` is not used."""
        return MLPState(history.observation[:, -1].to(self.observation_mean))

    @torch.no_grad()
    def step(
        self, state: MLPState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[MLPState, Step]:
        """One transition of ``N`` rows with ``action[N, m]``; deterministic. Consumes ``state``.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        now = state.consume()
        outputs, logit = self.normalised(now, action)
        outputs = outputs * self.output_scale + self.output_mean  # [N, n+1]
        after = now + outputs[:, :-1]
        alive = logit > 0 if self._spec.terminates else torch.ones_like(logit, dtype=torch.bool)
        return MLPState(after), Step(after, outputs[:, -1], alive)

    def take(self, state: MLPState, rows: Tensor) -> MLPState:
        """A new state of the rows (int64 ``[N']``, repeats allowed); ``state`` stays usable.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        return MLPState(state.observation[rows])

    def rollout(
        self, state: MLPState, actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """``H`` steps; ``actions`` is ``[N, H, m]``. Consumes ``state``."""
        return looped_rollout(self, state, actions, generator=generator)

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors``, then ``model.json``, which holds the hash of the weights."""
        write_model(folder, "mlp", self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote, on ``device``, ready to plan with.

        Raises:
            CheckpointError: If a file is missing or altered, has another type or does not fit its JSON.
        """
        return read_model(folder, "mlp", lambda spec, config: cls(spec, MLPConfig(**config)), device=device)


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):  # Linear draws from the global state, for nothing
        layer = nn.Linear(inputs, outputs, device="cpu", dtype=torch.float32)
    bound = inputs**-0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def _scale(std: npt.NDArray[np.float64]) -> Tensor:
    # a scalar that never changes in the data is not scaled
    return torch.from_numpy(np.where(std > 1e-8, std, 1.0))
