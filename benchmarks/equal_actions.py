"""Does an agent act the same in every loop? ``evaluate_policy``, plain loops, vector loops in each mode.

Every loop plays the same episodes of cartpole-swingup, cut short: the same agent seed, the same first states.
What is compared is what the environments executed, bit by bit, with the first loop of the same number of
environments that tells the agent the same (``predict`` and ``evaluate_policy`` tell it no rewards, which the
TDM reads and the simulator does not).

Then across numbers of environments: MPPI draws one set of candidates for all of them, so that another number
does not mean other random numbers, and each environment is compared with itself alone. With the simulator it
must be equal; in a learned model rounding differs with the number of rows, so that near ties may fall
differently.

    python benchmarks/equal_actions.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from tdm_agents import SimulatorModel, TDMAgent
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import Env, make_env
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.report import provenance
from tdm_agents.protocols import Planner
from tdm_agents.storage import write_json
from tdm_envs.suite import batched_task
from tdm_planners.mppi import MPPI

ENV_ID = "dm_control/cartpole-swingup-v0"
CHECKPOINT = "cartpole-swingup"
ACTION_REPEAT = 4
Model = Literal["simulator", "tdm"]


@dataclass(frozen=True)
class Settings:
    """How much is played."""

    out: Path = Path("benchmarks/results/equal_actions.json")
    """Where to write the table."""
    models: tuple[Model, ...] = ("simulator", "tdm")
    """What is planned with."""
    batches: tuple[int, ...] = (1, 2, 3)
    """Numbers of environments."""
    episodes: int = 2
    """Of each environment."""
    steps: int = 24
    """Environment steps an episode."""
    horizon: int = 4
    """Of MPPI."""
    num_samples: int = 8
    """Candidates an iteration, of two."""


class Course(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that begins its episodes as their numbers say, and keeps the actions that it executes.

    Args:
        row: Number of the environment.
        steps: Environment steps an episode.

    Attributes:
        episodes: The actions of each episode.
        whole: Episodes that are over.
    """

    def __init__(self, row: int, steps: int) -> None:
        super().__init__(gym.wrappers.TimeLimit(make_env(ENV_ID), steps))
        self.row = row
        self.restart()

    def restart(self) -> None:
        """Before the first episode, with nothing kept."""
        self.whole = 0
        self.episodes: list[list[np.ndarray[Any, Any]]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode, whatever ``seed`` is."""
        seed = EVALUATION_FIRST + 100 * self.row + len(self.episodes)
        self.episodes.append([])
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Execute and keep."""
        self.episodes[-1].append(np.array(action))
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.whole += int(terminated or truncated)
        return obs, reward, terminated, truncated, info

    def close(self) -> None:
        """Nothing: other loops play here after one that closes what it has played in."""


class CommonMPPI(MPPI):
    """MPPI whose noise is the same in every environment."""

    def noise(self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Draws of ``shape`` ``[B, K, H, m]``."""
        return super().noise((1, *shape[1:]), generator, dtype).expand(tuple(shape))


# ---------------------------------------------------------------------- loops, as a reader would write them


def plain_loop(agent: TDMAgent, courses: list[Course], episodes: int, *, rewards: bool) -> None:
    """One environment; nothing is told but where episodes begin, and rewards."""
    (env,) = courses
    for _ in range(episodes):
        obs, _ = env.reset()
        agent.reset()
        done, reward = False, None
        while not done:
            action = agent.act(obs, reward=reward if rewards else None)
            obs, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated


def attached_plain_loop(agent: TDMAgent, courses: list[Course], episodes: int) -> None:
    """One environment, which tells the agent everything."""
    env = agent.attach(courses[0])
    for _ in range(episodes):
        obs, _ = env.reset()
        done = False
        while not done:
            obs, _, terminated, truncated, _ = env.step(agent.act(obs))
            done = terminated or truncated


def vector_loop(
    agent: TDMAgent, courses: list[Course], episodes: int, *, mode: AutoresetMode, rewards: bool
) -> None:
    """The caller tells what happened."""
    env, count = vector(courses, mode), len(courses)
    obs, _ = env.reset()
    agent.reset()
    reward, before, done = np.full(count, np.nan), np.zeros(count, bool), np.zeros(count, bool)
    while any(course.whole < episodes for course in courses):
        told: dict[str, Any] = {"reward": reward} if rewards else {}
        if mode is AutoresetMode.NEXT_STEP:
            told |= {"episode_start": before, "active": ~done}
        elif mode is AutoresetMode.SAME_STEP:
            told |= {"episode_start": done}
        actions = agent.act(obs, **told)
        obs, reward, terminated, truncated, _ = env.step(actions)
        before, done = done, terminated | truncated
        if mode is AutoresetMode.DISABLED and done.any():
            obs, _ = env.reset(options={"reset_mask": done.copy()})
            agent.reset(mask=done)


def attached_vector_loop(
    agent: TDMAgent, courses: list[Course], episodes: int, *, mode: AutoresetMode
) -> None:
    """The vector environment tells what happened."""
    env = agent.attach(vector(courses, mode))
    obs, _ = env.reset()
    while any(course.whole < episodes for course in courses):
        obs, _, terminated, truncated, _ = env.step(agent.act(obs))
        done = terminated | truncated
        if mode is AutoresetMode.DISABLED and done.any():
            obs, _ = env.reset(options={"reset_mask": done})


def predict_loop(agent: TDMAgent, courses: list[Course], episodes: int) -> None:
    """A loop over SB3's ``VecEnv``."""
    env = DummyVecEnv([partial(_itself, course) for course in courses])
    obs, state, start = env.reset(), None, np.ones(len(courses), bool)
    while any(course.whole < episodes for course in courses):
        actions, state = agent.predict(obs, state, start, deterministic=True)
        obs, _, start, _ = env.step(actions)


def sb3_evaluation(agent: TDMAgent, courses: list[Course], episodes: int) -> None:
    """SB3's own."""
    env = DummyVecEnv([partial(_itself, course) for course in courses])
    evaluate_policy(agent, env, n_eval_episodes=episodes * len(courses), warn=False)


def own_evaluation(agent: TDMAgent, courses: list[Course], episodes: int) -> None:
    """``tdm_agents.evaluate``, which plays one episode of each environment."""
    rest = iter(courses)
    evaluate(agent, lambda: next(rest), [EVALUATION_FIRST] * len(courses), seed=None)


def vector(courses: list[Course], mode: AutoresetMode) -> SyncVectorEnv:
    """The courses as one vector environment."""
    return SyncVectorEnv([partial(_itself, course) for course in courses], autoreset_mode=mode)


def _itself(course: Course) -> Env:
    return course


@dataclass(frozen=True)
class Loop:
    """A way to act.

    Attributes:
        name: What the table calls it.
        mode: Autoreset mode, where there is one.
        rewards: Whether the agent is told rewards.
        play: The loop.
        single: Whether it is of one environment.
    """

    name: str
    mode: str
    rewards: bool
    play: Callable[[TDMAgent, list[Course], int], None]
    single: bool = False


def loops() -> Iterator[Loop]:
    """Every way to act."""
    for rewards in (False, True):
        yield Loop("act, plain loop", "", rewards, partial(plain_loop, rewards=rewards), single=True)
        for mode in AutoresetMode:
            by_hand = partial(vector_loop, mode=mode, rewards=rewards)
            yield Loop("act, vector loop", mode.name, rewards, by_hand)
    yield Loop("predict, VecEnv loop", "", False, predict_loop)
    yield Loop("evaluate_policy", "", False, sb3_evaluation)
    yield Loop("attach, plain loop", "", True, attached_plain_loop, single=True)
    for mode in AutoresetMode:
        yield Loop("attach, vector loop", mode.name, True, partial(attached_vector_loop, mode=mode))
    yield Loop("evaluate", "", True, own_evaluation)


# ---------------------------------------------------------------------- comparison

Executed = list[list[list[np.ndarray[Any, Any]]]]
"""By environment, by episode, by environment step."""


class Arena:
    """Where all loops play: the courses and the models, made once.

    Args:
        settings: What is played.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.courses = [Course(row, settings.steps) for row in range(max(settings.batches))]
        choices: dict[str, Any] = {"horizon": settings.horizon, "num_samples": settings.num_samples}
        choices |= {"iterations": 2, "noise_beta": 2.0, "initial_std": 0.5}
        self.planner, self.common = MPPI(**choices), CommonMPPI(**choices)
        self.tdm = load_model(resolve(CHECKPOINT), "cpu") if "tdm" in settings.models else None

    def play(self, model: Model, planner: Planner, loop: Loop, courses: list[Course]) -> Executed:
        """What the courses execute when an agent of the same seed acts in this loop."""
        for course in courses:
            course.restart()
        imagining: Any = self.tdm
        if model == "simulator":
            imagining = SimulatorModel(list(courses), ACTION_REPEAT, fast=batched_task(ENV_ID))
        agent = TDMAgent(imagining, planner, seed=0, reward_function=ENV_ID)
        loop.play(agent, courses, self.settings.episodes)
        return [course.episodes[: course.whole] for course in courses]

    def in_every_loop(self, model: Model, batch: int) -> Iterator[dict[str, Any]]:
        """The loops of ``batch`` environments, each compared with the first that tells the same."""
        references: dict[bool, tuple[Loop, Executed]] = {}
        for loop in loops():
            if loop.single and batch > 1:
                continue
            found = self.play(model, self.planner, loop, self.courses[:batch])
            told = loop.rewards and model == "tdm"  # the simulator reads none
            first, reference = references.setdefault(told, (loop, found))
            yield row(model, loop, batch, f"{first.name} {first.mode}".strip(), found, reference)

    def across_batches(self, model: Model) -> Iterator[dict[str, Any]]:
        """Each environment beside the others, compared with itself alone."""
        for loop in loops():
            if loop.single or loop.rewards:
                continue
            alone = [self.play(model, self.common, loop, [course])[0] for course in self.courses]
            for batch in self.settings.batches:
                if batch > 1:
                    found = self.play(model, self.common, loop, self.courses[:batch])
                    yield row(model, loop, batch, "each alone", found, alone[:batch])


def row(
    model: Model, loop: Loop, batch: int, compared_with: str, found: Executed, reference: Executed
) -> dict[str, Any]:
    """How many actions there are, and how many are the same in ``reference``."""
    pairs = [
        (action, expected)
        for own, others in zip(found, reference, strict=True)
        for episode, other in zip(own, others, strict=False)  # ``evaluate`` plays one episode
        for action, expected in zip(episode, other, strict=True)
    ]
    return {
        "model": model,
        "loop": loop.name,
        "mode": loop.mode,
        "told_rewards": loop.rewards,
        "batch": batch,
        "compared_with": compared_with,
        "actions": len(pairs),
        "equal": sum(np.array_equal(action, expected) for action, expected in pairs),
        "largest_difference": max(float(np.abs(action - expected).max()) for action, expected in pairs),
    }


def rows(settings: Settings) -> Iterator[dict[str, Any]]:
    """The table: every loop of each number of environments, then across the numbers."""
    arena = Arena(settings)
    for model in settings.models:
        for batch in settings.batches:
            yield from arena.in_every_loop(model, batch)
        yield from arena.across_batches(model)


def main(settings: Settings) -> None:
    """Play, print, keep."""
    torch.set_num_threads(1)
    table = Table("model", "loop", "mode", "rewards", "B", "compared with", "actions", "equal", "difference")
    found = []
    for one in rows(settings):
        found.append(one)
        table.add_row(*(f"{cell:.1g}" if isinstance(cell, float) else str(cell) for cell in one.values()))
        print(".", end="", flush=True)
    weights = resolve(CHECKPOINT) / "weights.safetensors" if "tdm" in settings.models else None
    value = {
        "schema": 1,
        "settings": asdict(settings) | {"out": str(settings.out)},
        "rows": found,
        "provenance": provenance(weights),
    }
    write_json(settings.out, value)
    print()
    Console(width=120).print(table)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
