"""What does learning online reach? TD-MPC2 beside SAC and PPO of SB3, at equal environment steps.

All runs of a task hold each action for as many environment steps and are evaluated on the same seeds. SAC
and TD-MPC2 learn once per decision. SAC and PPO have SB3's own settings. An interrupted run goes on with the
same command (those of SB3 begin anew: they take minutes). The report has all runs that were evaluated at
least once, with the steps that they reached; those of an earlier report that are elsewhere stay in it.

    python benchmarks/online_returns.py --task cartpole-swingup --learner tdmpc2 --seed 0
    python benchmarks/online_returns.py --report
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, SupportsFloat

import gymnasium as gym
import numpy as np
import torch
import tyro
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor

import keep
from online_returns_plot import plot_curves
from tdm_agents.cli.online import run as run_online
from tdm_agents.cli.online_options import Online
from tdm_agents.collection.seeds import COLLECTION_FIRST
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.statistics import interval, iqm, mean
from tdm_agents.online.acting import evaluation_seeds
from tdm_agents.online.curve import CURVE_FILE
from tdm_agents.online.online_config import OnlineConfig
from tdm_agents.storage import read_json

SB3 = {"sac": SAC, "ppo": PPO}


@dataclass(frozen=True)
class Task:
    """An environment, and how TD-MPC2 learns it.

    Attributes:
        env_id: The environment.
        steps: Environment steps.
        action_repeat: Environment steps per decision.
        preset: TD-MPC2's size.
        learners: Who learns it.
        evaluate_every: Environment steps between evaluations.
        published: Mean return of three seeds after 100,000 steps, in the results beside TD-MPC2's code.
    """

    env_id: str
    steps: int = 100_000
    action_repeat: int = 2
    preset: str = "1m"
    learners: tuple[str, ...] = ("tdmpc2", "sac", "ppo")
    evaluate_every: int = 20_000
    published: float | None = None


TASKS = {
    "cartpole-swingup": Task("dm_control/cartpole-swingup-v0", published=839.0),
    "walker-stand": Task("dm_control/walker-stand-v0", published=981.0),
    "hopper": Task("Hopper-v5", action_repeat=1),
    "cartpole": Task(
        "CartPole-v1", steps=20_000, action_repeat=1, learners=("tdmpc2", "ppo"), evaluate_every=4_000
    ),
}


@dataclass(frozen=True)
class Settings:
    """Which run, and where files go."""

    task: Literal["cartpole-swingup", "walker-stand", "hopper", "cartpole"] = "cartpole-swingup"
    """The task."""
    learner: Literal["tdmpc2", "sac", "ppo"] = "tdmpc2"
    """Who learns."""
    seed: int = 0
    """Seed of everything."""
    report: bool = False
    """Write the report and the figure of the runs that are there, and train nothing."""
    work: Path = Path("runs/online")
    """Folder of the runs, TASK-SEED of `tdm online`, TASK-LEARNER-SEED.json of SB3 and its policy (.zip)."""
    out: Path = Path("benchmarks/results/online_returns.json")
    """The report."""
    plot: Path = Path("docs/online_returns.png")
    """The figure."""
    threads: int = 1
    """PyTorch's threads."""


class RepeatAction(gym.Wrapper[Any, Any, Any, Any]):
    """Every action is held for a number of environment steps; rewards add up."""

    def __init__(self, env: gym.Env[Any, Any], repeat: int) -> None:
        super().__init__(env)
        self._repeat = repeat

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Hold the action until the episode ends, at most."""
        total = 0.0
        for _ in range(self._repeat):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class Evaluating(BaseCallback):  # type: ignore[misc]
    """Plays the evaluation's episodes while SB3 trains, as `tdm online` does."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self._task = task
        self._seeds = evaluation_seeds(OnlineConfig())
        self._began = time.process_time()
        self._env = RepeatAction(EnvRef(task.env_id).make(), task.action_repeat)

    def _on_step(self) -> bool:
        env_steps = self.num_timesteps * self._task.action_repeat
        if env_steps % self._task.evaluate_every == 0 and env_steps <= self._task.steps:
            returns = [self._episode(seed) for seed in self._seeds]
            self.rows.append(
                {
                    "env_steps": env_steps,
                    "decisions": self.num_timesteps,
                    "mean_return": float(np.mean(returns)),
                    "returns": returns,
                    "cpu_seconds": time.process_time() - self._began,
                }
            )
            print(f"{env_steps} steps: {np.mean(returns):.1f}", flush=True)
        return True

    def _episode(self, seed: int) -> float:
        observation, _ = self._env.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            action, _ = self.model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = self._env.step(action)
            total, ended = total + float(reward), terminated or truncated
        return total


def sb3(task: Task, learner: str, seed: int, policy_file: Path) -> dict[str, Any]:
    """Train a policy of Stable-Baselines3 with its own settings, and keep it in ``policy_file``."""
    env = Monitor(RepeatAction(EnvRef(task.env_id).make(), task.action_repeat))
    env.reset(seed=COLLECTION_FIRST + seed)
    policy = "MultiInputPolicy" if isinstance(env.observation_space, gym.spaces.Dict) else "MlpPolicy"
    algorithm: BaseAlgorithm = SB3[learner](policy, env, seed=seed, device="cpu")
    evaluating = Evaluating(task)
    algorithm.learn(task.steps // task.action_repeat, callback=evaluating)
    algorithm.save(policy_file)
    return {"evaluations": evaluating.rows}


def tdmpc2(task: Task, seed: int, folder: Path, threads: int) -> None:
    """Train TD-MPC2 by `tdm online`; a run that is there goes on."""
    run_online(
        Online(
            env_id=(task.env_id,),
            out=folder,
            preset=task.preset,
            model_settings={"bf16": "true"},
            action_repeat=task.action_repeat,
            training=OnlineConfig(
                steps=task.steps, seed=seed, evaluate_every=task.evaluate_every, threads=threads
            ),
        )
    )


def runs(name: str, work: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The evaluations of a task's runs that have some, by learner and seed."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for path in sorted(work.glob(f"{name}-*")):
        *learner, seed = path.stem.removeprefix(f"{name}-").split("-")
        if not seed.isdecimal():
            continue
        rows: list[dict[str, Any]] = []
        if not learner and (path / CURVE_FILE).exists():
            rows = read_json(path / CURVE_FILE, schema=1)["evaluations"]
        elif len(learner) == 1 and path.suffix == ".json":
            rows = json.loads(path.read_text())["result"]["evaluations"]
        if rows:
            found[learner[0] if learner else "tdmpc2"][seed] = rows
    return found


def with_earlier(
    found: dict[str, dict[str, list[dict[str, Any]]]], earlier: Mapping[str, Any]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The runs with those of an earlier report that are not among them, or that went further."""
    for learner, known in earlier.items():
        for seed, rows in known["runs"].items():
            if len(rows) > len(found[learner].get(seed, [])):
                found[learner][seed] = rows
    return {learner: dict(sorted(seeds.items())) for learner, seeds in sorted(found.items())}


def summary(by_seed: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """IQM and mean over the episodes of all seeds, one row per number of environment steps."""
    at: dict[int, list[list[float]]] = defaultdict(list)
    for rows in by_seed.values():
        for row in rows:
            at[row["env_steps"]].append(row["returns"])
    return [
        {
            "env_steps": env_steps,
            "seeds": len(returns),
            "iqm": asdict(interval(returns, iqm)),
            "mean": asdict(interval(returns, mean)),
        }
        for env_steps, returns in sorted(at.items())
    ]


def report(settings: Settings) -> None:
    """Write the report and the figure."""
    tasks: dict[str, Any] = {}
    earlier = read_json(settings.out, schema=1)["tasks"] if settings.out.exists() else {}
    for name, task in TASKS.items():
        before = earlier[name]["learners"] if name in earlier else {}
        if found := with_earlier(runs(name, settings.work), before):
            tasks[name] = {
                "settings": asdict(task),
                "learners": {
                    learner: {"summary": summary(seeds), "runs": seeds} for learner, seeds in found.items()
                },
            }
    if not tasks:
        raise SystemExit(f"no run in {settings.work} was evaluated yet")
    keep.result(settings.out, settings, tasks=tasks)
    plot_curves(settings.plot, tasks)


def main(settings: Settings) -> None:
    """Train one run, or report all."""
    torch.set_num_threads(settings.threads)
    if settings.report:
        report(settings)
        return
    task, name = TASKS[settings.task], f"{settings.task}-{settings.seed}"
    if settings.learner not in task.learners:
        raise SystemExit(f"{settings.task} is learned by {', '.join(task.learners)}")
    if settings.learner == "tdmpc2":
        tdmpc2(task, settings.seed, settings.work / name, settings.threads)
        return
    made = {
        "env_id": task.env_id,
        "steps": task.steps,
        "action_repeat": task.action_repeat,
        "learner": settings.learner,
        "seed": settings.seed,
    }
    path = settings.work / f"{settings.task}-{settings.learner}-{settings.seed}.json"
    keep.part(path, made, lambda: sb3(task, settings.learner, settings.seed, path.with_suffix(".zip")))


if __name__ == "__main__":
    main(tyro.cli(Settings))
