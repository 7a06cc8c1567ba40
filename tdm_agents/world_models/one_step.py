"""What models of one transition share: the normaliser, the reading of batches, and the encoding of actions.

Such a model predicts what follows from the present observation and the action alone: ``(o, a) -> (o', r,
alive)``. It is memoryless, and angles get no special treatment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tdm_agents.data.moments import moments
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, ModelSpec
from tdm_agents.spaces.goals import goal_columns, with_goal_of
from tdm_agents.world_models.learned import LearnedModel

if TYPE_CHECKING:
    from tdm_agents.data.trajectories import Trajectories


@dataclass(frozen=True, slots=True)
class Transitions:
    """``R`` recorded transitions.

    Attributes:
        now: ``[R, n]`` observations before.
        action: ``[R, m]``.
        after: ``[R, n]`` observations after.
        reward: ``[R]``; 0 where unknown, because a NaN must not even enter a term that is masked later: 0 *
            NaN is NaN in the gradient.
        known: ``[R]`` bool; where the reward is known.
        alive: ``[R]`` bool; False where the episode terminated.
    """

    now: Tensor
    action: Tensor
    after: Tensor
    reward: Tensor
    known: Tensor
    alive: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Transitions:
        """All transitions in a batch of windows.

        Raises:
            ValueError: If the batch holds no transition.
        """
        real = batch.acted[:, :-1] & batch.valid[:, 1:]  # [B, T-1]
        if not real.any():
            raise ValueError("the batch holds no transition: windows need at least 2 steps")
        reward = batch.reward[:, 1:][real]
        known = reward.isfinite()
        return cls(
            now=batch.observation[:, :-1][real],
            action=batch.action[:, :-1][real],
            after=batch.observation[:, 1:][real],
            reward=torch.where(known, reward, 0.0),
            known=known,
            alive=batch.alive[:, 1:][real],
        )


def transition_counts(batch: Batch) -> Tensor:
    """The numbers of transitions in a batch and of those whose reward is known, ``[2]`` int64."""
    real = batch.acted[:, :-1] & batch.valid[:, 1:]  # [B, T-1]
    return torch.stack([real.sum(), (real & batch.reward[:, 1:].isfinite()).sum()])


class OneStepModel(LearnedModel):
    """A learned model of one transition. A goal in the observation stays as it is.

    Args:
        spec: What it models. ``history_steps`` becomes 1; the device is where the module is moved to.
        absolute: Whether it predicts the next observation; else its change.
    """

    observation_mean: Tensor
    observation_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor

    def __init__(self, spec: ModelSpec, *, absolute: bool = False) -> None:
        super().__init__()
        self._spec = replace(spec, history_steps=1, dtype=torch.float32)
        self._absolute = absolute
        self._goal = goal_columns(spec.observation_space)
        n = spec.observation_dim
        self.register_buffer("observation_mean", torch.zeros(n, device="cpu", dtype=torch.float32))
        self.register_buffer("observation_scale", torch.ones(n, device="cpu", dtype=torch.float32))
        self.register_buffer(
            "output_mean", torch.zeros(n + 1, device="cpu", dtype=torch.float32)
        )  # changes or next observations, reward
        self.register_buffer("output_scale", torch.ones(n + 1, device="cpu", dtype=torch.float32))

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes, time step, and the device of the weights."""
        return replace(self._spec, device=self.observation_mean.device)

    @property
    def input_dim(self) -> int:
        """Numbers in :meth:`inputs`."""
        return self._spec.observation_dim + (sum(self._spec.action_choices) or self._spec.action_dim)

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Set the normalisation of inputs and outputs from the data of the one environment.

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
        if not self._absolute:
            mean, std = moments(np.diff(e.observation, axis=0) for e in trajectories.iterate())  # [n]
        self.output_mean[:-1].copy_(torch.from_numpy(mean))
        self.output_scale[:-1].copy_(_scale(std))
        mean, std = moments(e.reward[np.isfinite(e.reward)] for e in trajectories.iterate())  # []
        self.output_mean[-1] = float(mean)
        self.output_scale[-1] = _scale(std)

    def inputs(self, observation: Tensor, action: Tensor) -> Tensor:
        """Normalised observations ``[..., n]`` beside encoded actions ``[..., m]``."""
        normalised = (observation - self.observation_mean) / self.observation_scale
        return torch.cat([normalised, self._encode(action)], -1)

    def targets(self, transitions: Transitions) -> Tensor:
        """Normalised ``[R, n + 1]``: changes or next observations, then the reward."""
        value = transitions.after if self._absolute else transitions.after - transitions.now
        stacked = torch.cat([value, transitions.reward[:, None]], -1)
        return (stacked - self.output_mean) / self.output_scale

    def outcome(self, now: Tensor, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """The next observation ``[..., n]`` and the reward ``[...]``, in the environment's units.

        Args:
            now: ``[..., n]``, before.
            normalised: ``[..., n + 1]``, on the scale of :meth:`targets`.
        """
        outputs = normalised * self.output_scale + self.output_mean
        after = outputs[..., :-1] if self._absolute else now + outputs[..., :-1]
        return self.with_goal(now, after), outputs[..., -1]

    def with_goal(self, now: Tensor, after: Tensor) -> Tensor:
        """Observations ``after[..., n]`` with the goals of ``now[..., n]``, where the space has any."""
        return with_goal_of(now, after, self._goal)

    def _encode(self, action: Tensor) -> Tensor:
        if self._spec.action_kind == "continuous":
            return action  # in [-1, 1] already
        columns = zip(action.unbind(-1), self._spec.action_choices, strict=True)
        return torch.cat([F.one_hot(a, c).to(self._spec.dtype) for a, c in columns], -1)


def _scale(std: npt.NDArray[np.float64]) -> Tensor:
    # a scalar that never changes in the data has nothing to normalise by
    return torch.from_numpy(np.where(std > 1e-8, std, 1.0))
