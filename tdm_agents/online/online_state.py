"""What an online run consists of, in memory and on disk: weights, optimizers, replay memory, curve."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import WrongValueError
from tdm_agents.json_text import plain_number
from tdm_agents.online.curve import Curve
from tdm_agents.online.online_config import OBSERVERS, OnlineConfig
from tdm_agents.online.replay import PlayedEpisode, Replay
from tdm_agents.storage import CheckpointError
from tdm_agents.training import run_state

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
    """

    env_steps: int = 0
    decisions: int = 0
    updates: int = 0
    episodes: int = 0
    given: int = 0


class OnlineState:
    """The state of a run; it is whole between two rounds of episodes, and only then saved.

    Args:
        model: The model, before its first update.
        config: Settings of the run.
        folder: Folder of the run.
        longest: Decisions of the longest episode there may be.
        data: Episodes that a new run begins with.

    Raises:
        ValueError: If the run in ``folder`` has other settings, or the replay memory is too small.
        CheckpointError: If the checkpoint in ``folder`` was altered or belongs to another model.

    Attributes:
        model: The model.
        optimizers: Its optimizers.
        replay: The replay memory.
        curve: The curve.
        counts: What has been done.
        resumed: Whether it goes on with a run that was in the folder.
    """

    def __init__(
        self, model: Any, config: OnlineConfig, folder: Path, *, longest: int, data: Trajectories | None
    ) -> None:
        self.model, self.config, self.folder = model, config, folder
        self.optimizers = model.optimizers(config.update)
        self.counts, self.curve = Counts(), Curve()
        self.resumed = run_state.exists(folder)
        self._saved = 0  # decisions and updates at the last checkpoint
        round_entries = config.envs * (longest + 1)
        if round_entries > config.buffer_size:
            raise WrongValueError(
                f"buffer_size is {config.buffer_size:,}, and {config.envs} episodes of at most "
                f"{longest:,} decisions need {round_entries:,}: raise it (--buffer-size), or cut episodes "
                "earlier (--max-steps)"
            )
        self.replay = Replay(
            folder / REPLAY_FOLDER,
            model.environment(None).spec,
            capacity=config.buffer_size,
            # an episode has at most twice as many entries as decisions; not a function of the settings
            # that may change when a run goes on
            slack=2 * (config.envs * longest + MOST_UNSAVED),
            fresh=not self.resumed,
        )
        if self.resumed:
            self._restore()
            return
        if data is not None:
            self.replay.add(
                [
                    PlayedEpisode(e.observation, e.action[:-1], e.reward[1:], not e.alive[-1])
                    for e in data.iterate()
                ]
            )
            self.counts.given = self.replay.decisions
        self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        self.curve.write(self.folder)
        progress = {
            "counts": asdict(self.counts),
            "replay": self.replay.record(),
            "curve": self.curve.record(),
        }
        state = run_state.RunState(
            step=self.counts.updates,
            weights=self.model.state_dict(),
            optimizers=run_state.optimizer_state(self.model, self.optimizers),
            settings=_settings(self.config),
            progress=progress,
        )
        run_state.save(self.folder, state)
        self._saved = self._done()

    def save_if_due(self) -> None:
        """Write a checkpoint if enough has happened since the last one."""
        if self._done() - self._saved >= min(self.config.checkpoint_every, MOST_UNSAVED):
            self.save()

    def _done(self) -> int:
        return self.counts.decisions + self.counts.updates

    def _restore(self) -> None:
        found = run_state.load(self.folder)
        for name, value in _settings(self.config).items():
            if name not in OBSERVERS and found.settings.get(name) != value:
                raise WrongValueError(
                    f"the run in {self.folder} has {name}={found.settings.get(name)!r}, now it is {value!r}: "
                    "go on with its own settings, or begin in another folder"
                )
        try:
            self.model.load_state_dict(found.weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.folder} holds a run of another model: {error}; choose another folder"
            ) from error
        run_state.restore_optimizers(self.model, self.optimizers, found.optimizers)
        try:
            self.counts = Counts(**found.progress["counts"])
            self.replay.restore(found.progress["replay"])
            self.curve.restore(self.folder, found.progress["curve"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"the checkpoint in {self.folder} is not of tdm online ({error}); choose another folder"
            ) from error
        self._saved = self._done()


def saved_steps(folder: Path) -> int:
    """Environment steps of the last checkpoint."""
    return int(run_state.load(folder).progress["counts"]["env_steps"])


def _settings(config: OnlineConfig) -> dict[str, Any]:
    # through JSON and back: what is written is what is compared
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config), default=plain_number))
    return settings
