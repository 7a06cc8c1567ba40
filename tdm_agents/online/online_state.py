"""What an online run consists of, in memory and on disk: weights, optimizers, replay memory, curve."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tdm_agents.data.mixture import windows_of
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import WrongValueError
from tdm_agents.online.curve import CURVE_FILE, Curve, begun
from tdm_agents.online.online_config import OBSERVERS, OnlineConfig
from tdm_agents.online.replay import PlayedEpisode, Replay
from tdm_agents.online.turns import Task
from tdm_agents.protocols import Batch, MixedBatch
from tdm_agents.spaces.images import image_columns
from tdm_agents.storage import CheckpointError
from tdm_agents.training import run_state
from tdm_agents.training.resuming import restore_run, settings_json

REPLAY_FOLDER = "replay"
MOST_UNSAVED = 20_000
"""Decisions and updates after which a checkpoint is made, whatever the settings say."""


@dataclass(slots=True)
class Counts:
    """What a run has done so far.

    Attributes:
        env_steps: Environment steps.
        decisions: Decisions, those of all environments together.
        updates: Updates of the model.
        episodes: Episodes.
        given: Decisions of the data that it began with.
        of_task: Decisions of each environment, by name.
    """

    env_steps: int = 0
    decisions: int = 0
    updates: int = 0
    episodes: int = 0
    given: int = 0
    of_task: dict[str, int] = field(default_factory=dict)


class OnlineState:
    """The state of a run; it is whole between two rounds of episodes, and only then saved.

    Args:
        model: The model, before its first update.
        config: Settings of the run.
        folder: Folder of the run.
        tasks: The environments.
        data: Episodes that a new run begins with, by environment.

    Raises:
        ValueError: If the run in ``folder`` has other settings, or the replay memory is too small.
        CheckpointError: If the checkpoint in ``folder`` was altered or belongs to another model.

    Attributes:
        model: The model.
        optimizers: Its optimizers.
        replays: The replay memory of each environment, by name.
        curve: The curve.
        counts: What has been done.
        resumed: Whether it goes on with a run that was in the folder.
    """

    def __init__(
        self,
        model: Any,
        config: OnlineConfig,
        folder: Path,
        *,
        tasks: Sequence[Task],
        data: Mapping[str, Trajectories],
    ) -> None:
        self.model, self.config, self.folder = model, config, folder
        self.optimizers = model.optimizers(config.update)
        self.counts, self.curve = Counts(), Curve()
        self.resumed = run_state.exists(folder)
        self._saved = 0  # decisions and updates at the last checkpoint
        # other settings are refused by name, before the sizes of a memory that follow from them are
        found = None
        if self.resumed:
            found = restore_run(folder, model, self.optimizers, config, observers=OBSERVERS)
        elif begun(folder):
            raise CheckpointError(
                f"{folder / CURVE_FILE} is of a run whose checkpoint is missing: restore the folder, or "
                "choose another one"
            )
        self._tasks = tasks
        self.replays = {
            task.name: self._memory(
                task,
                number if len(tasks) > 1 else None,
                given=data[task.name].num_decisions if task.name in data else 0,
            )
            for number, task in enumerate(tasks)
        }
        if found is not None:
            self._restore(found)
            return
        for name, trajectories in data.items():
            self.replays[name].add(
                [
                    PlayedEpisode(e.observation, e.action[:-1], e.reward[1:], not e.alive[-1])
                    for e in trajectories.iterate()
                ]
            )
        self.counts.given = sum(replay.decisions for replay in self.replays.values())
        self.save()

    def _memory(self, task: Task, number: int | None, *, given: int) -> Replay:
        config, longest = self.config, task.longest
        capacity = int(config.buffer_size * task.share)
        round_entries = config.envs * (longest + 1)
        if round_entries > capacity:
            of = f" ({capacity:,} for {task.name})" if number is not None else ""
            raise WrongValueError(
                f"buffer_size is {config.buffer_size:,}{of}, and {config.envs} episodes of at most "
                f"{longest:,} decisions need {round_entries:,}: raise it (--buffer-size), or cut episodes "
                "earlier (--max-steps)"
            )
        # an episode has at most twice as many entries as decisions; not a function of the settings that may
        # change when a run goes on
        slack = 2 * (config.envs * longest + MOST_UNSAVED)
        decisions = int(config.steps * task.share) // task.spec.action_repeat + given
        folder = self.folder / REPLAY_FOLDER
        folder = folder if number is None else folder / str(number)
        refuse_full_disk(folder, task, min(capacity + slack, decisions + decisions // 10))
        return Replay(
            folder,
            task.spec,
            capacity=capacity,
            slack=slack,
            fresh=not self.resumed,
        )

    def batch(self, rng: np.random.Generator) -> Batch | MixedBatch:
        """The windows of an update: of the one environment, or of each its share."""
        config = self.config
        if len(self.replays) == 1:
            (replay,) = self.replays.values()
            return replay.batch(rng, config.batch_size, config.window_steps)
        shares = {task.name: task.share for task in self._tasks if self.replays[task.name].episodes}
        total = sum(shares.values())
        counts = windows_of({name: share / total for name, share in shares.items()}, config.batch_size, rng)
        return MixedBatch(
            {
                name: self.replays[name].batch(rng, count, config.window_steps)
                for name, count in counts.items()
                if count
            }
        )

    def save(self) -> None:
        """Write a checkpoint."""
        self.curve.write(self.folder)
        progress = {
            "counts": asdict(self.counts),
            "replay": self._records(),
            "curve": self.curve.record(),
        }
        state = run_state.RunState(
            step=self.counts.updates,
            weights=self.model.state_dict(),
            optimizers=run_state.optimizer_state(self.model, self.optimizers),
            settings=settings_json(self.config),
            progress=progress,
        )
        run_state.save(self.folder, state)
        self._saved = self._done()

    def _records(self) -> dict[str, Any]:
        records = {name: replay.record() for name, replay in self.replays.items()}
        return records if len(records) > 1 else next(iter(records.values()))

    def save_if_due(self) -> None:
        """Write a checkpoint if enough has happened since the last one."""
        if self._done() - self._saved >= min(self.config.checkpoint_every, MOST_UNSAVED):
            self.save()

    def _done(self) -> int:
        return self.counts.decisions + self.counts.updates

    def _restore(self, found: run_state.RunState) -> None:
        try:
            self.counts = Counts(**found.progress["counts"])
            records = found.progress["replay"]
            for name, replay in self.replays.items():
                replay.restore(records[name] if len(self.replays) > 1 else records)
            self.curve.restore(self.folder, found.progress["curve"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"the checkpoint in {self.folder} is not of tdm online ({error}); choose another folder"
            ) from error
        self._saved = self._done()


def refuse_full_disk(folder: Path, task: Task, entries: int) -> None:
    """Refuse a replay memory for which the disk has no room: its arrays fill up while the run goes on.

    Args:
        folder: Of the memory, which may hold some of it already.
        task: The environment.
        entries: How many the run may keep.

    Raises:
        ValueError: If they need more than is free.
    """
    pixels = int(image_columns(task.spec.observation_space, task.spec.observation_dim).sum())
    needed = entries * (4 * (task.spec.observation_dim - pixels) + pixels + 8 * task.spec.action_dim + 4)
    there = sum(file.stat().st_blocks * 512 for file in folder.glob("*"))  # of files with holes
    run = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(run).free
    if needed - there > free:
        raise WrongValueError(
            f"the replay memory of {task.name} may grow by {(needed - there) / 2**30:.1f} GiB, and {run} has "
            f"{free / 2**30:.1f} GiB left: lower --buffer-size, --steps or the size of images, or choose "
            "another --out"
        )


def saved_steps(folder: Path) -> int:
    """Environment steps of the last checkpoint."""
    return int(run_state.load(folder).progress["counts"]["env_steps"])
