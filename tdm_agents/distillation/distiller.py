"""The loop of distillation: rounds in which a student is shown episodes, learns, and is evaluated.

What a run does is a function of its seed and of its state after a whole round. So a run that was killed
begins that round again and ends, on a CPU with the same number of threads, in the same bits as one that was
not.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from tdm_agents.actors.agents import AgentActor
from tdm_agents.actors.contestant import Contestant, actor_of
from tdm_agents.agent import TDMAgent
from tdm_agents.agent.agent_files import settings_of, write_settings
from tdm_agents.collection.seeds import TUNING_FIRST, draw_reset_seed
from tdm_agents.distillation.distill_config import OBSERVERS, DistillConfig
from tdm_agents.distillation.imagined_env import ImaginedEnv, imagining_model
from tdm_agents.distillation.imagined_episodes import Imagination, as_shown
from tdm_agents.distillation.lessons import Lessons
from tdm_agents.distillation.teaching import Lesson
from tdm_agents.env_checks import refuse_shared
from tdm_agents.environments import Env, EnvRef, episode_limit, steps_at_most
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.online.recorded import recorded
from tdm_agents.online.rounds import Played, play_round
from tdm_agents.protocols import ImitatesExamples, NotFiniteError, Planner, TrainableModel
from tdm_agents.spaces import action_codec
from tdm_agents.storage import CheckpointError, write_json
from tdm_agents.training import run_state
from tdm_agents.training.process import interrupts, threads
from tdm_agents.training.progress import TrainingProgress
from tdm_agents.training.resuming import restore_run, settings_json
from tdm_agents.training.train_config import noise_seed
from tdm_agents.training.trainer import TrainingError
from tdm_agents.world_models.learned import check_finite

ROUNDS_FILE = "rounds.json"
SCHEMA = 1
_RESETS, _ACTIONS, _CHOICES, _BATCHES, _IMAGINED = range(5)
"""What the streams of random numbers are for."""


@dataclass(frozen=True, slots=True)
class DistillResult:
    """Outcome of a run.

    Attributes:
        rounds: One row per round: decisions, updates, returns.
        interrupted: Whether Ctrl-C (or SIGTERM) ended it before its last round.
    """

    rounds: list[dict[str, Any]]
    interrupted: bool


class _Interrupted(Exception):  # noqa: N818  (an answer, not an error)
    """Ctrl-C, in the middle of a round."""


def distill(
    teacher: Contestant,
    student: TrainableModel,
    planner: Planner,
    env: EnvRef,
    config: DistillConfig,
    folder: Path,
    *,
    console: Console | None = None,
) -> DistillResult:
    """Train ``student`` in place on what ``teacher`` decides and imagines, and save its agent in ``folder``.

    The caller holds :func:`tdm_agents.storage.locked` on ``folder``, which gets the student's agent after
    every round, a checkpoint to go on from, what was shown (``lessons``), ``rounds.json`` and TensorBoard's
    event files.

    Args:
        teacher: Whoever decides: an agent, a recipe for one, a policy.
        student: A model of the environment, before its first update, on the device to train on.
        planner: How the student acts.
        env: The environment.
        config: Settings of the run.
        folder: Folder of the run.
        console: Where to show progress; by default standard error.

    Raises:
        TrainingError: If a loss or gradient is not finite. The checkpoint is from before the round.
        ValueError: If the run in ``folder`` has other settings, the teacher cannot imagine what it should, or
            an observation or reward cannot be used.
        CheckpointError: If the checkpoint in ``folder`` was altered or belongs to another model.
    """
    console = console if console is not None else Console(stderr=True)
    with ExitStack() as stack:
        envs: list[Env] = []
        for _ in range(config.envs):
            envs.append(env.make())
            stack.callback(envs[-1].close)
        refuse_shared(envs)
        if config.in_imagination:
            model = imagining_model(teacher)
            envs = [ImaginedEnv(one, model) for one in envs]
        stack.enter_context(threads(config.threads))
        interrupted = stack.enter_context(interrupts())
        run = _Run(teacher, student, planner, env, envs, config, folder, console, interrupted)
        if run.rounds:
            console.print(
                f"going on after round {len(run.rounds)} of {config.rounds} in {folder}", soft_wrap=True
            )
        with SummaryWriter(str(folder), purge_step=run.updates) as board:
            try:
                while len(run.rounds) < config.rounds:
                    run.round(board)
            except _Interrupted:
                done = f"{len(run.rounds)} of {config.rounds} rounds are saved in {folder}"
                console.print(f"interrupted; {done}: run the same command to go on", soft_wrap=True)
                return DistillResult(run.rounds, interrupted=True)
        return DistillResult(run.rounds, interrupted=False)


class _Run:
    """A run in memory, and its reading and writing."""

    def __init__(
        self,
        teacher: Contestant,
        student: Any,
        planner: Planner,
        env: EnvRef,
        envs: list[Env],
        config: DistillConfig,
        folder: Path,
        console: Console,
        interrupted: threading.Event,
    ) -> None:
        self.teacher, self.student, self.planner = teacher, student, planner
        self.env, self.envs, self.config, self.folder = env, envs, config, folder
        self.console, self.interrupted = console, interrupted
        self.spec = student.environment(None).spec
        self.optimizers = student.optimizers(config.update)
        self.updates = 0
        self.rounds: list[dict[str, Any]] = []
        limits = (config.max_steps, episode_limit(envs[0]), steps_at_most(envs[0], config.max_steps))
        self.most = min(limit for limit in limits if limit is not None)
        longest = -(-self.most // self.spec.action_repeat)  # in decisions
        resumed = run_state.exists(folder)
        self.lessons = Lessons(
            folder,
            self.spec,
            capacity=config.buffer_size,
            slack=2 * config.envs * (longest + 1) * (1 + config.imagined * (config.imagined_steps + 1)),
            fresh=not resumed,
            imitates=isinstance(student, ImitatesExamples),
        )
        if resumed:
            self._restore()
        else:
            self._save()

    # -- a round -----------------------------------------------------------------------------------------

    def round(self, board: SummaryWriter) -> None:
        """Show, learn, evaluate, save.

        Raises:
            _Interrupted: After Ctrl-C; the run in the folder is as it was before the round.
        """
        number = len(self.rounds)
        played, decisions = self._show(number)
        self._learn(board)
        scores = self._evaluate()
        shown, own = float(np.mean([one.score for one in played])), float(np.mean(scores))
        row: dict[str, Any] = {"round": number, "decisions": decisions, "updates": self.updates}
        row |= {"shown_returns": [one.score for one in played], "student_returns": scores}
        self.rounds.append(row)
        board.add_scalar("return/shown", shown, self.updates)
        board.add_scalar("return/student", own, self.updates)
        self.console.print(
            f"round {number + 1} of {self.config.rounds}: shown {shown:.1f} (teacher acts with probability "
            f"{self.config.beta**number:.2g}), student alone {own:.1f}",
            highlight=False,
        )
        self.student.save(self.folder)
        write_settings(self.folder, settings_of(self.planner, None, str(self.env)))
        self._save()

    def _show(self, number: int) -> tuple[list[Played], int]:
        """Play the round's episodes, remember them, and what was imagined meanwhile."""
        config = self.config
        resets = np.random.default_rng([config.seed, _RESETS, number])
        seen = [env.reset(seed=draw_reset_seed(resets))[0] for env in self.envs]
        teacher = actor_of(self.teacher, self.envs, seed=self._seed(_ACTIONS, number))
        imagination = None
        if config.imagined and isinstance(teacher, AgentActor):
            imagination = Imagination(
                teacher,
                candidates=config.imagined,
                steps=config.imagined_steps,
                noise=config.imagined_noise,
                seed=self._seed(_IMAGINED, number),
            )
        share = config.beta**number
        student = None
        if share < 1.0:
            agent = TDMAgent(
                self.student.eval().environment(None),
                self.planner,
                self._seed(_ACTIONS, number, 1),
                env_id=str(self.env),
            )
            student = AgentActor(agent, len(self.envs))
        lesson = Lesson(
            teacher,
            student,
            action_codec(self.spec.action_space),
            share=share,
            rng=np.random.default_rng([config.seed, _CHOICES, number]),
            asked=lambda: None if imagination is None else imagination(),
        )
        decided = 0

        def go_on(decisions: int, _steps: int) -> bool:
            nonlocal decided
            decided += decisions
            return not self.interrupted.is_set()

        played = play_round(
            self.envs, lesson, seen, repeat=self.spec.action_repeat, most=self.most, decided=go_on
        )
        if played is None:
            raise _Interrupted
        shown = [
            as_shown(one.episode, np.stack([codes[i] for codes in lesson.shown[: len(one.episode.reward)]]))
            for i, one in enumerate(played)
        ]
        others = [] if imagination is None else imagination.episodes
        self.lessons.add([one.episode for one in played] + others, shown)
        return played, decided

    def _learn(self, board: SummaryWriter) -> None:
        config, student = self.config, self.student
        if self.updates == 0:
            student.fit({self.env.name: recorded(self.lessons.transitions, self.env, self.spec)})
        until = self.updates + config.updates
        student.train()
        with TrainingProgress(self.console, until, self.updates) as progress:
            while self.updates < until:
                numbers = self._update()
                progress.update(self.updates, numbers["loss"])
                if self.updates % config.log_every == 0:
                    for name, value in numbers.items():
                        board.add_scalar(f"train/{name}", value, self.updates)
                if self.interrupted.is_set():
                    raise _Interrupted
        student.eval()

    def _update(self) -> Mapping[str, float]:
        config = self.config
        generator = torch.Generator(device=self.spec.device)
        generator.manual_seed(noise_seed(config.seed, self.updates))
        rng = np.random.default_rng([config.seed, _BATCHES, self.updates])
        batch = self.lessons.batch(rng, config.batch_size, config.window_steps)
        try:
            numbers: Mapping[str, float] = self.student.update(
                batch.to(self.spec.device),
                self.optimizers,
                step=self.updates,
                settings=config.update,
                generator=generator,
            )
            check_finite(numbers)
        except NotFiniteError as error:
            raise TrainingError(
                f"{error} at update {self.updates:,}; the checkpoint in {self.folder} is from before this "
                "round. Lower the learning rate, or look for broken observations and rewards; then begin in "
                "another folder"
            ) from error
        self.updates += 1
        return numbers

    def _evaluate(self) -> list[float]:
        config = self.config

        def halt(_tick: object) -> None:
            if self.interrupted.is_set():
                raise _Interrupted

        agent = TDMAgent(self.student.environment(None), self.planner, config.seed, env_id=str(self.env))
        seeds = range(TUNING_FIRST, TUNING_FIRST + config.evaluate_episodes)
        played = evaluate(agent, self.env, seeds, seed=config.seed, max_steps=config.max_steps, on_step=halt)
        return list(played.scores)

    def _seed(self, *stream: int) -> int:
        return int(np.random.SeedSequence([self.config.seed, *stream]).generate_state(1)[0])

    # -- on disk -----------------------------------------------------------------------------------------

    def _save(self) -> None:
        write_json(self.folder / ROUNDS_FILE, {"schema": SCHEMA, "rounds": self.rounds})
        state = run_state.RunState(
            step=self.updates,
            weights=self.student.state_dict(),
            optimizers=run_state.optimizer_state(self.student, self.optimizers),
            settings=settings_json(self.config),
            progress={"rounds": self.rounds, "lessons": self.lessons.record()},
        )
        run_state.save(self.folder, state)

    def _restore(self) -> None:
        found = restore_run(self.folder, self.student, self.optimizers, self.config, observers=OBSERVERS)
        try:
            self.rounds = list(found.progress["rounds"])
            self.lessons.restore(found.progress["lessons"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"the checkpoint in {self.folder} is not of tdm distill ({error}); choose another folder"
            ) from error
        self.updates = found.step
