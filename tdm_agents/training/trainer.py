"""The training loop: a model that updates itself, and a sampler of batches.

The whole state of a run is (weights, state of the optimizers, step). The windows that are read and the noise
in the loss are functions of (seed, step). So a run that was killed goes on, on a CPU with the same number of
threads, to the same bits as one that was not.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import TDMError, WrongTypeError, WrongValueError
from tdm_agents.protocols import Batch, MixedBatch, NotFiniteError, TrainableModel
from tdm_agents.remarks import remarks
from tdm_agents.storage import locked
from tdm_agents.training import run_state
from tdm_agents.training.held_out import Evaluator
from tdm_agents.training.process import interrupts, threads
from tdm_agents.training.progress import TrainingProgress
from tdm_agents.training.resuming import restore_run, settings_json
from tdm_agents.training.train_config import OBSERVERS, TrainConfig, noise_seed
from tdm_agents.world_models.learned import check_finite


class TrainingError(TDMError, RuntimeError):
    """Training cannot go on; the message says at which step, why, and where it can go on from."""


class Sampler(Protocol):
    """Batches as a pure function of their index."""

    def batch(self, index: int) -> Batch | MixedBatch:
        """The batch of the update that follows ``index`` updates."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class TrainResult:
    """Outcome of a run.

    Attributes:
        step: Number of updates made in all.
        interrupted: Whether Ctrl-C (or SIGTERM) ended it before its last step.
        metrics: The last evaluation: ``held_out/<name>`` and ``prediction/<name>``; empty if there was none.
        seconds: Wall-clock time of this process in the loop, evaluation included.
    """

    step: int
    interrupted: bool
    metrics: Mapping[str, float]
    seconds: float


def train(
    model: TrainableModel,
    train_sampler: Sampler,
    held_out: Trajectories | Mapping[str, Trajectories] | None,
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = True,
    held: bool = False,
    console: Console | None = None,
) -> TrainResult:
    """Train ``model`` in place and save it in ``folder``.

    ``folder`` gets ``model.json`` and ``weights.safetensors`` at the end and on an interruption, checkpoints
    to go on from, and TensorBoard's event files. The first checkpoint holds the initial weights.

    Args:
        model: The model, on the device to train on, with its normaliser or tokenizer fitted.
        train_sampler: Training batches; ``batch(step)`` is the data of the update after ``step`` updates.
        held_out: Episodes for evaluation, by environment where the model has several; None evaluates
            nothing.
        config: Settings of the run.
        folder: Folder of the run.
        resume: Whether to go on with a run in ``folder``; if False, a run there is an error.
        held: Whether the caller already holds :func:`tdm_agents.storage.locked` on ``folder``.
        console: Where to show progress; by default that of :func:`tdm_agents.remarks.remarks`.

    Raises:
        TypeError: If ``model`` is not an ``nn.Module``.
        TrainingError: If a loss or gradient is not finite. The last checkpoint is from before it.
        ValueError: If the run in ``folder`` has other settings, or there is one and ``resume`` is False.
        CheckpointError: If the checkpoint in ``folder`` was altered or belongs to another model.
        FolderInUseError: If another process writes to ``folder``.
    """
    if not isinstance(model, nn.Module):
        raise WrongTypeError(f"only an nn.Module can be trained; got {type(model).__name__}")
    folder = Path(folder)
    console = console if console is not None else remarks()
    evaluator = None if held_out is None else Evaluator(held_out, config)
    lock = nullcontext() if held else locked(folder)
    with lock, threads(config.threads), interrupts() as interrupted:
        run = _Run(model, config, folder)
        run.begin(resume=resume)
        if run.step:
            console.print(f"going on from step {run.step} of {config.steps} in {folder}", soft_wrap=True)
        return run.loop(train_sampler, evaluator, console, interrupted)


class _Run:
    """The state of a run in memory, and its reading and writing."""

    def __init__(self, model: Any, config: TrainConfig, folder: Path) -> None:
        self.model = model
        self.config = config
        self.folder = folder
        self.step = 0
        self.saved: int | None = None
        self.optimizers = model.optimizers(config)

    def begin(self, *, resume: bool) -> None:
        """Go on with the run in the folder, or make its first checkpoint."""
        if not run_state.exists(self.folder):
            self.save()
            return
        if not resume:
            raise WrongValueError(f"{self.folder} holds a run already; resume it, or choose another folder")
        found = restore_run(self.folder, self.model, self.optimizers, self.config, observers=OBSERVERS)
        self.step = self.saved = found.step

    def save(self) -> None:
        """Write a checkpoint, unless this step has one."""
        if self.saved == self.step:
            return
        state = run_state.RunState(
            step=self.step,
            weights=self.model.state_dict(),
            optimizers=run_state.optimizer_state(self.model, self.optimizers),
            settings=settings_json(self.config),
        )
        run_state.save(self.folder, state)
        self.saved = self.step

    def update(self, sampler: Sampler) -> Mapping[str, float]:
        """Make one update; return the loss and the model's other metrics."""
        config, device = self.config, next(self.model.parameters()).device
        generator = torch.Generator(device=device).manual_seed(noise_seed(config.seed, self.step))
        batch = sampler.batch(self.step).to(device)
        try:
            numbers: Mapping[str, float] = self.model.update(
                batch, self.optimizers, step=self.step, settings=config, generator=generator
            )
            check_finite(numbers)
        except NotFiniteError as error:
            raise TrainingError(
                f"{error} at step {self.step}; the checkpoint of step {self.saved} in {self.folder} is from "
                "before. Lower learning_rate, turn bf16 off, or look for broken data; then train into "
                "another "
                "folder"
            ) from error
        self.step += 1
        return numbers

    def loop(
        self,
        sampler: Sampler,
        evaluator: Evaluator | None,
        console: Console,
        interrupted: threading.Event,
    ) -> TrainResult:
        """Update until the last step or an interruption."""
        config, began = self.config, time.monotonic()
        metrics: dict[str, float] = {}
        self.model.train()
        with (
            SummaryWriter(str(self.folder), purge_step=self.step) as board,
            TrainingProgress(console, config.steps, self.step) as progress,
        ):
            while self.step < config.steps and not interrupted.is_set():
                numbers = self.update(sampler)
                progress.update(self.step, numbers["loss"])
                last = self.step == config.steps
                if self.step % config.log_every == 0 or last:
                    _write(board, {f"train/{name}": value for name, value in numbers.items()}, self.step)
                if self.step % config.checkpoint_every == 0 or last:
                    self.save()
                if evaluator is not None and self.step % config.evaluate_every == 0 and not last:
                    metrics = evaluator(self.model)
                    _write(board, metrics, self.step)
                    progress.evaluated(self.step, metrics)
            if evaluator is not None and self.step == config.steps:  # even if nothing else was left to do
                metrics = evaluator(self.model)
                _write(board, metrics, self.step)
                progress.evaluated(self.step, metrics)
        self.save()
        self.model.eval()
        self.model.save(self.folder)
        stopped = self.step < config.steps
        if stopped:
            console.print(
                f"interrupted; step {self.step} of {config.steps} is saved in {self.folder}: "
                "run the same command to go on",
                soft_wrap=True,
            )
        return TrainResult(self.step, stopped, metrics, time.monotonic() - began)


def _write(board: SummaryWriter, numbers: Mapping[str, float], step: int) -> None:
    for name, value in numbers.items():
        board.add_scalar(name, value, step)
