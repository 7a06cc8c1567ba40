"""The work of a worker process: play an episode and write it to a file of its own."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tdm_agents.actors.behaviour import BehaviourPolicy
from tdm_agents.collection.collection_check import SETTINGS_FILE
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.episode import EpisodeFailedError, play
from tdm_agents.collection.shard_store import ShardStore
from tdm_agents.collection.shards import read_shard_info, shard_path, write_shard
from tdm_agents.collection.storable import check_storable
from tdm_agents.data.minari_io import DataError
from tdm_agents.environments import Env, EnvRef
from tdm_agents.json_text import parse_json

MAX_ATTEMPTS = 3
"""Number of times that an episode may fail before the collection stops."""


@dataclass(frozen=True, slots=True)
class Job:
    """An episode to be played.

    Attributes:
        dataset: The data set that it belongs to.
        policy: The policy that plays it.
        index: Index of the episode among those of its policy.
        shards: Folder of its file.
        store: Where a worker puts the file, if it does not see that folder.
    """

    dataset: DatasetSpec
    policy: BehaviourPolicy
    index: int
    shards: Path
    store: ShardStore | None = None

    @property
    def path(self) -> Path:
        """Path of its file."""
        return shard_path(self.shards, self.policy.name, self.index)

    def __str__(self) -> str:
        return f"episode {self.index} of {self.policy.name!r} in {self.dataset}"


@dataclass(frozen=True, slots=True)
class EpisodeDone:
    """The news of a finished episode, for whoever watches a collection.

    Attributes:
        environment: Name of the data set.
        policy: Name of the policy.
        index: Index of the episode among those of its policy.
        env_steps: Environment steps that it lasted.
        episode_return: Sum of its rewards.
        failures: Reasons why earlier attempts at it failed.
        played: Whether it was played now; False where it was found on disk.
    """

    environment: str
    policy: str
    index: int
    env_steps: int
    episode_return: float
    failures: tuple[str, ...]
    played: bool


def one_thread() -> None:
    """Initialise a worker: with as many processes as cores, each must compute with one thread."""
    torch.set_num_threads(1)


def play_job(job: Job) -> EpisodeDone:
    """Play an episode and write its file; one that fails is replaced by another draw of it.

    Raises:
        DataError: If the episode failed :data:`MAX_ATTEMPTS` times, its file cannot be written, or this
            machine does not see its folder.
    """
    if job.store is None:
        check_seen(job.shards)
    failures: list[str] = []
    while len(failures) < MAX_ATTEMPTS:
        try:
            episode = play(_env(job.dataset), job.dataset, job.policy, job.index, attempt=len(failures))
        except EpisodeFailedError as error:
            failures.append(str(error))
            _envs.clear()  # what failed may be broken
            continue
        if failures:
            episode = replace(episode, metadata={**episode.metadata, "failures": json.dumps(failures)})
        if job.store is None:
            write_shard(job.path, episode)
            return found(job, played=True)
        with TemporaryDirectory() as folder:
            path = Path(folder) / job.path.name
            write_shard(path, episode)
            job.store.put(path)
            return found(replace(job, shards=Path(folder)), played=True)
    raise DataError(
        f"{job} failed {len(failures)} times, the last time at {failures[-1]}; finished episodes are kept: "
        f"repair the environment, or leave it out and remove {job.shards.parent}"
    )


def check_seen(shards: Path) -> None:
    """Refuse to work on a machine that does not see the folder of the episodes.

    Raises:
        DataError: If the settings that the collection wrote there are not to be seen.
    """
    if not (shards / SETTINGS_FILE).exists():
        raise DataError(
            f"{platform.node()} does not see {shards.absolute()}, where the episodes are kept; choose a "
            "folder that all machines share, under the same path, or keep them at a URL (--shards)"
        )


def found(job: Job, *, played: bool) -> EpisodeDone:
    """The news of an episode whose file is there.

    Raises:
        DataError: If the file was damaged in the meantime.
    """
    info = read_shard_info(job.path)
    return EpisodeDone(
        environment=job.dataset.name,
        policy=job.policy.name,
        index=job.index,
        env_steps=info.env_steps,
        episode_return=info.episode_return,
        failures=tuple(map(str, parse_json(info.metadata.get("failures", "[]"), str(job.path)))),
        played=played,
    )


MAX_ENVS = 4
_envs: dict[EnvRef, Env] = {}
"""The last environments of a worker process, kept because a reset with a seed forgets the episode before."""


def _env(dataset: DatasetSpec) -> Env:
    if dataset.env not in _envs:
        if len(_envs) == MAX_ENVS:
            _envs.pop(next(iter(_envs))).close()
        made = dataset.make_env()
        try:
            check_storable(made)  # before an episode is played for nothing
        except BaseException:
            made.close()
            raise
        _envs[dataset.env] = made
    return _envs[dataset.env]
