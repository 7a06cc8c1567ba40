"""The loop of online training: rounds of episodes, and updates of the model in between their decisions.

What a run does is a function of its seed and of its state after a whole round: weights, optimizers, replay
memory and counts. Every source of randomness is seeded by the number of the episode or of the update that
it is for. So a run that was killed goes on from its last checkpoint, on a CPU with the same number of
threads, to the same bits as one that was not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from tdm_agents.actors.actor import Actor
from tdm_agents.agent import TDMAgent
from tdm_agents.agent.agent_files import settings_of, write_settings
from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.env_checks import refuse_shared
from tdm_agents.environments import Env, EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.json_text import plain_number
from tdm_agents.online import acting
from tdm_agents.online.curve import Curve
from tdm_agents.online.online_config import OBSERVERS, OnlineConfig
from tdm_agents.online.online_progress import OnlineProgress
from tdm_agents.online.replay import PlayedEpisode, Replay
from tdm_agents.online.rounds import Played, play_round
from tdm_agents.protocols import Discounts, NotFiniteError, Planner, TrainableModel
from tdm_agents.storage import CheckpointError
from tdm_agents.training import run_state
from tdm_agents.training.process import interrupts, threads
from tdm_agents.training.train_config import noise_seed
from tdm_agents.training.trainer import TrainingError
from tdm_agents.world_models.learned import check_finite

REPLAY_FOLDER = "replay"


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


@dataclass(frozen=True, slots=True)
class OnlineResult:
    """Outcome of a run.

    Attributes:
        counts: What it has done in all.
        interrupted: Whether Ctrl-C (or SIGTERM) ended it before its last step.
        scores: Returns of the last evaluation.
    """

    counts: Counts
    interrupted: bool
    scores: tuple[float, ...]


class _Interrupted(Exception):  # noqa: N818  (an answer, not an error)
    """Ctrl-C, in the middle of a round."""


def train_online(
    model: TrainableModel,
    env: EnvRef,
    planner: Planner,
    config: OnlineConfig,
    folder: Path,
    *,
    data: Trajectories | None = None,
    trained: bool = False,
    console: Console | None = None,
) -> OnlineResult:
    """Train ``model`` in place on what its own agent does, and save that agent in ``folder``.

    The caller holds :func:`tdm_agents.storage.locked` on ``folder``, which gets checkpoints to go on from,
    the replay memory, ``curve.json``, TensorBoard's event files and, at every evaluation, the agent.

    Args:
        model: The model of the environment, before its first update, on the device to train on.
        env: The environment.
        planner: The planner; its discount becomes the model's, if the model has one.
        config: Settings of the run.
        folder: Folder of the run.
        data: Episodes of the environment that somebody else played, with which the replay memory begins.
        trained: Whether the model has been trained before, and acts from the first decision on.
        console: Where to show progress; by default standard error.

    Raises:
        TrainingError: If a loss or gradient is not finite. The last checkpoint is from before it.
        ValueError: If the run in ``folder`` has other settings, or an observation or reward cannot be used.
        CheckpointError: If the checkpoint in ``folder`` was altered or belongs to another model.
    """
    console = console if console is not None else Console(stderr=True)
    with ExitStack() as stack:
        envs: list[Env] = []
        for _ in range(config.envs):
            envs.append(env.make())
            stack.callback(envs[-1].close)
        refuse_shared(envs)
        stack.enter_context(threads(config.threads))
        interrupted = stack.enter_context(interrupts())
        run = _Run(model, env, envs, planner, config, folder, console, interrupted, trained=trained)
        run.begin(data)
        return run.loop()


class _Run:
    """A run in memory, and its reading and writing."""

    def __init__(
        self,
        model: Any,
        env: EnvRef,
        envs: list[Env],
        planner: Planner,
        config: OnlineConfig,
        folder: Path,
        console: Console,
        interrupted: threading.Event,
        *,
        trained: bool,
    ) -> None:
        self.trained = trained
        self.model, self.env, self.envs, self.config, self.folder = model, env, envs, config, folder
        self.console, self.interrupted = console, interrupted
        self.spec = model.environment(None).spec
        self.device = self.spec.device
        self.most = acting.longest_episode(envs[0], config)
        self.longest: int = -(-self.most // self.spec.action_repeat)  # in decisions
        if isinstance(model, Discounts):
            model.expect(self.longest)
        self.planner = acting.discounted(planner, model)
        self.counts, self.curve = Counts(), Curve()
        self.saved = -1  # decisions and updates at the last checkpoint
        self.optimizers = model.optimizers(config.update)
        self.replay: Replay

    # -- checkpoints -------------------------------------------------------------------------------------

    def begin(self, data: Trajectories | None) -> None:
        """Go on with the run in the folder, or make its first checkpoint."""
        room = self.config.envs * (self.longest + 1)
        if room > self.config.buffer_size:
            raise WrongValueError(
                f"buffer_size is {self.config.buffer_size:,}, and {self.config.envs} episodes of at most "
                f"{self.longest:,} decisions need {room:,}: raise it (--buffer-size), or cut episodes "
                "earlier (--max-steps)"
            )
        exists = run_state.exists(self.folder)
        self.replay = Replay(
            self.folder / REPLAY_FOLDER,
            self.spec,
            capacity=self.config.buffer_size,
            slack=self.slack(),
            fresh=not exists,
        )
        if not exists:
            if data is not None:
                self.replay.add(
                    [
                        PlayedEpisode(e.observation, e.action[:-1], e.reward[1:], not e.alive[-1])
                        for e in data.iterate()
                    ]
                )
                self.counts.given = self.replay.decisions
            self.save()
            return
        found = run_state.load(self.folder)
        mine = _settings(self.config)
        for name, value in mine.items():
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
        self.saved = self.counts.decisions + self.counts.updates
        self.console.print(
            f"going on from environment step {self.counts.env_steps:,} of {self.config.steps:,} in "
            f"{self.folder}",
            highlight=False,
        )

    def slack(self) -> int:
        """Most entries that the replay memory gets between two checkpoints."""
        # never of the number of decisions between checkpoints, which may change when a run goes on
        return 2 * (self.config.envs * self.longest + _MOST_UNSAVED)

    def save(self) -> None:
        """Write a checkpoint; only between rounds."""
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
        self.saved = self.counts.decisions + self.counts.updates

    def save_if_due(self) -> None:
        """Write a checkpoint if enough has happened since the last one."""
        most = min(self.config.checkpoint_every, _MOST_UNSAVED)
        if self.counts.decisions + self.counts.updates - self.saved >= most:
            self.save()

    # -- learning ----------------------------------------------------------------------------------------

    def loop(self) -> OnlineResult:
        """Play rounds until the last step or an interruption."""
        config, counts = self.config, self.counts
        scores: tuple[float, ...] = ()
        with (
            SummaryWriter(str(self.folder), purge_step=counts.env_steps) as self.board,
            OnlineProgress(self.console, config.steps, counts.env_steps) as self.progress,
        ):
            try:
                while True:
                    if self.evaluation_due():
                        scores = self.evaluate()
                        self.save()
                    if counts.env_steps >= config.steps:
                        break
                    self.round()
                    self.save_if_due()
            except _Interrupted:
                done = run_state.load(self.folder).progress["counts"]["env_steps"]
                self.console.print(
                    f"interrupted; the run is saved in {self.folder} as of environment step {done:,} of "
                    f"{config.steps:,}: run the same command to go on",
                    highlight=False,
                )
                return OnlineResult(counts, True, scores)
        return OnlineResult(counts, False, scores or tuple(self.curve.evaluations[-1]["returns"]))

    def round(self) -> None:
        """Play one episode in every environment, learn meanwhile, and remember them."""
        config, counts, first = self.config, self.counts, self.counts.episodes
        learning = counts.decisions >= self.seed_decisions
        random = not learning and not self.trained
        if learning:
            self.learn(between_rounds=True)
            self.progress.learning(counts.env_steps)
        seeds = [acting.reset_seed(config, first + i) for i in range(config.envs)]
        seen = [env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)]
        seed = acting.acting_seed(config, first)
        actor: Actor
        if random:
            actor = acting.random_actor(self.envs[0], seed)
        else:
            actor = acting.exploring_actor(self.model, self.planner, self.env, envs=config.envs, seed=seed)

        def decided(decisions: int, steps: int) -> bool:
            counts.decisions += decisions
            counts.env_steps += steps
            self.progress.moved(counts.env_steps)
            if learning:
                self.learn(between_rounds=False)
            return not self.interrupted.is_set()

        self.model.eval()
        played = play_round(
            self.envs, actor, seen, repeat=self.spec.action_repeat, most=self.most, decided=decided
        )
        if played is None:
            raise _Interrupted
        self.remember(played, random=random)

    def remember(self, played: list[Played], *, random: bool) -> None:
        """Add a round's episodes to the replay memory and to the curves."""
        counts = self.counts
        self.replay.add([one.episode for one in played])
        row = {"env_steps": counts.env_steps, "decisions": counts.decisions, "updates": counts.updates}
        rows = [
            {
                "episode": counts.episodes + i,
                **row,
                "return": one.score,
                "length": one.length,
                "end": one.end,
                "random": random,
            }
            for i, one in enumerate(played)
        ]
        counts.episodes += len(played)
        self.curve.played(rows)
        for one in played:
            self.progress.ended(one.score)
        self.board.add_scalar("return/training", np.mean([one.score for one in played]), counts.env_steps)

    @property
    def seed_decisions(self) -> int:
        """Decisions before the first update."""
        if self.counts.given:
            return self.config.seed_decisions or 0
        return self.config.seed_decisions or max(1000, 5 * self.longest)

    def learn(self, *, between_rounds: bool) -> None:
        """Make the updates that are due."""
        config, counts = self.config, self.counts
        offline = config.offline_updates
        if offline is None:
            offline = int(config.updates_per_decision * counts.given)
        due = offline + int(config.updates_per_decision * counts.decisions)
        if counts.updates >= due:
            return
        if counts.updates == 0 and not self.trained:
            self.fit()
        self.model.train()
        while counts.updates < due:
            if self.interrupted.is_set():
                raise _Interrupted
            numbers = self.update()
            if counts.updates % config.log_every == 0:
                for name, value in numbers.items():
                    self.board.add_scalar(f"train/{name}", value, counts.updates)
            if between_rounds:
                self.progress.learned(counts.updates, due)
                self.save_if_due()
        self.model.eval()

    def update(self) -> Mapping[str, float]:
        """Make one update; return its metrics."""
        config, updates = self.config, self.counts.updates
        generator = torch.Generator(device=self.device).manual_seed(noise_seed(config.seed, updates))
        windows = acting.batch_rng(config, updates)
        batch = self.replay.batch(windows, config.batch_size, config.window_steps).to(self.device)
        try:
            numbers: Mapping[str, float] = self.model.update(
                batch, self.optimizers, step=updates, settings=config.update, generator=generator
            )
            check_finite(numbers)
        except NotFiniteError as error:
            raise TrainingError(
                f"{error} at update {updates:,}; the last checkpoint in {self.folder} is from before. Lower "
                "the learning rate, turn bf16 off, or look for broken observations and rewards; then begin "
                "in another folder"
            ) from error
        self.counts.updates += 1
        return numbers

    def fit(self) -> None:
        """Fit what needs no gradient to the episodes so far."""
        episodes = [self.replay.episode(i) for i in range(self.replay.episodes)]
        lengths = [len(e.reward) + 1 for e in episodes]
        alive = [np.array([True] * len(e.reward) + [not e.terminated]) for e in episodes]
        steps = Decisions(
            observation=np.concatenate([e.observation for e in episodes]),
            reward=np.concatenate([np.concatenate([[np.float32(np.nan)], e.reward]) for e in episodes]),
            action=np.concatenate([np.concatenate([e.action, 0 * e.action[:1]]) for e in episodes]),
            alive=np.concatenate(alive),
        )
        info = TrajectoryInfo(
            self.env.made_by,
            self.spec.observation_space,
            self.spec.action_space,
            self.spec.action_repeat,
            (),
            self.env.kwargs,
        )
        data = Trajectories.from_arrays(steps, offsets=np.cumsum([0, *lengths]), info=info)
        self.model.fit({self.env.name: data})
        if isinstance(self.model, Discounts):
            self.model.expect(self.longest)  # random episodes may be shorter than those to come

    # -- evaluation --------------------------------------------------------------------------------------

    def evaluation_due(self) -> bool:
        """Whether the run is at its end, or another ``evaluate_every`` environment steps since it learns."""
        done, every = self.counts.env_steps, self.config.evaluate_every
        before = self.curve.evaluations[-1]["env_steps"] if self.curve.evaluations else 0
        if done >= self.config.steps:
            return done > before
        return self.counts.updates > 0 and done // every > before // every

    def evaluate(self) -> tuple[float, ...]:
        """Play the evaluation's episodes with the agent as it is now, and save that agent."""
        self.model.eval()
        agent = TDMAgent(self.model.environment(None), self.planner, self.config.seed, env_id=str(self.env))

        def halt(_tick: object) -> None:
            if self.interrupted.is_set():
                raise _Interrupted

        evaluation = evaluate(
            agent,
            self.env,
            acting.evaluation_seeds(self.config),
            seed=self.config.seed,
            max_steps=self.config.max_steps,
            on_step=halt,
        )
        scores, done = evaluation.scores, self.counts.env_steps
        mean = float(np.mean(scores))
        self.curve.evaluated(
            {
                "env_steps": done,
                "decisions": self.counts.decisions,
                "updates": self.counts.updates,
                "mean_return": mean,
                "returns": scores,
            }
        )
        self.board.add_scalar("return/evaluation", mean, done)
        self.progress.evaluated(done, mean, scores)
        self.model.save(self.folder)
        write_settings(self.folder, settings_of(self.planner, None, str(self.env)))
        return tuple(scores)


_MOST_UNSAVED = 20_000
"""Decisions and updates after which a checkpoint is made, whatever the settings say."""


def _settings(config: OnlineConfig) -> dict[str, Any]:
    # through JSON and back: what is written is what is compared
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config), default=plain_number))
    return settings
