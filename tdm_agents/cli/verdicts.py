"""What ``tdm train`` says of a model at its end: a table of errors, and a verdict, which is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tdm_agents.agent import TDMAgent
from tdm_agents.agent.agent_files import AgentSettings
from tdm_agents.cli.training_table import training_table
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import is_mistake
from tdm_agents.evaluation.decision_time import milliseconds_per_decision
from tdm_agents.protocols import Planner, TrainableModel
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.verdict import Verdict, judge, keep

MEASURING_SECONDS = 60.0
"""After which no further environment of a model of several is measured."""


def say_and_keep(
    folder: Path,
    model: TrainableModel,
    held_out: Mapping[str, Trajectories],
    config: TrainConfig,
    *,
    planner: Planner,
    settings: AgentSettings,
    metrics: Mapping[str, float],
    console: Console,
) -> dict[str, Verdict]:
    """Judge a trained model, print errors and verdicts, and write the latter to ``folder/verdict.json``.

    Args:
        folder: Of the run.
        model: In evaluation mode.
        held_out: Episodes by environment.
        config: Of the run.
        planner: What ``agent.json`` names.
        settings: What ``agent.json`` says.
        metrics: The last evaluation.
        console: Where to print.
    """
    verdicts, lines, began = {}, list[str](), time.monotonic()
    for name, episodes in held_out.items():
        world = model.environment(name)
        verdict = judge(world, episodes, config, planner=planner, name=settings.planner)
        label = f"{name}: " if len(held_out) > 1 else ""
        if time.monotonic() - began < MEASURING_SECONDS:
            try:
                agent = TDMAgent(world, planner, env_id=name, reward_function=settings.reward_function)
                measured = milliseconds_per_decision(agent, episodes.episode(0))
            except ValueError as error:
                if not is_mistake(error):
                    raise
                lines.append(f"{label}the planner finds no plan: {error}")
            else:
                verdict = replace(verdict, milliseconds=measured)
        verdicts[name] = verdict
        lines += [label + line for line in verdict.lines()]
    if (table := training_table(verdicts, metrics)) is not None:
        console.print(table)
    for line in lines:
        loud = "bold red" if "WARNING" in line else None
        console.print(line, highlight=False, markup=False, soft_wrap=True, style=loud)
    keep(folder, verdicts)
    return verdicts
