"""One episode of a behaviour policy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from tdm_agents.actors.behaviour import BehaviourPolicy
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.seeds import draw_reset_seed, episode_rng
from tdm_agents.collection.storable import exactness
from tdm_agents.data.minari_io import FlatEpisode
from tdm_agents.env_checks import read_reward
from tdm_agents.environments import Env, steps_at_most, warn_of_cut
from tdm_agents.errors import TDMError
from tdm_agents.spaces import ObservationCodec

MAX_RESET_INFO = 60_000
"""Most characters of ``reset_info`` in an episode's metadata; an attribute of HDF5 has at most 64 KB."""


class EpisodeFailedError(TDMError, RuntimeError):
    """The environment gave up during an episode, or returned something that is not finite."""


def play(
    env: Env, dataset: DatasetSpec, policy: BehaviourPolicy, index: int, *, attempt: int = 0
) -> FlatEpisode:
    """Play episode ``index`` of a policy.

    The last action may be held for fewer environment steps than the others, because the episode ends.

    Args:
        env: An environment of ``dataset.make_env()``; it is reset.
        dataset: The data set, which has the seed, the length, and the steps that an action is held.
        policy: One of the data set's policies; it draws the episode's own settings and acts.
        index: Index of the episode among those of the policy.
        attempt: How many times this episode failed before; each attempt makes new draws.

    Raises:
        EpisodeFailedError: If the environment raises ``RuntimeError`` (as walkers and dm_control do where the
            physics diverge), an observation or reward is not finite, or the policy finds no action
            (``ValueError``). Make a new environment before the next episode.
    """
    rng = episode_rng(dataset.seed, policy.name, index, environment=dataset.name, attempt=attempt)
    reset_seed = draw_reset_seed(rng)
    observations, refuse_inexact = ObservationCodec(env.observation_space), exactness(env.observation_space)
    actions: list[Any] = []
    rewards: list[float] = []
    with _failure_at(rewards, reset_seed):
        observation, info = env.reset(seed=reset_seed)
        flat = [observations.flatten(observation)]
        refuse_inexact(observation)
    told = _told(info)  # now, because an environment may go on writing to it
    most = steps_at_most(env, dataset.max_steps)
    started = policy.start(env, rng, ref=dataset.env, action_repeat=dataset.action_repeat)
    terminated = truncated = False
    action: Any = None
    gathered = math.nan  # since the last decision
    with _failure_at(rewards, reset_seed):
        while not (terminated or truncated or len(rewards) == most):
            if len(rewards) % dataset.action_repeat == 0:
                (action,) = started.actor.act([observation], [gathered], [True]).actions
                gathered = 0.0
            observation, reward, terminated, truncated, _ = env.step(action)
            flat.append(observations.flatten(observation))  # refuses what is not finite
            refuse_inexact(observation)
            rewards.append(read_reward(reward))
            actions.append(action)
            gathered += rewards[-1]
    if most != dataset.max_steps and not (terminated or truncated):
        warn_of_cut(str(dataset))
    return FlatEpisode(
        observation=np.stack(flat),
        action=_float32(np.stack(actions)),
        reward=np.asarray(rewards, np.float32),
        terminated=bool(terminated),
        seed=reset_seed,
        metadata={"policy": policy.name, "index": index, **started.drawn, **told},
    )


def _told(info: Mapping[str, Any]) -> dict[str, str]:
    """The ``info`` of a reset, such as the variant of a body, as JSON text under the name ``reset_info``.

    Arrays and other objects are left out; so is everything if it is longer than :data:`MAX_RESET_INFO`.
    """
    kept: dict[str, Any] = {}
    for name, value in info.items():
        plain = value.item() if isinstance(value, np.generic) else value
        try:
            json.dumps(plain)
        except (TypeError, ValueError):
            continue
        kept[name] = plain
    text = json.dumps(kept)
    return {"reset_info": text} if kept and len(text) <= MAX_RESET_INFO else {}


def _float32(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Actions of float64 as float32, which halves the bytes and is exact for bounds of -1 and 1."""
    return values.astype(np.float32) if np.issubdtype(values.dtype, np.floating) else values


@contextmanager
def _failure_at(rewards: Sequence[float], seed: int) -> Iterator[None]:
    """What goes wrong inside is the failure of the episode of a seed after ``len(rewards)`` steps."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise EpisodeFailedError(
            f"step {len(rewards)} after reset(seed={seed}): {type(error).__name__}: {error}"
        ) from error
