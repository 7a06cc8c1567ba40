"""Summary of a Minari data set: episodes, returns, actions at their bounds, ranges."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tdm_agents.data.minari_io import DataError, describe, episode_metadata, read_episodes
from tdm_agents.data.moments import moments
from tdm_agents.data.readable import read_metadata
from tdm_agents.environments import EnvRef
from tdm_agents.spaces.actions import ActionCodec
from tdm_agents.spaces.scalar_labels import scalar_labels

Float64Array = npt.NDArray[np.float64]
UNKNOWN_POLICY = "unknown"


@dataclass(frozen=True, slots=True)
class Ranges:
    """Statistics of each of ``n`` scalars over all transitions, in the environment's units.

    Attributes:
        low: ``[n]``, the smallest value.
        high: ``[n]``, the largest.
        mean: ``[n]``, the mean.
        std: ``[n]``, the standard deviation; 0 where a scalar never changes.
        names: What the scalars are called, see :func:`tdm_agents.spaces.scalar_labels.scalar_labels`.
    """

    low: Float64Array
    high: Float64Array
    mean: Float64Array
    std: Float64Array
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A data set in numbers.

    Attributes:
        path: Folder with ``metadata.json``.
        environment: Its id with its arguments, as reports name it; ``""`` where the data set does not say.
        bytes: Size on disk.
        steps: ``[E]``, environment steps of each episode.
        terminated: Number of episodes that terminated; the others were cut off.
        returns: Sums of rewards, one per episode, by the policy that the episode's metadata name
            (:data:`UNKNOWN_POLICY` where they name none).
        replaced: Number of episodes that are second or third attempts, because the first one failed.
        at_bounds: ``[m]``, share of the actions that lie exactly at a bound; None where the space is not a
            bounded ``Box``.
        observation: Ranges of the flat observation ``[n]``, without the one after the last action.
        action: Ranges of the actions ``[m]``.
    """

    path: Path
    environment: str
    bytes: int
    steps: npt.NDArray[np.int64]
    terminated: int
    returns: dict[str, Float64Array]
    replaced: int
    at_bounds: Float64Array | None
    observation: Ranges
    action: Ranges

    @property
    def transitions(self) -> int:
        """Environment steps of all episodes."""
        return int(self.steps.sum())

    @property
    def all_returns(self) -> Float64Array:
        """The returns ``[E]`` of all policies."""
        return np.concatenate(list(self.returns.values()))


def summarise(path: Path) -> Summary:
    """The summary of a data set, which is read once, one episode at a time.

    Args:
        path: Folder with ``metadata.json``, see :func:`tdm_agents.data.index.data_sets`.

    Raises:
        DataError: If it has no episodes, or is damaged.
        ValueError: If its observations are images.
    """
    info = describe(path)
    if not info.episodes:
        raise DataError(f"{path} has no episodes; collect some")
    if not read_metadata(path)["total_steps"]:
        raise DataError(f"{path} has {info.episodes} episodes without a single step; collect some")
    count = _Count(info.action_space)
    metadata = list(episode_metadata(info))
    policies = [str(about.get("policy", UNKNOWN_POLICY)) for about in metadata]
    dim = 0

    def rows() -> Iterator[npt.NDArray[Any]]:
        nonlocal dim
        for policy, episode in zip(policies, read_episodes(info), strict=True):
            dim = episode.observation.shape[1]
            action = episode.action.reshape(len(episode.action), math.prod(episode.action.shape[1:]))
            joint = np.concatenate([episode.observation[:-1], action], axis=1, dtype=np.float64)
            count.add(policy, episode.action, episode.reward, joint, terminated=episode.terminated)
            yield joint

    mean, std = moments(rows())
    low, high = count.low, count.high
    names = scalar_labels(info.observation_space, info.observation_names)
    return Summary(
        path=path,
        environment=str(EnvRef.of(info.env_id, info.env_kwargs)) if info.env_id else "",
        bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        steps=np.asarray(count.steps, np.int64),
        terminated=count.terminated,
        returns={policy: np.asarray(values) for policy, values in count.returns.items()},
        replaced=sum("failures" in about for about in metadata),
        at_bounds=None if count.codec is None else count.at_bounds / sum(count.steps),
        observation=Ranges(low[:dim], high[:dim], mean[:dim], std[:dim], names),
        action=Ranges(low[dim:], high[dim:], mean[dim:], std[dim:], tuple(map(str, range(len(low) - dim)))),
    )


class _Count:
    """Counts made while the episodes are read."""

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        box = isinstance(action_space, spaces.Box) and action_space.is_bounded()
        self.codec = ActionCodec(action_space) if box else None
        self.at_bounds = np.zeros(())
        self.steps: list[int] = []
        self.terminated = 0
        self.returns: defaultdict[str, list[float]] = defaultdict(list)
        self.low: Float64Array = np.asarray(np.inf)
        self.high: Float64Array = np.asarray(-np.inf)

    def add(
        self,
        policy: str,
        action: npt.NDArray[Any],
        reward: npt.NDArray[np.float32],
        joint: Float64Array,
        *,
        terminated: bool,
    ) -> None:
        self.steps.append(len(reward))
        self.terminated += terminated
        self.returns[policy].append(float(reward.sum(dtype=np.float64)))
        if not len(joint):  # an episode without a step
            return
        self.low = np.minimum(self.low, joint.min(0))
        self.high = np.maximum(self.high, joint.max(0))
        if self.codec is not None:
            self.at_bounds = self.at_bounds + (np.abs(self.codec.encode(action)) >= 1).sum(0)
