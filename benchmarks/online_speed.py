"""How long do an update and a decision of a TD-MPC2 take, beside the MLP and the bundled TDM?

Sizes are those of cartpole-swingup. An update reads what `tdm online` gives it, 256 windows of 4 decisions; a
decision is that of the preset, or of the bundled agent. Contestants take turns, and medians count. Seconds of
the CPU are kept beside the clock's: a busy machine leaves them alone.

    python benchmarks/online_speed.py
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from keep import result
from tdm_agents import TDMAgent, make_planner
from tdm_agents.cli.checks import at_least, output_file, usable_device
from tdm_agents.protocols import Batch, ModelSpec, UpdateSettings
from tdm_agents.training.model_choice import trainable_class

TASK = "cartpole-swingup"


@dataclass(frozen=True)
class Settings:
    """Contestants, effort and file."""

    sizes: tuple[str, ...] = ("1m", "5m")
    """Sizes of TD-MPC2."""
    device: str = "cpu"
    """Device to compute on."""
    threads: int = 1
    """Threads of torch."""
    batch_size: int = 256
    """Windows per update."""
    repeats: int = 9
    """Updates and decisions of each contestant, after one that does not count."""
    out: Path = Path("benchmarks/results/online_speed.json")
    """Where to keep the result."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model that learns and the agent that plans with it.

    Attributes:
        agent: The agent.
        model: Its model.
        optimizers: Of the model.
        update: Settings of an update.
    """

    agent: TDMAgent
    model: Any
    optimizers: Any
    update: UpdateSettings


def main(settings: Settings) -> None:
    """Measure, print and keep."""
    at_least(1, threads=settings.threads, batch_size=settings.batch_size, repeats=settings.repeats)
    output_file(settings.out)
    device = usable_device(settings.device)
    torch.set_num_threads(settings.threads)
    found = contestants(settings, device)
    batch = random_batch(found["tdm"].model.spec, settings.batch_size, device)
    load = os.getloadavg()[0]
    times: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in found}
    for turn in range(settings.repeats + 1):
        for name, one in found.items():
            works: dict[str, Callable[[], None]] = {
                "update": partial(update, one, batch, turn),
                "decision": decision(one),
            }
            for what, work in works.items():
                taken = timed(work, device)
                if turn:
                    times[name].setdefault(what, []).append(taken)
    rows = {name: {what: row(taken) for what, taken in of.items()} for name, of in times.items()}
    for name, of in rows.items():
        print(name, {what: f"{1e3 * one['cpu_seconds']:.1f} ms of CPU" for what, one in of.items()})
    loads = {"first": load, "last": os.getloadavg()[0], "cores": os.cpu_count()}
    result(settings.out, settings, load=loads, rows=rows)


def contestants(settings: Settings, device: torch.device) -> dict[str, Contestant]:
    """TD-MPC2 in its sizes and precisions, the MLP, and the bundled TDM."""
    tdm = TDMAgent.load(TASK, device=device, reward_function="predicted")
    spec = tdm.model.spec
    found = {}
    for size in settings.sizes:
        for precision in ("float32", "bfloat16"):
            bf16 = precision == "bfloat16"
            found[f"tdmpc2-{size}-{precision}"] = built("tdmpc2", size, spec, device, bf16=bf16)
    found["mlp"] = built("mlp", None, spec, device)
    found["tdm"] = learner(tdm, tdm.base_model)
    return found


def built(name: str, size: str | None, spec: ModelSpec, device: torch.device, **changes: bool) -> Contestant:
    """A new model of a preset, and the preset's planner."""
    kind = trainable_class(name)
    presets = kind.presets()
    preset = next(iter(presets.values())) if size is None else presets[size]
    model = kind.build({TASK: spec}, replace(preset.config, **changes), seed=0).to(device).eval()
    planner = make_planner(preset.planner, **preset.planner_settings)
    return learner(TDMAgent(model.environment(TASK), planner), model)


def learner(agent: TDMAgent, model: Any) -> Contestant:
    """A contestant with new optimizers."""
    settings = UpdateSettings()
    return Contestant(agent, model, model.optimizers(settings), settings)


def random_batch(spec: ModelSpec, count: int, device: torch.device, steps: int = 4) -> Batch:
    """Windows of random numbers."""
    generator = torch.Generator("cpu").manual_seed(0)
    made: dict[str, Any] = {"device": "cpu", "dtype": torch.float32, "generator": generator}
    yes = torch.ones(count, steps, dtype=torch.bool, device="cpu")
    acted = yes.clone()
    acted[:, -1] = False
    return Batch(
        observation=torch.randn(count, steps, spec.observation_dim, **made),
        reward=torch.rand(count, steps, **made),
        action=torch.rand(count, steps, spec.action_dim, **made) * 2 - 1,
        alive=yes,
        valid=yes,
        acted=acted,
    ).to(device)


def update(one: Contestant, batch: Batch, step: int) -> None:
    """Make one update."""
    generator = torch.Generator(batch.reward.device).manual_seed(step)
    one.model.train()
    one.model.update(batch, one.optimizers, step=step, settings=one.update, generator=generator)
    one.model.eval()


def decision(one: Contestant) -> Callable[[], None]:
    """One decision in the middle of an episode: history is as long as the model reads."""
    agent, spec = one.agent, one.agent.model.spec
    generator = torch.Generator("cpu").manual_seed(0)
    memory = agent.initial_memory(1)
    observation = torch.randn(1, spec.observation_dim, generator=generator, device="cpu").to(spec.device)
    for _ in range(spec.history_steps):
        memory = memory.append(observation)
    memory = replace(memory, since=torch.zeros_like(memory.since))

    def decide() -> None:
        agent.decide(memory, observation)

    return decide


def timed(work: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Seconds by the clock and seconds of the CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, time.process_time() - cpu


def row(taken: list[tuple[float, float]]) -> Mapping[str, float]:
    """Medians, and how often per second that is."""
    clock, cpu = (statistics.median(one) for one in zip(*taken, strict=True))
    return {"seconds": clock, "cpu_seconds": cpu, "hz": 1 / clock, "cpu_hz": 1 / cpu}


if __name__ == "__main__":
    main(tyro.cli(Settings))
