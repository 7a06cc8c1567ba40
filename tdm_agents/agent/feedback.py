"""What comes with the observations of ``B`` environments: rewards, and where episodes begin and have ended.

The caller tells the agent, or the environment that the agent is attached to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tdm_agents.env_checks import read_rewards
from tdm_agents.errors import WrongValueError

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Feedback:
    """Rewards and flags of ``B`` environments, one row each.

    Attributes:
        reward: ``[B]`` float64, earned by the step that led to the observation; NaN where unknown.
        start: ``[B]``, whether the observation is the first of an episode.
        active: ``[B]``, whether the environment will execute what is decided; where it will not, nothing is
            decided and the observation is not read.
    """

    reward: npt.NDArray[np.float64]
    start: Flags
    active: Flags

    @staticmethod
    def checked(batch: int, reward: Any = None, episode_start: Any = None, active: Any = None) -> Feedback:
        """What a caller says, checked and copied, so that later changes by the caller have no effect.

        Args:
            batch: The number of environments ``B``.
            reward: ``[B]``, NaN where unknown, or a number where ``B`` is 1; None = unknown.
            episode_start: ``[B]`` bool, or a bool where ``B`` is 1; None = no row.
            active: As ``episode_start``; None = every row.

        Raises:
            ValueError: If a shape differs, or a reward is infinite or a single NaN.
        """
        none = np.full(batch, np.nan)
        rewards = none if reward is None else read_rewards(reward, batch, unknown=True)
        return Feedback(
            reward=rewards,
            start=flags("episode_start", episode_start, batch, default=False),
            active=flags("active", active, batch, default=True),
        )


def flags(name: str, value: Any, batch: int, *, default: bool) -> Flags:
    """A copy of ``value`` as ``[B]`` bool; all ``default`` where it is None.

    Raises:
        ValueError: If its shape differs; the message calls it ``name``.
    """
    return np.full(batch, default) if value is None else _rows(name, value, batch, np.bool_)


def _rows(name: str, value: Any, batch: int, dtype: Any) -> npt.NDArray[Any]:
    array = np.array(value, dtype)  # a copy: Stable-Baselines3 changes episode_start in place
    if array.shape != (batch,) and not (batch == 1 and array.shape == ()):
        raise WrongValueError(
            f"{name} has shape {array.shape} beside observations of {batch} environments; expected "
            f"({batch},), one entry per environment"
        )
    return array.reshape(batch)
