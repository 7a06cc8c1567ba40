"""Prompts of agents that play: a recorded episode of the environment, as what had just happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tdm_agents.agent.prompt import of_episode
from tdm_agents.data.index import INDEX_FILE, read_index
from tdm_agents.data.minari_io import locate
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import History


def best_episode(source: str | Path, env: EnvRef, *, action_repeat: int) -> tuple[History, Path]:
    """The recorded episode of an environment with the highest return, and the data set that it is from.

    Args:
        source: A Minari data set (folder or id), or a collection, of which the environment's is taken.
        env: The environment.
        action_repeat: Environment steps per decision of the model that reads it.

    Raises:
        DataError: If there are no such data, or they are not of whole decisions.
        ValueError: If the collection has none of this environment.
    """
    data = data_of(Path(source), env, "prompt")
    recorded = Trajectories.from_minari(data, action_repeat=action_repeat)
    episodes = [recorded.episode(i) for i in range(recorded.num_episodes)]
    best = max(episodes, key=lambda episode: float(np.nansum(episode.reward)))
    return of_episode(best), data


def data_of(source: Path, env: EnvRef, option: str) -> Path:
    """The data set of an environment: the given one, or that of a collection.

    Args:
        source: A Minari data set (folder or id), or a collection.
        env: The environment.
        option: What the source was given for, named in errors.

    Raises:
        DataError: If there are no such data.
        ValueError: If the collection has none of this environment.
    """
    if not (source / INDEX_FILE).is_file():
        return locate(source)
    found = [entry.path for entry in read_index(source) if entry.env.name == env.name]
    if not found:
        raise WrongValueError(
            f"{option} {source} has no data of {env}; collect an episode of it, or leave out {option}="
        )
    return source / found[0]
