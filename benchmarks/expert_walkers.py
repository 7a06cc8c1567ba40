"""What do the tuned planners reach on walkers, and what does PPO reach in comparable CPU time?

The planners play six bodies per family, with 7 to 20 degrees of freedom, all of the test split, which tuning
did not see: one episode of 1000 steps per body, on an evaluation seed. Beside them are random actions, and
PPO on the first body of each family, trained for the CPU time of some of the planner's episodes on that body.
CPU seconds are those of the process, on one thread; a busy machine makes them longer. Finished bodies are
kept in ``--work``, so an interrupted run goes on; those with other settings are played again.

    python benchmarks/expert_walkers.py
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from keep import part, result
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.contestant import Contestant
from tdm_agents.actors.functions import UniformActions
from tdm_agents.actors.saved_policies import find_policy, load_policy
from tdm_agents.actors.tuned import EXPERTS, expert_for
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import EnvRef, make_env
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.statistics import interval, mean
from tdm_agents.experts.reinforcement import BEST_FILE, RECORD_FILE, Training, train
from tdm_envs.walkers import FAMILIES, BodyKey, sample_bodies

BODIES_SEED = 0


@dataclass(frozen=True)
class Settings:
    """Bodies, episodes and files."""

    out: Path = Path("benchmarks/results/expert_walkers.json")
    """Where to write the result."""
    work: Path = Path("runs/expert_walkers")
    """Folder of finished bodies, one file per body."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """Families."""
    bodies: int = 6
    """Bodies per family."""
    dof: tuple[int, int] = (7, 20)
    """Fewest and most degrees of freedom."""
    steps: int = 1000
    """Environment steps per episode."""
    ppo_bodies: int = 1
    """Bodies per family on which PPO is trained."""
    ppo_episodes: float = 5.0
    """PPO's CPU time, in episodes of the planner on the same body."""


def play(settings: Settings, key: BodyKey, contestant: Contestant) -> dict[str, Any]:
    """Play one episode: its mean reward per step, and CPU seconds per 1000 steps."""
    make = partial(make_env, key.env_id, dof=key.dof, body=key.body)
    began = time.process_time()
    found = evaluate(contestant, make, [EVALUATION_FIRST], seed=0, max_steps=settings.steps)
    episode = found.episodes[0]
    return {
        "mean_reward": episode.score / episode.length,
        "cpu_seconds_per_1000_steps": 1000.0 * (time.process_time() - began) / episode.length,
        "imagined_env_steps_per_step": episode.transitions
        * (expert_for(EnvRef(key.env_id)).action_repeat if episode.transitions else 0)
        / episode.length,
    }


def play_planner(settings: Settings, key: BodyKey) -> dict[str, Any]:
    """Play the expert of the family, and random actions."""
    one = expert_for(EnvRef(key.env_id))
    env = make_env(key.env_id, dof=key.dof, body=key.body)
    random = play(settings, key, UniformActions(env.action_space, 0))
    env.close()
    planner = play(settings, key, AgentFactory(one.make_model, one.make_planner()))
    return asdict(key) | {"random": random["mean_reward"], "planner": planner}


def ppo_training(key: BodyKey, cpu_seconds: float) -> Training:
    """The settings of PPO on a body, for the given CPU time."""
    return Training(
        env=EnvRef(key.env_id, {"dof": key.dof, "body": key.body}),
        cpu_seconds=cpu_seconds,
        steps=10**9,
        evaluate_every=24_576,
        evaluation_episodes=1,
    )


def play_ppo(settings: Settings, key: BodyKey, training: Training, folder: Path) -> dict[str, Any]:
    """Train PPO, and play its best policy on the planner's episode."""
    (folder / BEST_FILE).unlink(missing_ok=True)  # left by another run
    train(training, folder)
    record = json.loads((folder / RECORD_FILE).read_text())
    best = play(settings, key, load_policy(find_policy(folder / BEST_FILE)))
    return asdict(key) | {
        "cpu_seconds": training.cpu_seconds,
        "mean_reward": best["mean_reward"],
        "training": record["training"],
        "evaluations": record["evaluations"],
    }


def main(settings: Settings) -> None:
    """Play, print and keep."""
    torch.set_num_threads(1)
    rows, ppo = [], []
    for family in settings.families:
        for key in sample_bodies(family, settings.bodies, "test", BODIES_SEED, dof=settings.dof):
            path = settings.work / f"{family}-{key.dof}-{key.body}.json"
            asked = {"expert": asdict(expert_for(EnvRef(key.env_id))), "steps": settings.steps}
            rows.append(part(path, asked, partial(play_planner, settings, key)))
            found = rows[-1]["planner"]
            print(
                f"{key}: {found['mean_reward']:.2f} per step (random {rows[-1]['random']:.2f}), "
                f"{found['cpu_seconds_per_1000_steps']:.1f} CPU s",
                flush=True,
            )
    for family in settings.families:
        for row in [row for row in rows if row["family"] == family][: settings.ppo_bodies]:
            key = BodyKey(row["family"], row["dof"], row["body"])
            budget = settings.ppo_episodes * row["planner"]["cpu_seconds_per_1000_steps"]
            training = ppo_training(key, budget)
            folder = settings.work / f"ppo-{family}-{key.dof}-{key.body}"
            asked = {"training": asdict(training), "steps": settings.steps}
            make = partial(play_ppo, settings, key, training, folder)
            ppo.append(part(folder.with_suffix(".json"), asked, make))
            print(
                f"{key}: PPO {ppo[-1]['mean_reward']:.2f} per step after {ppo[-1]['cpu_seconds']:.0f} CPU s",
                flush=True,
            )
    rewards = [row["planner"]["mean_reward"] for row in rows]
    seconds = [row["planner"]["cpu_seconds_per_1000_steps"] for row in rows]
    average = interval(rewards, mean)
    summary = {
        "bodies": len(rows),
        "mean_reward": average.value,
        "mean_reward_low": average.low,
        "mean_reward_high": average.high,
        "random": sum(row["random"] for row in rows) / len(rows),
        "cpu_seconds_per_1000_steps": sum(seconds) / len(seconds),
        "cpu_seconds_most": max(seconds),
    }
    print(json.dumps(summary, indent=2))
    result(
        settings.out,
        settings,
        bodies_seed=BODIES_SEED,
        reset_seed=EVALUATION_FIRST,
        experts={n: asdict(one) for n, one in EXPERTS.items() if n.startswith("walker-") and one.guide},
        summary=summary,
        bodies=rows,
        ppo=ppo,
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
