"""Write the agent of an online run into the package, as small as it plays, and play it.

Its weights are rounded to bfloat16, but for LayerNorms and the last layers of values, as they are while it
plans with ``bf16``. It is shipped to plan in float32, which every processor can do. Then ten episodes are
played on the seeds of ``tdm evaluate``, one after another on one core, so that a decision's milliseconds are
those of one environment.

    python benchmarks/ship_tdmpc2.py
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import keep
from tdm_agents import TDMAgent, evaluate
from tdm_agents.agent import agent_files
from tdm_agents.evaluation.report import make_report, summary, write_report
from tdm_agents.online.curve import CURVE_FILE
from tdm_agents.storage import read_json
from tdm_agents.world_models.model_files import write_model
from tdm_agents.world_models.tdmpc2.tdmpc2_model import TDMPC2

PRECISE = (".norm.", "gains", "shifts", "q.weights.2", "q.biases.2", "scale", "discount", "centres")
"""Parts of the names of tensors that keep their precision."""


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
    """Episodes."""
    max_steps: int | None = None
    """Environment steps after which one is cut."""


def exported(run: Path, checkpoint: Path) -> None:
    """Write the rounded agent of a run's last evaluation."""
    model = TDMPC2.load(run)
    model.config = dataclasses.replace(model.config, bf16=False)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not any(part in name for part in PRECISE):
            tensor.data = tensor.data.to(torch.bfloat16)
    write_model(checkpoint, "tdmpc2", model, spec=model.spec, config=model.config)
    agent_files.write_settings(checkpoint, agent_files.read_settings(run))


def main(settings: Settings) -> None:
    """Export, play, keep."""
    torch.set_num_threads(1)
    exported(settings.run, settings.checkpoint)
    agent = TDMAgent.load(settings.checkpoint)
    assert agent.env_id is not None
    played = evaluate(agent, agent.env_id, range(settings.episodes), batch=1, max_steps=settings.max_steps)
    evaluations = read_json(settings.run / CURVE_FILE, schema=1)["evaluations"]
    weights = settings.checkpoint / "weights.safetensors"
    write_report(
        settings.checkpoint / "evaluation.json",
        make_report(
            "TD-MPC2, mppi",
            played,
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
        summary=summary(played),
        returns=played.scores,
        bytes=sum(path.stat().st_size for path in settings.checkpoint.iterdir()),
        learned={name: evaluations[-1][name] for name in ("env_steps", "updates", "cpu_seconds")},
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
