"""A replay memory as trajectories, to which a model is fitted before its first update."""

from __future__ import annotations

import numpy as np

from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.environments import EnvRef
from tdm_agents.online.replay import Replay
from tdm_agents.protocols import ModelSpec


def recorded(replay: Replay, env: EnvRef, spec: ModelSpec) -> Trajectories:
    """Everything that a replay memory of an environment holds."""
    episodes = [replay.episode(i) for i in range(replay.episodes)]
    steps = Decisions(
        observation=np.concatenate([e.observation for e in episodes]),
        reward=np.concatenate([np.concatenate([[np.float32(np.nan)], e.reward]) for e in episodes]),
        action=np.concatenate([np.concatenate([e.action, 0 * e.action[:1]]) for e in episodes]),
        alive=np.concatenate([np.array([True] * len(e.reward) + [not e.terminated]) for e in episodes]),
    )
    info = TrajectoryInfo(
        env.made_by, spec.observation_space, spec.action_space, spec.action_repeat, (), env.kwargs
    )
    offsets = np.cumsum([0, *(len(e.reward) + 1 for e in episodes)])
    return Trajectories.from_arrays(steps, offsets=offsets, info=info)
