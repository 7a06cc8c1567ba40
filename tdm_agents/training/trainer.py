"""The training loop: a model that updates itself, and a sampler of batches.

The whole state of a run is (weights, state of the optimizers, step). The windows that are read and the noise
in the loss are functions of (seed, step). So a run that was killed goes on, on a CPU with the same number of
threads and processes, to the same bits as one that was not.

Several processes (:mod:`tdm_agents.training.team`) make the updates of one: each reads some windows of every
batch.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import TDMError, WrongTypeError, WrongValueError
from tdm_agents.protocols import NotFiniteError, TrainableModel
from tdm_agents.remarks import remarks
from tdm_agents.storage import locked
from tdm_agents.training import run_state
from tdm_agents.training.dividing import DividingSampler, Sampler, check_dividing, read_batch
from tdm_agents.training.held_out import Evaluator
from tdm_agents.training.process import interrupts, threads
from tdm_agents.training.progress import TrainingProgress
from tdm_agents.training.reading_ahead import batches
from tdm_agents.training.resuming import PROCESSES, check_processes, restore_run, settings_json
from tdm_agents.training.team import ALONE, Team
from tdm_agents.training.train_config import OBSERVERS, TrainConfig, noise_seed
from tdm_agents.world_models.learned import check_finite
from tdm_agents.world_models.sharded_weights import sharded, whole


class TrainingError(TDMError, RuntimeError):
    """Training cannot go on; the message says at which step, why, and where it can go on from."""


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
    train_sampler: Sampler | DividingSampler,
    held_out: Trajectories | Mapping[str, Trajectories] | None,
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = True,
    held: bool = False,
    console: Console | None = None,
    team: Team = ALONE,
    any_processes: bool = False,
    shard: bool = False,
) -> TrainResult:
    """Train ``model`` in place and save it in ``folder``.

    ``folder`` gets ``model.json`` and ``weights.safetensors`` at the end and on an interruption, checkpoints
    to go on from, and TensorBoard's event files. The first checkpoint holds the initial weights.

    Args:
        model: The model, on the device to train on, with its normaliser or tokenizer fitted.
        train_sampler: Training batches; ``batch(step)`` is the data of the update after ``step`` updates. For
            several processes or ``accumulate`` a :class:`DividingSampler`, whose batches are ``accumulate``
            times ``batch_size`` windows.
        held_out: Episodes for evaluation, by environment where the model has several; None evaluates
            nothing.
        config: Settings of the run.
        folder: Folder of the run.
        resume: Whether to go on with a run in ``folder``; if False, a run there is an error.
        held: Whether the caller already holds :func:`tdm_agents.storage.locked` on ``folder``.
        console: Where to show progress; by default that of :func:`tdm_agents.remarks.remarks`.
        team: The processes that train together; each calls this with a model of its own, whose weights become
            those of the first's, and with the same folder.
        any_processes: Whether a run goes on that another number of processes began, which rounds otherwise.
        shard: Whether the processes divide the weights. The first has the whole as well, to evaluate and to
            save it; elsewhere ``model`` has no weights any more.

    Raises:
        TypeError: If ``model`` is not an ``nn.Module``.
        TrainingError: If a loss or gradient is not finite. The last checkpoint is from before it.
        ValueError: If the run in ``folder`` has other settings, or there is one and ``resume`` is False; or
            the model cannot learn from micro-batches, which several processes and ``accumulate`` need.
        LostProcessError: If another process of the team ended, or does not answer.
        CheckpointError: If the checkpoint in ``folder`` was altered or belongs to another model.
        FolderInUseError: If another process writes to ``folder``.
    """
    if not isinstance(model, nn.Module):
        raise WrongTypeError(f"only an nn.Module can be trained; got {type(model).__name__}")
    check_dividing(type(model), config, team.size, shard=shard)
    folder = Path(folder)
    console = console if console is not None else remarks()
    evaluator = None if held_out is None else Evaluator(held_out, config)
    lock = nullcontext() if held or not team.first else locked(folder)
    with lock, threads(config.threads), interrupts(once=team.size == 1) as interrupted:
        run = _Run(model, config, folder, team, shard=shard)
        run.begin(resume=resume, any_processes=any_processes)
        if run.step:
            console.print(f"going on from step {run.step} of {config.steps} in {folder}", soft_wrap=True)
        return run.loop(train_sampler, evaluator, console, interrupted)


class _Run:
    """The state of a run in memory, and its reading and writing."""

    def __init__(self, model: Any, config: TrainConfig, folder: Path, team: Team, *, shard: bool) -> None:
        if team.size > 1:
            state = model.state_dict()
            team.share(state)
            model.load_state_dict(state)  # a model may note that it has been fitted
        self.own = self.model = model
        if shard:
            device = next(model.parameters()).device
            self.model = sharded(copy.deepcopy(model), team.size, device.type)
            if not team.first:
                model.to("meta")  # which frees the memory
        self.shard = shard
        self.team = team
        self.config = config
        self.folder = folder
        self.step = 0
        self.saved: int | None = None
        self.optimizers = self.model.optimizers(config)
        self.ahead: Any = None  # batches that are read and prepared apart from the model

    def begin(self, *, resume: bool, any_processes: bool) -> None:
        """Go on with the run in the folder, or make its first checkpoint."""
        is_new = self.team.any(self.team.first and not run_state.exists(self.folder))
        if is_new:
            self.save()
        elif not resume:
            raise WrongValueError(f"{self.folder} holds a run already; resume it, or choose another folder")
        self.team.wait()
        if not self.team.agrees(run_state.pointer(self.folder)):
            raise WrongValueError(
                f"the {self.team.size} processes do not see the same files in {self.folder}; choose a folder "
                "that all machines share"
            )
        if is_new:
            return
        found = restore_run(self.folder, self.model, self.optimizers, self.config, observers=OBSERVERS)
        if not any_processes:
            check_processes(self.folder, found, self.team.size)
        self.step = self.saved = found.step

    def save(self) -> None:
        """Write a checkpoint, unless this step has one."""
        if self.saved == self.step:
            return
        state = self.state() if self.team.first or self.shard else None
        if state is not None and self.team.first:
            run_state.save(self.folder, state)
        self.saved = self.step

    def state(self) -> run_state.RunState:
        """What a checkpoint of the present step holds."""
        return run_state.RunState(
            step=self.step,
            weights=self.weights(),
            optimizers=run_state.optimizer_state(self.model, self.optimizers),
            settings=settings_json(self.config),
            progress={PROCESSES: self.team.size} if self.team.size > 1 else {},
        )

    def weights(self) -> dict[str, Tensor]:
        """The whole weights; where they are sharded, all processes ask for them at the same time."""
        return {name: whole(value) for name, value in self.model.state_dict().items()}

    def gathered(self) -> Any:
        """The model with all of its weights, in the first process; all ask for it at the same time."""
        if self.shard and (weights := self.weights()) and self.team.first:
            self.own.load_state_dict(weights)
        return self.own

    def update(self, sampler: Sampler | DividingSampler) -> Mapping[str, float]:
        """Make one update; return the loss and the model's other metrics."""
        config, device = self.config, next(self.model.parameters()).device
        generator = torch.Generator(device=device).manual_seed(noise_seed(config.seed, self.step))
        if self.ahead is not None:
            batch = self.ahead[self.step].to(device)
        else:
            batch = read_batch(sampler, self.model, config, self.team, step=self.step, device=device)
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
        sampler: Sampler | DividingSampler,
        evaluator: Evaluator | None,
        console: Console,
        interrupted: threading.Event,
    ) -> TrainResult:
        """Update until the last step or an interruption."""
        config, began = self.config, time.monotonic()
        metrics: dict[str, float] = {}

        def evaluate(evaluator: Evaluator) -> dict[str, float]:
            model = self.gathered()
            if not self.team.first:
                return {}
            found = evaluator(model)
            _write(board, found, self.step)
            progress.evaluated(self.step, found)
            return found

        self.model.train()
        if self.team.size * config.accumulate == 1:
            device = next(self.model.parameters()).device
            self.ahead = batches(sampler, self.own, config, range(self.step, config.steps), device)
        with ExitStack() as stack:
            board = None
            if self.team.first:
                board = stack.enter_context(SummaryWriter(str(self.folder), purge_step=self.step))
            progress = stack.enter_context(TrainingProgress(console, config.steps, self.step))
            while self.step < config.steps and not self.team.any(interrupted.is_set()):
                numbers = self.update(sampler)
                progress.update(self.step, numbers["loss"])
                last = self.step == config.steps
                if self.step % config.log_every == 0 or last:
                    _write(board, {f"train/{name}": value for name, value in numbers.items()}, self.step)
                if self.step % config.checkpoint_every == 0 or last:
                    self.save()
                if evaluator is not None and self.step % config.evaluate_every == 0 and not last:
                    metrics = evaluate(evaluator)
            if evaluator is not None and self.step == config.steps:  # even if nothing else was left to do
                metrics = evaluate(evaluator)
        self.save()
        model = self.gathered().eval()
        if self.team.first:
            model.save(self.folder)
        stopped = self.step < config.steps
        if stopped:
            console.print(
                f"interrupted; step {self.step} of {config.steps} is saved in {self.folder}: "
                "run the same command to go on",
                soft_wrap=True,
            )
        return TrainResult(self.step, stopped, metrics, time.monotonic() - began)


def _write(board: SummaryWriter | None, numbers: Mapping[str, float], step: int) -> None:
    if board is None:  # another process writes it
        return
    for name, value in numbers.items():
        board.add_scalar(name, value, step)
