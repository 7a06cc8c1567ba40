"""The loop of online training: rounds of episodes, and updates of the model in between their decisions.

What a run does is a function of its seed and of its state after a whole round: weights, optimizers, replay
memory and counts. Every source of randomness is seeded by the number of the episode or of the update that
it is for. So a run that was killed goes on from its last checkpoint, on a CPU with the same number of
threads, to the same bits as one that was not.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from tdm_agents.actors.actor import Actor
from tdm_agents.agent import TDMAgent
from tdm_agents.agent.agent_files import settings_of, write_settings
from tdm_agents.agent.discounts import discounted, undecided
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.online import acting
from tdm_agents.online.learner import Learner, refuse_only_random
from tdm_agents.online.online_config import OnlineConfig
from tdm_agents.online.online_progress import OnlineProgress
from tdm_agents.online.online_state import Counts, OnlineState, saved_steps
from tdm_agents.online.rounds import Played, play_round
from tdm_agents.online.turns import Task, next_task, open_tasks
from tdm_agents.protocols import Planner, SuitsDiscount, TrainableModel
from tdm_agents.remarks import remarks
from tdm_agents.training import run_state
from tdm_agents.training.process import interrupts, threads

UPDATES = "updates"
"""Folder of the curves over updates, in that of the run."""


@dataclass(frozen=True, slots=True)
class OnlineResult:
    """Outcome of a run.

    Attributes:
        counts: What it has done in all.
        interrupted: Whether Ctrl-C (or SIGTERM) ended it before its last step.
        returns: Of the last evaluation, by environment; empty if there was none.
    """

    counts: Counts
    interrupted: bool
    returns: Mapping[str, tuple[float, ...]]

    @property
    def scores(self) -> tuple[float, ...]:
        """The returns, one environment after the other."""
        return tuple(score for each in self.returns.values() for score in each)


class _Interrupted(Exception):  # noqa: N818  (an answer, not an error)
    """Ctrl-C, in the middle of a round."""


def train_online(
    model: TrainableModel,
    envs: Sequence[EnvRef],
    planner: Planner,
    config: OnlineConfig,
    folder: Path,
    *,
    weights: Mapping[str, float] | None = None,
    data: Mapping[str, Trajectories] | None = None,
    trained: bool = False,
    own_discount: bool = False,
    console: Console | None = None,
) -> OnlineResult:
    """Train ``model`` in place on what its own agent does, and save that agent in ``folder``.

    The caller holds :func:`tdm_agents.storage.locked` on ``folder``, which gets checkpoints to go on from,
    the replay memory, ``curve.json``, TensorBoard's event files and, at every evaluation, the agent.

    Args:
        model: The model of the environments, before its first update, on the device to train on.
        envs: The environments, which are played in turn.
        planner: The planner; its discount becomes the model's for each environment, if the model has one.
        config: Settings of the run.
        folder: Folder of the run.
        weights: Share of each of several environments in proportion to the others, by name; None: equal.
        data: Episodes that somebody else played, by environment, with which the replay memory begins.
        trained: Whether the model has been trained before, and acts from the first decision on.
        own_discount: Whether the planner discounts by its own setting, and not as the model's values do.
        console: Where to show progress; by default that of :func:`tdm_agents.remarks.remarks`.

    Raises:
        TrainingError: If a loss or gradient is not finite. The last checkpoint is from before it.
        ValueError: If the run in ``folder`` has other settings, or an observation or reward cannot be used.
        CheckpointError: If the checkpoint in ``folder`` was altered or belongs to another model.
    """
    console = console if console is not None else remarks()
    with ExitStack() as stack:
        tasks = open_tasks(envs, model, config, weights or {}, stack)
        stack.enter_context(threads(config.threads))
        interrupted = stack.enter_context(interrupts())
        worlds = [model.environment(task.name) for task in tasks]
        for task, world in zip(tasks, worlds, strict=True):
            if isinstance(world, SuitsDiscount):
                world.expect(task.longest)
        if not (data or run_state.exists(folder)):
            refuse_only_random(config, tasks)  # before anything is written
        state = OnlineState(model, config, folder, tasks=tasks, data=data or {})
        learner = Learner(state, config, tasks, trained=trained)
        done = state.counts.env_steps
        if state.resumed:
            console.print(
                f"going on from environment step {done:,} of {config.steps:,} in {folder}", highlight=False
            )
        run = _Run(
            state=state,
            learner=learner,
            tasks=tasks,
            planners={
                task.name: planner if own_discount else discounted(planner, world)
                for task, world in zip(tasks, worlds, strict=True)
            },
            config=config,
            board=stack.enter_context(SummaryWriter(str(folder), purge_step=done + 1)),
            # their axis is another one, so what a resumed run makes again is purged apart
            losses=stack.enter_context(
                SummaryWriter(str(folder / UPDATES), purge_step=state.counts.updates + 1)
            ),
            progress=stack.enter_context(OnlineProgress(console, config.steps, done)),
            trained=trained,
            interrupted=interrupted,
        )
        stopped = False
        try:
            run.loop()
        except _Interrupted:
            stopped = True
            run.progress.stop()
            console.print(
                f"interrupted; the run is saved in {folder} as of environment step {saved_steps(folder):,} "
                f"of {config.steps:,}: run the same command to go on",
                highlight=False,
                soft_wrap=True,
            )
        if not (stopped or state.counts.updates or learner.begun):
            console.print(
                f"nothing was learned: the first {learner.seed_decisions:,} decisions, and the episodes that "
                "they end in, come before the first update; raise --steps, or lower --seed-decisions",
                highlight=False,
                soft_wrap=True,
            )
        last = state.curve.evaluations[-len(tasks) :]
        returns = {task.name: tuple(row["returns"]) for task, row in zip(tasks, last, strict=False)}
        return OnlineResult(state.counts, stopped, returns)


@dataclass(frozen=True, slots=True)
class _Run:
    """The loop, and whom it tells."""

    state: OnlineState
    learner: Learner
    tasks: list[Task]
    planners: Mapping[str, Planner]
    config: OnlineConfig
    board: SummaryWriter
    losses: SummaryWriter
    progress: OnlineProgress
    trained: bool
    interrupted: threading.Event

    def loop(self) -> None:
        """Play rounds until the last step."""
        while True:
            if self.evaluation_due():
                self.evaluate()
                self.state.save()
            if self.state.counts.env_steps >= self.config.steps:
                return
            self.round()
            self.state.save_if_due()

    def round(self) -> None:
        """Play one episode in every environment of a task, learn meanwhile, and remember them."""
        config, counts, learner = self.config, self.state.counts, self.learner
        task = next_task(self.tasks, counts.of_task)
        first, learning = counts.episodes, learner.begun
        random = not learning and not self.trained
        if learning:
            learner.catch_up(self.updated_between_rounds)
            self.progress.learning(counts.env_steps)
        seeds = [acting.reset_seed(config, first + i) for i in range(config.envs)]
        seen = [env.reset(seed=seed)[0] for env, seed in zip(task.envs, seeds, strict=True)]

        def decided(decisions: int, steps: int) -> bool:
            counts.decisions += decisions
            counts.env_steps += steps
            counts.of_task[task.name] = counts.of_task.get(task.name, 0) + decisions
            self.progress.moved(counts.env_steps)
            if learning:
                learner.catch_up(self.updated)
            return not self.interrupted.is_set()

        played = play_round(
            task.envs,
            self.actor(task, random=random),
            seen,
            repeat=task.spec.action_repeat,
            most=task.most,
            decided=decided,
        )
        if played is None:
            raise _Interrupted
        self.remember(task, played, random=random)

    def actor(self, task: Task, *, random: bool) -> Actor:
        """Who plays the next round."""
        seed = acting.acting_seed(self.config, self.state.counts.episodes)
        if random:
            return acting.random_actor(task.envs[0], seed)
        model = self.state.model.eval()
        planner = self.planners[task.name]
        return acting.exploring_actor(model, planner, task.env, envs=self.config.envs, seed=seed)

    def of(self, task: Task) -> dict[str, str]:
        """What says which of several environments a row of the curve is of."""
        return {"environment": task.name} if len(self.tasks) > 1 else {}

    def remember(self, task: Task, played: list[Played], *, random: bool) -> None:
        """Add a round's episodes to the replay memory and to the curves."""
        counts = self.state.counts
        self.state.replays[task.name].add([one.episode for one in played])
        row = {"env_steps": counts.env_steps, "decisions": counts.decisions, "updates": counts.updates}
        self.state.curve.played(
            [
                {
                    "episode": counts.episodes + i,
                    **row,
                    **self.of(task),
                    "return": one.score,
                    "length": one.length,
                    "end": one.end,
                    "random": random,
                }
                for i, one in enumerate(played)
            ]
        )
        counts.episodes += len(played)
        mean = float(np.mean([one.score for one in played]))
        self.progress.ended(mean)
        self.board.add_scalar("/".join(["return/training", *self.of(task).values()]), mean, counts.env_steps)

    def updated(self, numbers: Mapping[str, float]) -> None:
        """Note the metrics of an update.

        Raises:
            _Interrupted: After Ctrl-C.
        """
        updates = self.state.counts.updates
        if updates % self.config.log_every == 0:
            for name, value in numbers.items():
                self.losses.add_scalar(f"train/{name}", value, updates)
        if self.interrupted.is_set():
            raise _Interrupted

    def updated_between_rounds(self, numbers: Mapping[str, float]) -> None:
        """Note the metrics of an update, and save the run now and then."""
        self.updated(numbers)
        self.progress.learned(self.state.counts.updates, self.learner.due())
        self.state.save_if_due()

    def evaluation_due(self) -> bool:
        """Whether the run is at its end, or another ``evaluate_every`` environment steps since it learns.

        What was learned by the end of the last round counts: a run that was interrupted amid the updates
        before the next one is not evaluated where an undisturbed one would not be.
        """
        done, every = self.state.counts.env_steps, self.config.evaluate_every
        evaluations, episodes = self.state.curve.evaluations, self.state.curve.episodes
        before = evaluations[-1]["env_steps"] if evaluations else 0
        if done >= self.config.steps:
            return bool(done > before)
        learned = bool(episodes) and episodes[-1]["updates"] > 0
        return bool(learned and done // every > before // every)

    def evaluate(self) -> None:
        """Play the evaluation's episodes with the agent as it is now, and save that agent."""
        state, config, counts = self.state, self.config, self.state.counts
        model: Any = state.model.eval()

        def halt(_tick: object) -> None:
            if self.interrupted.is_set():
                raise _Interrupted

        row = {"env_steps": counts.env_steps, "decisions": counts.decisions, "updates": counts.updates}
        rows = []
        for task in self.tasks:
            world = model.environment(task.name)
            evaluation = evaluate(
                TDMAgent(world, self.planners[task.name], config.seed, env_id=str(task.env)),
                task.env,
                acting.evaluation_seeds(config),
                seed=config.seed,
                max_steps=config.max_steps,
                on_step=halt,
            )
            scores = evaluation.scores
            mean = float(np.mean(scores))
            rows.append({**row, **self.of(task), "mean_return": mean, "returns": scores})
            tag = "/".join(["return/evaluation", *self.of(task).values()])
            self.board.add_scalar(tag, mean, counts.env_steps)
            self.progress.evaluated(counts.env_steps, mean, scores, *self.of(task).values())
        state.curve.evaluated(rows)
        model.save(state.folder)
        env_id = str(self.tasks[0].env) if len(self.tasks) == 1 else None
        first, *others = self.planners.values()
        settings = settings_of(first, None, env_id)
        write_settings(state.folder, settings if all(p == first for p in others) else undecided(settings))
