"""Reading of batches by other processes, so that a GPU does not wait for the next one.

A batch is a function of its number alone, and so is the noise in it: whoever reads it reads the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from tdm_agents.protocols import Prepares
from tdm_agents.training.team import LostProcessError
from tdm_agents.training.train_config import TrainConfig, noise_seed

AHEAD = 4
"""Batches that each process has ready."""


class Reader(Dataset[Any]):
    """The batches of a sampler, by index, as a model learns from them.

    Args:
        sampler: A sampler of training batches.
        model: The model; one that :class:`~tdm_agents.protocols.Prepares` its batches does so on the CPU.
        seed: Seed of the noise.
    """

    def __init__(self, sampler: Any, model: Any, seed: int) -> None:
        self._sampler = sampler
        self._preparation = model.preparation.on_cpu() if isinstance(model, Prepares) else None
        self._seed = seed

    def __getitem__(self, index: int) -> Any:
        batch = self._sampler.batch(index)
        if self._preparation is None:
            return batch
        generator = torch.Generator("cpu").manual_seed(noise_seed(self._seed, index))
        return self._preparation(batch, generator=generator)


class ReadingAhead:
    """Batches in their order, read by other processes.

    Args:
        reader: The batches.
        steps: Those that will be asked for, in this order.
        processes: How many read.
    """

    def __init__(self, reader: Reader, steps: range, processes: int) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # more than cores: as asked for
            loader: DataLoader[Any] = DataLoader(
                reader,
                batch_size=None,
                sampler=steps,
                num_workers=processes,
                prefetch_factor=AHEAD,
                collate_fn=_as_it_is,
            )
            self._batches: Iterator[Any] = iter(loader)
        self._steps = iter(steps)

    def __getitem__(self, index: int) -> Any:
        """The next batch.

        Raises:
            ValueError: If another one is asked for.
            LostProcessError: If a process that reads has ended.
        """
        if (step := next(self._steps)) != index:
            raise ValueError(f"batch {index} was asked for, and {step} is next")
        try:
            return next(self._batches)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise LostProcessError(
                f"a process that reads batches has ended ({' '.join(str(error).split())[:200]}); memory may "
                "have run out: ask for fewer --readers, and run the same command to go on"
            ) from error


def batches(sampler: Any, model: Any, config: TrainConfig, steps: range, device: torch.device) -> Any:
    """What an update learns from, by its index, where batches are not divided.

    Args:
        sampler: A sampler of training batches.
        model: The model.
        config: Settings of the run.
        steps: The updates to come.
        device: Where the model is.
    """
    if device.type == "cpu" and not config.readers:
        return None  # the model prepares them where they are
    reader = Reader(sampler, model, config.seed)
    return ReadingAhead(reader, steps, config.readers) if config.readers and steps else reader


def _as_it_is(batch: Any) -> Any:
    return batch
