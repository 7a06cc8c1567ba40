"""Write the agent of an online run into the package, as small and as fast as it plays well.

Its weights are rounded to bfloat16, but for LayerNorms and the last layers of values, as they are while it
plans with ``bf16``. It is shipped to plan in float32, which every processor can do. Then episodes are played
on the seeds of ``tdm evaluate`` with the planner that it learned with, with smaller ones, and with its policy
alone; of those whose IQM is at least ``share`` of the learned planner's, the one that imagines least is
shipped. Milliseconds are those of one environment and one thread, over 200 decisions, the planners in turns.

    python benchmarks/ship_tdmpc2.py
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import keep
from decision_times import milliseconds
from tdm_agents import TDMAgent, evaluate
from tdm_agents.agent import agent_files
from tdm_agents.evaluation.report import make_report, summary, write_report
from tdm_agents.online.curve import CURVE_FILE
from tdm_agents.protocols import Planner
from tdm_agents.registry import make_planner
from tdm_agents.storage import read_json
from tdm_agents.world_models.model_files import write_model
from tdm_agents.world_models.tdmpc2.tdmpc2_model import TDMPC2

PRECISE = (".norm.", "gains", "shifts", "q.weights.2", "q.biases.2", "scale", "discount", "centres")
"""Parts of the names of tensors that keep their precision."""


EFFORTS = {
    "learned with": {},
    "128 x 3": {"num_samples": 128, "iterations": 3, "num_elites": 16, "num_policy": 24},
    "64 x 2": {"num_samples": 64, "iterations": 2, "num_elites": 8, "num_policy": 16},
    "32 x 2": {"num_samples": 32, "iterations": 2, "num_elites": 8, "num_policy": 8},
    "32 x 1": {"num_samples": 32, "iterations": 1, "num_elites": 8, "num_policy": 8},
}
"""Candidates times iterations: what differs from the planner that it learned with, most work first."""
POLICY = "policy alone"


@dataclass(frozen=True)
class Settings:
    """Files and episodes."""

    run: Path = Path("runs/online/cartpole-swingup-0")
    """The run of `benchmarks/online_returns.py`."""
    checkpoint: Path = Path("tdm_agents/checkpoints/cartpole-swingup-tdmpc2")
    """The folder that is shipped."""
    out: Path = Path("benchmarks/results/ship_tdmpc2.json")
    """File of returns, times, sizes and hashes."""
    episodes: int = 10
    """Episodes of each planner, side by side."""
    max_steps: int | None = None
    """Environment steps after which one is cut."""
    share: float = 0.98
    """Of the learned planner's IQM, which the shipped one keeps."""
    rounds: int = 5
    """Turns of each planner while milliseconds are measured, after one that does not count."""


def exported(run: Path, checkpoint: Path) -> None:
    """Write the rounded agent of a run's last evaluation."""
    model = TDMPC2.load(run)
    model.config = dataclasses.replace(model.config, bf16=False)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not any(part in name for part in PRECISE):
            tensor.data = tensor.data.to(torch.bfloat16)
    write_model(checkpoint, "tdmpc2", model, spec=model.spec, config=model.config)
    agent_files.write_settings(checkpoint, agent_files.read_settings(run))


def planners_of(agent: TDMAgent) -> dict[str, Planner]:
    """The learned planner, smaller ones, and none."""
    sizes = {name: dataclasses.replace(agent.planner, **change) for name, change in EFFORTS.items()}  # type: ignore[type-var]
    return {**sizes, POLICY: make_planner("policy")}


def main(settings: Settings) -> None:
    """Export, play with every planner, choose, keep."""
    torch.set_num_threads(1)
    exported(settings.run, settings.checkpoint)
    learned = TDMAgent.load(settings.checkpoint)
    env_id = learned.env_id
    assert env_id is not None
    agents = {
        name: TDMAgent(learned.model, planner, env_id=env_id)
        for name, planner in planners_of(learned).items()
    }
    load = os.getloadavg()[0]
    times = milliseconds(agents, env_id, settings.rounds)
    results = {
        name: evaluate(agent, env_id, range(settings.episodes), max_steps=settings.max_steps)
        for name, agent in agents.items()
    }
    rows = {
        name: {**summary(played), "milliseconds_per_decision": times[name]}
        for name, played in results.items()
    }
    enough = settings.share * rows["learned with"]["iqm"]
    shipped = [name for name in EFFORTS if rows[name]["iqm"] >= enough][-1]
    agent = agents[shipped]
    settings_file = agent_files.read_settings(settings.run)
    changed = {**settings_file.planner_settings, **EFFORTS[shipped]}
    agent_files.write_settings(
        settings.checkpoint, dataclasses.replace(settings_file, planner_settings=changed)
    )
    evaluations = read_json(settings.run / CURVE_FILE, schema=1)["evaluations"]
    weights = settings.checkpoint / "weights.safetensors"
    write_report(
        settings.checkpoint / "evaluation.json",
        make_report(
            "TD-MPC2, mppi",
            results[shipped],
            settings={
                "planner": type(agent.planner).__name__,
                "planner_settings": agent.planner,
                "action_repeat": agent.model.spec.action_repeat,
                "threads": 1,
                "seed": 0,
                "env_steps": evaluations[-1]["env_steps"],
            },
            weights=weights,
        ),
    )
    keep.result(
        settings.out,
        settings,
        weights=weights,
        load_before=load,
        shipped=shipped,
        planners=rows,
        returns={name: played.scores for name, played in results.items()},
        bytes=sum(path.stat().st_size for path in settings.checkpoint.iterdir()),
        learned={name: evaluations[-1][name] for name in ("env_steps", "updates", "cpu_seconds")},
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
