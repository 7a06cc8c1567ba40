"""Worker processes that play episodes and write each to a file of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from tdm_agents.data.minari_io import DataError, FlatEpisode
from tdm_agents.data.play import make_env, play
from tdm_agents.data.policies import BehaviourPolicy
from tdm_agents.data.shards import shard_path, write_shard

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class EpisodeDone:
    """Told to whoever watches a collection.

    Attributes:
        policy: Name of the policy.
        index: Of the episode among those of its policy.
        env_steps: That it lasted.
        episode_return: Sum of its rewards.
        played: False where it was found on disk.
    """

    policy: str
    index: int
    env_steps: int
    episode_return: float
    played: bool


@dataclass(frozen=True, slots=True)
class Job:
    """An episode to be played, and the folder that it goes to; see :func:`tdm_agents.data.play.play`."""

    env_id: str
    policy: BehaviourPolicy
    index: int
    action_repeat: int
    seed: int
    max_steps: int | None
    folder: Path

    @property
    def path(self) -> Path:
        """The file that it becomes."""
        return shard_path(self.folder, self.policy.name, self.index)


def play_all(jobs: Sequence[Job], workers: int) -> Generator[EpisodeDone, None, None]:
    """Play the jobs in worker processes; each is told when its file is written, in any order.

    Closing the generator ends the workers at their next decision.

    Args:
        jobs: Episodes that are missing.
        workers: Processes, one thread each.

    Raises:
        DataError: If a worker was killed.
    """
    if not jobs:
        return
    # spawn, not fork: MuJoCo and torch hold threads
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    executor = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=_start_worker, initargs=(stop,)
    )
    try:
        with _worker_surroundings():
            futures = [executor.submit(_work, job) for job in jobs]  # starts the processes
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was killed, perhaps for its memory; finished episodes are kept: "
            "run the same command again, with fewer workers"
        ) from error
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


@contextmanager
def _worker_surroundings() -> Iterator[None]:
    """What processes started inside inherit: one thread each, and deafness to Ctrl-C, which the parent hears.

    Both must hold before a child's first import, so an initialiser would come too late.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    main_thread = threading.current_thread() is threading.main_thread()  # others cannot set handlers
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN) if main_thread else None
    try:
        yield
    finally:
        if main_thread:
            signal.signal(signal.SIGINT, heard)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_stop: Event | None = None
_envs: dict[str, gym.Env[Any, Any]] = {}
"""One environment a worker process, kept between its episodes; a reset with a seed forgets the last one."""


def _start_worker(stop: Event) -> None:
    global _stop
    _stop = stop
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers, and they would wait for their next job for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(job: Job) -> EpisodeDone:
    assert _stop is not None
    if job.env_id not in _envs:
        _envs[job.env_id] = make_env(job.env_id)
    episode = play(
        _envs[job.env_id],
        job.policy,
        job.index,
        env_id=job.env_id,
        action_repeat=job.action_repeat,
        seed=job.seed,
        max_steps=job.max_steps,
        stop=_stop.is_set,
    )
    write_shard(job.path, episode)
    return told(job, episode, played=True)


def told(job: Job, episode: FlatEpisode, *, played: bool) -> EpisodeDone:
    """The news of an episode."""
    total = float(episode.reward.sum(dtype=np.float64))
    return EpisodeDone(job.policy.name, job.index, len(episode.reward), total, played)
