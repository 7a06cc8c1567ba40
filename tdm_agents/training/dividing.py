"""Batches divided into micro-batches: over the processes of a team, and over the parts of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, Divides, MicroBatches, MixedBatch
from tdm_agents.training.team import Team
from tdm_agents.training.train_config import TrainConfig


class Sampler(Protocol):
    """Batches as a pure function of their index."""

    def batch(self, index: int) -> Batch | MixedBatch:
        """The batch of the update that follows ``index`` updates."""
        ...


class DividingSampler(Protocol):
    """A sampler that also reads one of the micro-batches that a batch is divided into, and nothing else."""

    def batch(self, index: int, *, part: int = 0, parts: int = 1) -> Batch | MixedBatch:
        """Micro-batch ``part`` of ``parts`` of the update that follows ``index`` updates."""
        ...


def check_dividing(kind: type[Any], config: TrainConfig, processes: int, *, shard: bool = False) -> None:
    """Refuse what several processes and ``accumulate`` cannot do.

    Args:
        kind: Class of the model.
        config: Settings of the run.
        processes: Number of processes.
        shard: Whether they divide the weights.

    Raises:
        ValueError: If the model does not learn from micro-batches or has no layers to be divided by, or there
            are more processes than windows.
    """
    if shard and (processes == 1 or not hasattr(kind, "layers")):
        raise WrongValueError(
            f"--shard divides the weights of transformers over several processes; here {processes} train a "
            f"{kind.__name__}: leave it out, or start more with torchrun"
        )
    if processes > config.batch_size:
        raise WrongValueError(
            f"--batch-size is {config.batch_size}, which {processes} processes share; expected at least one "
            "window for each: make it larger, or start fewer"
        )
    if (processes > 1 or config.accumulate > 1) and config.readers:
        raise WrongValueError(
            f"--readers is {config.readers}, and batches are divided over {processes} processes and "
            f"{config.accumulate} parts (--accumulate), which read their own: leave --readers out"
        )
    if (processes > 1 or config.accumulate > 1) and not issubclass(kind, Divides):
        raise WrongValueError(
            f"{kind.__name__} cannot learn from parts of a batch, which {processes} processes with "
            f"--accumulate {config.accumulate} ask for: train it in one process, without torchrun and "
            "--accumulate, or train a model that can (transformer, trajectory_transformer, step_transformer, "
            "generalist, step_generalist, mlp, mlp_policy, iql, pets)"
        )


def read_batch(
    sampler: Any, model: Any, config: TrainConfig, team: Team, *, step: int, device: torch.device
) -> Batch | MixedBatch | MicroBatches:
    """What this process reads of the batch of a step.

    Args:
        sampler: A :class:`Sampler`, or where batches are divided a :class:`DividingSampler`.
        model: The model, which says what counts.
        config: Settings of the run.
        team: The processes that share the batch.
        step: Number of updates made before.
        device: Where the batch goes.
    """
    each = config.accumulate
    if each == 1 and team.size == 1:
        batch: Batch | MixedBatch = sampler.batch(step)
        return batch.to(device)
    numbers = range(team.rank * each, (team.rank + 1) * each)
    parts = [sampler.batch(step, part=i, parts=team.size * each).to(device) for i in numbers]
    counts = team.sum(torch.stack([model.counts(part) for part in parts]).sum(0))
    return MicroBatches([replace(part, counts=counts) for part in parts], team)
