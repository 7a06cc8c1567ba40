"""Trainings of policies as the tasks of a pool, one per environment; a training is a function of its task.

Stable-Baselines3 cannot go on in the middle of a training. One whose worker died, or that was interrupted,
begins again; one that is finished is not done again.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tdm_agents.errors import PathMissingError
from tdm_agents.experts.recorded_training import MEDIUM, POLICIES, REPLAY
from tdm_agents.experts.reinforcement import BEST_FILE, RECORD_FILE, Evaluated, Training, settings_of, train
from tdm_agents.storage import read_json


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A policy to be trained.

    Attributes:
        training: What to train, and for how long.
        folder: Folder of the policy.
        out: Folder of the command, which is there.
        threads: Threads of torch.
    """

    training: Training
    folder: Path
    out: Path
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.training.algorithm} in {self.training.env}"


@dataclass(frozen=True, slots=True)
class Trained:
    """A policy that was trained, now or before."""

    job: TrainingJob
    found: list[Evaluated]


def train_job(job: TrainingJob, watch: Callable[[Evaluated], None] | None = None) -> Trained:
    """Train a policy, unless that is done.

    Args:
        job: The training.
        watch: Called after every evaluation.

    Raises:
        FileExistsError: If the folder holds another policy.
        FileNotFoundError: If this machine does not see the command's folder.
        ValueError: If the algorithm cannot act in the environment.
    """
    if not job.out.is_dir():
        raise PathMissingError(
            f"{platform.node()} does not see {job.out.absolute()}; choose a folder that all machines share, "
            "under the same path"
        )
    record = job.folder / RECORD_FILE
    if record.exists():
        there = read_json(record, schema=1)
        if there.get("training") == settings_of(job.training):
            if there.get("finished"):
                return Trained(job, [Evaluated(**one) for one in there["evaluations"]])
            _forget(job)
    torch.set_num_threads(job.threads)
    return Trained(job, train(job.training, job.folder, watch=watch))


def _forget(job: TrainingJob) -> None:
    """Remove what an interrupted training of the same policy left."""
    for events in job.folder.glob(f"{job.training.algorithm}_*"):
        shutil.rmtree(events)
    for name in (POLICIES, REPLAY, f"{MEDIUM}-{REPLAY}"):
        shutil.rmtree(job.folder / name, ignore_errors=True)
    (job.folder / BEST_FILE).unlink(missing_ok=True)
    (job.folder / RECORD_FILE).unlink()
