"""What does the paper's experiment with 10,000 bodies and 362 M parameters cost, on paper?

Nothing is run. Numbers of tokens follow from the episodes. Operations follow from the network's shape:
forward and, twice as much, backward, with attention. The preset has more parameters than the paper says,
because its feed-forward layers are gated, so ``6 N D`` with the paper's number stands beside it. GPU-hours
are operations over the data sheet's peak of dense bfloat16 products and an assumed share of it. Those of the
evaluation are a floor: each forward takes the longer of its products and its reads, at the peaks. CPU-hours
of collection come from rates that ``benchmarks/walkers_speed.py``, ``benchmarks/expert_walkers.py`` and
``benchmarks/ray_pool.py`` measured on one core.

    python benchmarks/cost_plan.py
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import gymnasium as gym
import numpy as np
import tyro

from keep import result
from speed.roofline import DecisionShape, decision_cost
from speed.training import TrainingShape, training_flops
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.presets import CONFIGS

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Gpu:
    """Peaks of a GPU, from its maker's data sheet."""

    flops_per_second: float
    """Dense products of bfloat16."""
    bytes_per_second: float
    """Reads of its memory."""


GPUS = {
    "H200 SXM": Gpu(989e12, 4.8e12),
    "H100 SXM": Gpu(989e12, 3.35e12),
    "A100 80GB SXM": Gpu(312e12, 2.04e12),
    "L4": Gpu(121e12, 0.3e12),
}


@dataclass(frozen=True)
class Settings:
    """The experiment."""

    out: Path = Path("benchmarks/results/cost_plan.json")
    """Where to write the result."""
    preset: str = "gato-364m"
    """The transformer."""
    paper_parameters: float = 362e6
    """Number of parameters that the paper says."""
    bodies: int = 10_000
    """Number of bodies that are trained on, spread evenly over the degrees of freedom."""
    dofs: tuple[int, int] = (4, 20)
    """Fewest and most degrees of freedom."""
    random_episodes: int = 20
    """Random episodes per body."""
    expert_episodes: int = 20
    """Episodes of the tuned planner per body."""
    steps: int = 1_000
    """Environment steps per episode."""
    action_repeat: int = 2
    """Environment steps per decision."""
    passes: float = 1.0
    """How often each token is trained on."""
    utilisation: float = 0.4
    """Assumed share of the peak that training reaches; larger runs elsewhere report 0.3 to 0.5."""
    unseen_bodies: int = 10
    """Bodies of the evaluation, per kind of body."""
    kinds: int = 4
    """Kinds of bodies (families of walkers)."""
    episodes: int = 10
    """Episodes of the evaluation per body, planned for together."""
    num_samples: int = 32
    """Candidates per decision."""
    horizon: int = 8
    """Imagined decisions per candidate."""


def observation_dim(dof: int) -> int:
    """Scalars of a walker's observation."""
    return 13 + 2 * dof


def parameters(preset: str, dof: int) -> int:
    """Number of parameters, counted on the meta device."""
    box = gym.spaces.Box(-1, 1, (observation_dim(dof),)), gym.spaces.Box(-1, 1, (dof,))
    network = TransformerNetwork(CONFIGS[preset].network(spec_of(*box)), "meta")
    return sum(p.numel() for p in network.parameters())


def training_shape(preset: str, dof: int) -> TrainingShape:
    """One window of a body."""
    return TrainingShape(
        config=CONFIGS[preset],
        observation_dim=observation_dim(dof),
        action_dim=dof,
        windows=1,
        bf16=True,
    )


def data(settings: Settings) -> dict[str, float]:
    """Episodes, decisions, tokens, and bytes as float32."""
    dofs = _dofs(settings)
    episodes = settings.bodies * (settings.random_episodes + settings.expert_episodes)
    decisions = episodes * settings.steps // settings.action_repeat
    tokens = mean(training_shape(settings.preset, dof).decision.layout.tokens for dof in dofs)
    scalars = mean(observation_dim(dof) + dof + 1 for dof in dofs)
    return {
        "episodes": episodes,
        "decisions": decisions,
        "tokens": decisions * tokens,
        "bytes": episodes * settings.steps * scalars * 4,
    }


def training(settings: Settings, tokens: float) -> dict[str, Any]:
    """Operations of the training, and GPU-hours by GPU."""
    shapes = [training_shape(settings.preset, dof) for dof in _dofs(settings)]
    # bodies of more degrees of freedom have more tokens; an operation is per token
    weights = [shape.decision.layout.tokens for shape in shapes]
    per_token = float(np.average([training_flops(shape) / shape.length for shape in shapes], weights=weights))
    count = parameters(settings.preset, settings.dofs[1])
    flops = per_token * tokens * settings.passes
    of_paper = 6.0 * settings.paper_parameters * tokens * settings.passes

    def hours(operations: float) -> dict[str, float]:
        return {
            name: operations / (gpu.flops_per_second * settings.utilisation) / 3600
            for name, gpu in GPUS.items()
        }

    return {
        "parameters": count,
        "state_bytes": 16 * count,  # weights, gradients and two moments of AdamW, float32
        "flops": flops,
        "gpu_hours": hours(flops),
        "flops_of_paper": of_paper,
        "gpu_hours_of_paper": hours(of_paper),
    }


def evaluation(settings: Settings) -> dict[str, Any]:
    """The floor of the evaluation's decisions in GPU-hours, by GPU."""
    per_gpu = dict.fromkeys(GPUS, 0.0)
    dofs = _dofs(settings)
    decisions = settings.unseen_bodies * settings.kinds * settings.steps // settings.action_repeat
    for dof in dofs:
        cost = decision_cost(
            DecisionShape(
                observation_dim=observation_dim(dof),
                action_dim=dof,
                num_samples=settings.num_samples,
                horizon=settings.horizon,
                config=CONFIGS[settings.preset],
                history_steps=1000,
                batch=settings.episodes,
            )
        )
        for name, gpu in GPUS.items():
            seconds = cost.call_floor_seconds(
                flops_per_second=gpu.flops_per_second, bytes_per_second=gpu.bytes_per_second, number_bytes=2
            )
            per_gpu[name] += decisions * seconds / 3600 / len(dofs)
    return {"batched_decisions": decisions, "gpu_hours_floor": per_gpu}


def collection(settings: Settings) -> dict[str, float]:
    """CPU-hours of the collection on cores like this machine's."""
    speeds = {
        int(row["env"].split()[1]): row["median"]
        for row in _measured("walkers_speed.json")["steps_per_second"]
        if row["env"].startswith("walkers")
    }
    seconds_per_step = mean(
        np.interp(dof, list(speeds), [1 / speed for speed in speeds.values()]) for dof in _dofs(settings)
    )
    expert = mean(
        body["planner"]["cpu_seconds_per_1000_steps"] for body in _measured("expert_walkers.json")["bodies"]
    )
    overhead = _measured("ray_pool.json")["empty_tasks"]["ray"]["milliseconds"] / 1e3
    each = settings.bodies * settings.steps / 3600
    return {
        "random": settings.random_episodes * each * seconds_per_step,
        "expert": settings.expert_episodes * each * expert / 1000,
        "handing_out_on_ray": data(settings)["episodes"] * overhead / 3600,
    }


def _dofs(settings: Settings) -> list[int]:
    return list(range(settings.dofs[0], settings.dofs[1] + 1))


def _measured(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return found


def main(settings: Settings) -> None:
    """Compute, print and keep."""
    there = data(settings)
    found: dict[str, Any] = {
        "data": there,
        "training": training(settings, there["tokens"]),
        "evaluation": evaluation(settings),
        "collection_cpu_hours": collection(settings),
        "gpus": {name: asdict(gpu) for name, gpu in GPUS.items()},
    }
    print(json.dumps(found, indent=2))
    result(settings.out, settings, **found)


if __name__ == "__main__":
    main(tyro.cli(Settings))
