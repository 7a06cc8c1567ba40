"""What is gained and lost if the shipped agent imagines in bfloat16 instead of float32, on one core?

    python benchmarks/bf16_imagination.py
    python benchmarks/bf16_imagination.py --returns  # and ten episodes of both, an hour on a quiet core

Both decide in turn, on the same histories; medians count. What has been played is kept (``--parts``), so that
an interrupted run goes on.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from keep import part, result
from tdm_agents import TDMAgent, TransformerWorldModel
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import make_env
from tdm_agents.evaluation.as_json import evaluation_to_json
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import summary
from tdm_agents.protocols import Planner
from tdm_agents.world_models.transformer.cpu.tiles import has_tiles

WAYS = {"float32": False, "bfloat16": True}


@dataclass(frozen=True)
class Settings:
    """What is measured, and where it is kept."""

    checkpoint: str = "cartpole-swingup"
    """Folder or name of the agent."""
    decisions: int = 12
    """Decisions that are timed, per way."""
    episodes: int = 10
    """Episodes per way, on evaluation seeds."""
    returns: bool = False
    """Whether to play the episodes."""
    ways: tuple[str, ...] = tuple(WAYS)
    """The ways whose episodes are played."""
    parts: Path = Path("runs/bf16_imagination")
    """Folder of the parts."""
    out: Path = Path("benchmarks/results/bf16_imagination.json")
    """Where the result is kept."""


def agent(settings: Settings, *, bf16: bool) -> TDMAgent:
    """The agent, with its own planner, scored by its environment's reward function."""
    shipped = TDMAgent.load(settings.checkpoint)
    model = load_model(resolve(settings.checkpoint), "cpu")
    assert isinstance(model, TransformerWorldModel)
    planner: Planner = shipped.planner
    env_id = shipped.env_id
    return TDMAgent(model.with_decoding(bf16=bf16), planner, seed=0, env_id=env_id, reward_function=env_id)


def speed(settings: Settings) -> dict[str, Any]:
    """Seconds per decision of both, deciding in turn along one episode, and how far apart decisions are."""
    agents = {way: agent(settings, bf16=bf16) for way, bf16 in WAYS.items()}
    env_id = agents["float32"].env_id
    assert env_id is not None
    env = make_env(env_id)
    observation, _ = env.reset(seed=0)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for each in agents.values():
        each.reset()
    for step in range((1 + settings.decisions) * agents["float32"].model.spec.action_repeat):
        for way, each in agents.items():
            began = time.perf_counter()
            action = each.act(observation)
            if step and step % each.model.spec.action_repeat == 0:  # else the last action is held
                seconds[way].append(time.perf_counter() - began)
        observation, *_ = env.step(action)
    env.close()
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    ratios = [old / new for old, new in zip(seconds["float32"], seconds["bfloat16"], strict=True)]
    return {"seconds": seconds, "medians": medians, "times_as_fast": statistics.median(ratios)}


def episodes(settings: Settings, way: str) -> dict[str, Any]:
    """Returns, and their summary."""
    playing = agent(settings, bf16=WAYS[way])
    seeds = range(EVALUATION_FIRST, EVALUATION_FIRST + settings.episodes)
    assert playing.env_id is not None
    with ProgressBar(way) as progress:
        found = evaluate(playing, playing.env_id, seeds, seed=0, on_step=progress)
    return {"summary": summary(found), "evaluation": evaluation_to_json(found)}


def main(settings: Settings) -> None:
    """Measure, print and keep."""
    if not has_tiles():
        raise SystemExit("this processor has no AMX for bfloat16, in which the agent would imagine")
    torch.set_num_threads(1)
    played = {
        way: part(
            settings.parts / f"{way}.json",
            {"checkpoint": settings.checkpoint, "episodes": settings.episodes, "way": way},
            partial(episodes, settings, way),
        )
        for way in (settings.ways if settings.returns else ())
    }
    measured = speed(settings)
    table = Table("", "ms per decision", "IQM of returns", title=settings.checkpoint)
    for way in WAYS:
        iqm = (
            "{iqm:.0f} [{iqm_low:.0f}, {iqm_high:.0f}]".format(**played[way]["summary"])
            if way in played
            else ""
        )
        table.add_row(way, f"{1e3 * measured['medians'][way]:.0f}", iqm)
    Console().print(table)
    print(f"{measured['times_as_fast']:.2f} times as fast")
    weights = resolve(settings.checkpoint) / "weights.safetensors"
    result(settings.out, settings, weights=weights, speed=measured, episodes=played)


if __name__ == "__main__":
    main(tyro.cli(Settings))
