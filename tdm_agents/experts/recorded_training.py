"""Everything that a policy did while it learned, as data for offline learning (as in D4RL, 2004.07219)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.core import ActType, ObsType

from tdm_agents.data.minari_io import FlatEpisode, write_dataset
from tdm_agents.environments import EnvRef
from tdm_agents.spaces import ObservationCodec
from tdm_agents.storage import write_bytes

POLICIES = "policies"
"""Folder of the policies that were evaluated."""
REPLAY = "replay"
"""Folder of the data set of all that was done in training."""
MEDIUM = "medium"
"""Name of the policy that is a third of the way, and beginning of that of the data until then."""
MEDIUM_SHARE = 1 / 3
"""Share of the way from the first evaluation to the best, at which a policy is of medium quality."""


@dataclass(slots=True)
class Done:
    """What was done in the environments of a training, in the order in which episodes ended.

    Attributes:
        steps: Environment steps so far, of all environments together.
        episodes: Episodes that have ended; each says at how many steps (``training_steps``).
    """

    steps: int = 0
    episodes: list[FlatEpisode] = field(default_factory=list)


class Recorded(gym.Wrapper[ObsType, ActType, ObsType, ActType]):
    """An environment that adds its episodes to what was done.

    Args:
        env: The environment, with its time limit.
        done: Where to add them.
    """

    def __init__(self, env: gym.Env[ObsType, ActType], done: Done) -> None:
        super().__init__(env)
        self._done = done
        self._codec = ObservationCodec(env.observation_space)
        self._seen: list[Any] = []
        self._acted: list[Any] = []
        self._earned: list[float] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """Begin an episode; one under way has been cut off."""
        self._finish(terminated=False)
        observation, info = self.env.reset(seed=seed, options=options)
        self._seen = [self._codec.flatten(observation)]
        return observation, info

    def step(self, action: ActType) -> tuple[ObsType, Any, bool, bool, dict[str, Any]]:
        """A step of the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._done.steps += 1
        self._seen.append(self._codec.flatten(observation))
        self._acted.append(np.array(action))
        self._earned.append(float(reward))
        if terminated or truncated:
            self._finish(terminated=bool(terminated))
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Close the environment; an episode under way has been cut off."""
        self._finish(terminated=False)
        super().close()

    def _finish(self, *, terminated: bool) -> None:
        if self._acted:
            self._done.episodes.append(
                FlatEpisode(
                    observation=np.stack(self._seen),
                    action=np.stack(self._acted),
                    reward=np.asarray(self._earned, np.float32),
                    terminated=terminated,
                    metadata={"policy": "in training", "training_steps": self._done.steps},
                )
            )
        self._seen, self._acted, self._earned = [], [], []


def write_replay(
    out: Path, env: EnvRef, episodes: Sequence[FlatEpisode], returns: Sequence[tuple[int, float]]
) -> None:
    """Write what was done in training, and what was until a policy was of medium quality, and that policy.

    ``out/replay/data`` holds all episodes, ``out/medium-replay/data`` those that ended before the first
    evaluation whose mean return is :data:`MEDIUM_SHARE` of the way from the first evaluation's to the best,
    and ``out/medium.zip`` is the policy of then.

    Args:
        out: Folder of the policies, which are in ``out/policies``.
        env: The environment.
        episodes: The episodes, in the order in which they ended.
        returns: Steps and mean return of each evaluation.

    Raises:
        DataError: If a data set exists, or cannot be written.
    """
    (_, first), best = returns[0], max(mean for _, mean in returns)
    until = next(steps for steps, mean in returns if mean >= first + MEDIUM_SHARE * (best - first))
    write_bytes(out / f"{MEDIUM}.zip", policy_file(out, until).read_bytes())
    early = [one for one in episodes if one.metadata["training_steps"] <= until]
    live = env.make()
    try:
        for name, chosen in ((REPLAY, episodes), (f"{MEDIUM}-{REPLAY}", early)):
            if chosen:
                write_dataset(
                    out / name,
                    live,
                    chosen,
                    description=f"{env}: {len(chosen)} episodes of a policy in training.",
                    metadata={"env_id": env.made_by},
                )
    finally:
        live.close()


def policy_file(out: Path, steps: int) -> Path:
    """The policy that was evaluated after so many steps."""
    return out / POLICIES / f"{steps:09}.zip"
