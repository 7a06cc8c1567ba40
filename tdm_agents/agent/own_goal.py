"""A goal that the agent was given, which it sees instead of the environment's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces.goals import goal_columns


@dataclass(frozen=True, slots=True)
class OwnGoal:
    """A goal in place of what an observation says is desired.

    Attributes:
        columns: Columns of the desired goal in flat observations.
        value: ``[1, g]`` for all environments, or ``[B, g]``.
    """

    columns: slice
    value: Tensor

    @classmethod
    def of(cls, goal: Any, spec: ModelSpec) -> OwnGoal:
        """A goal for a model's observations.

        Args:
            goal: Array-like in the shape of ``desired_goal``, or ``[B, ...]`` of these.
            spec: Spec of the model.

        Raises:
            ValueError: If observations hold no goal, or ``goal`` has another shape or is not finite.
        """
        columns = goal_columns(spec.observation_space)
        if columns is None:
            raise WrongValueError(
                f"goal is given, but the observation_space {spec.observation_space} holds none; expected a "
                "Dict with the keys observation, achieved_goal and desired_goal (gymnasium_robotics.GoalEnv)"
            )
        assert isinstance(spec.observation_space, spaces.Dict)
        desired = spec.observation_space["desired_goal"]
        if not isinstance(desired, spaces.Box | spaces.MultiBinary):
            raise WrongValueError(
                f"goal is given, but desired_goal is of {desired}; expected a Box or MultiBinary, whose "
                "goals are numbers"
            )
        shape = desired.shape
        try:
            value = np.asarray(goal, np.float64)
        except (TypeError, ValueError) as error:
            raise WrongValueError(f"goal is {goal!r}; expected numbers of shape {shape}") from error
        assert shape is not None
        if value.shape != shape and value.shape[1:] != shape:
            raise WrongValueError(
                f"goal has shape {value.shape}; expected {shape}, as desired_goal has, or as many of these "
                "as there are environments"
            )
        if not np.isfinite(value).all():
            raise WrongValueError(f"goal is {goal!r}; expected finite numbers")
        rows = torch.from_numpy(value.reshape(-1, columns.stop - columns.start))
        return cls(columns, rows.to(spec.device, spec.dtype))

    def instead_in(self, observation: Tensor) -> Tensor:
        """Observations ``[B, n]`` in which this goal is desired.

        Raises:
            ValueError: If the goals are of another number of environments.
        """
        if len(self.value) not in (1, len(observation)):
            raise WrongValueError(
                f"goal is of {len(self.value)} environments, but observations are of {len(observation)}; "
                "expected as many, or one for all of them"
            )
        changed = observation.clone()
        changed[:, self.columns] = self.value
        return changed
