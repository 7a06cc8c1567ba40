"""What do the tuned planners reach on tasks of the control suite, and how much CPU time do they take?

They play whole episodes of 1000 steps on evaluation seeds, which tuning did not see, beside random actions.
CPU seconds are those of the process, on one thread; a busy machine makes them longer. Finished episodes are
kept in ``--work``, so an interrupted run goes on; those with other settings are played again.

    python benchmarks/expert_suite.py
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from keep import part, result
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.functions import UniformActions
from tdm_agents.actors.tuned import EXPERTS, Expert, expert
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import make_env
from tdm_agents.evaluation.episodes import evaluate


@dataclass(frozen=True)
class Settings:
    """Episodes and files."""

    out: Path = Path("benchmarks/results/expert_suite.json")
    """Where to write the result."""
    work: Path = Path("runs/expert_suite")
    """Folder of finished episodes, one file per episode."""
    experts: tuple[str, ...] = tuple(
        name for name, one in EXPERTS.items() if one.env_id.startswith("dm_control/")
    )
    """Which."""
    episodes: int = 3
    """Episodes per task."""
    max_steps: int | None = None
    """Environment steps after which an episode is cut."""


def play(settings: Settings, one: Expert, seed: int) -> dict[str, Any]:
    """Play one episode."""
    began = time.process_time()
    factory = AgentFactory(one.make_model, one.make_planner())
    episode = evaluate(factory, one.env_id, [seed], seed=seed, max_steps=settings.max_steps).episodes[0]
    return {
        "seed": seed,
        "return": episode.score,
        "length": episode.length,
        "imagined_env_steps_per_step": episode.transitions * one.action_repeat / episode.length,
        "cpu_seconds_per_1000_steps": 1000.0 * (time.process_time() - began) / episode.length,
    }


def play_random(settings: Settings, one: Expert, seeds: range) -> list[float]:
    """The returns of random actions."""
    env = make_env(one.env_id)
    policy = UniformActions(env.action_space, 0)
    env.close()
    return evaluate(policy, one.env_id, seeds, max_steps=settings.max_steps).scores


def main(settings: Settings) -> None:
    """Play, print and keep."""
    torch.set_num_threads(1)
    seeds = range(EVALUATION_FIRST, EVALUATION_FIRST + settings.episodes)
    results = []
    for name in settings.experts:
        one, episodes = expert(name), []
        for seed in seeds:
            path = settings.work / f"{name}-{seed}.json"
            asked = {"expert": asdict(one), "max_steps": settings.max_steps}
            episodes.append(part(path, asked, partial(play, settings, one, seed)))
            print(
                f"{name}, seed {seed}: return {episodes[-1]['return']:.0f}, "
                f"{episodes[-1]['cpu_seconds_per_1000_steps']:.0f} CPU s for 1000 steps",
                flush=True,
            )
        results.append(
            {
                "expert": asdict(one),
                "random_returns": play_random(settings, one, seeds),
                "mean_return": sum(episode["return"] for episode in episodes) / len(episodes),
                "episodes": episodes,
            }
        )
    result(settings.out, settings, results=results)


if __name__ == "__main__":
    main(tyro.cli(Settings))
