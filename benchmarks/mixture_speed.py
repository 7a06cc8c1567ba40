"""Does training on a mixture of 60 bodies cost more than training on one of the mean size?

Training tokens per second (drawing windows, forward, backward, AdamW) with the same network are measured, in
turn in one run, of:

- ``single``: windows of one body of the mean size;
- ``mixture``: windows of walkers of 4 to 20 hinges, all in one forward, as a generalist trains;
- ``parts``: the same windows and the same loss, with one forward per environment, as before.

A walker of ``dof`` hinges has ``n = 13 + 2 dof`` and ``m = dof``. The data have these sizes, but they are
random numbers, since speed does not depend on their values. Seconds are CPU time of one thread, so that other
processes count less.

    python benchmarks/mixture_speed.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from gymnasium import spaces
from torch import Tensor

from tdm_agents.data.decisions import Decisions
from tdm_agents.data.mixture import MixtureSampler
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.report import provenance
from tdm_agents.protocols import MixedBatch
from tdm_agents.storage import write_json
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.presets import CONFIGS

CONTEXT_STEPS = 3  # of the largest body, as `tdm train` chooses where a preset's context holds less than one


@dataclass(frozen=True)
class Settings:
    """Models, updates and files."""

    out: Path = Path("benchmarks/results/mixture_speed.json")
    """Where to write the result."""
    preset: str = "small"
    """Preset of the transformer."""
    bodies: int = 60
    """Number of environments in the mixture."""
    dof: tuple[int, int] = (4, 20)
    """Fewest and most hinges; those between are evenly spaced."""
    windows: int = 24
    """Windows per update."""
    window_steps: int = 12
    """Decision steps per window."""
    updates: int = 2
    """Updates of each way per round."""
    rounds: int = 9
    """Rounds in which all ways take their turn."""
    seed: int = 0
    """Seed of data, weights and windows."""


def walker(dof: int, seed: int, *, episodes: int = 4, steps: int = 200) -> Trajectories:
    """Random episodes with a walker's sizes."""
    rng = np.random.default_rng([seed, dof])
    n, rows = 13 + 2 * dof, episodes * steps
    reward = rng.random(rows).astype(np.float32)
    reward[::steps] = np.nan
    flat = Decisions(
        observation=rng.normal(size=(rows, n)).astype(np.float32),
        reward=reward,
        action=rng.uniform(-1, 1, (rows, dof)).astype(np.float32),
        alive=np.ones(rows, bool),
    )
    observed, acted = spaces.Box(-np.inf, np.inf, (n,)), spaces.Box(-1.0, 1.0, (dof,))
    info = TrajectoryInfo("", observed, acted, 1, ("",))
    return Trajectories.from_arrays(flat, offsets=np.arange(episodes + 1) * steps, info=info)


def together(model: Generalist, batch: MixedBatch, generator: torch.Generator) -> Tensor:
    """The loss of a mixture."""
    loss: Tensor = model(batch, generator=generator)[0]
    return loss


def in_parts(model: Generalist, batch: MixedBatch, generator: torch.Generator) -> Tensor:
    """The same loss with one forward per environment."""
    losses = [
        len(part.reward) / batch.windows * model.environment(name)(part, generator=generator)[0]
        for name, part in batch.parts.items()
    ]
    return torch.stack(losses).sum()


def trainer(
    settings: Settings,
    data: dict[str, Trajectories],
    loss: Callable[[Generalist, MixedBatch, torch.Generator], Tensor],
) -> Callable[[int], int]:
    """A function that makes update ``step`` of a new model, and returns its number of tokens."""
    high = settings.dof[1]
    config = replace(
        CONFIGS[settings.preset],
        context=CONTEXT_STEPS * (15 + 3 * high),
        max_observation=13 + 2 * high,
        max_action=high,
    )
    torch.manual_seed(settings.seed)
    model = Generalist({name: trajectories.spec for name, trajectories in data.items()}, config)
    model.fit(data)
    model.train()
    sampler = MixtureSampler(
        data, steps=settings.window_steps, batch_size=settings.windows, seed=settings.seed
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def update(step: int) -> int:
        batch = sampler.batch(step)
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad(set_to_none=True)
        loss(model, batch, generator).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return sum(
            part.reward.numel() * (part.observation.shape[2] + part.action.shape[2] + 2)
            for part in batch.parts.values()
        )

    return update


def measure(settings: Settings) -> dict[str, Any]:
    """Tokens per second of every way in turn, by round, and medians of rates and ratios."""
    low, high = settings.dof
    sizes = np.linspace(low, high, settings.bodies).round().astype(int).tolist()
    walkers = {f"walker {i} of {dof} hinges": walker(dof, settings.seed + i) for i, dof in enumerate(sizes)}
    mean = round(statistics.fmean(sizes))
    ways = {
        "single": trainer(settings, {"single": walker(mean, settings.seed)}, together),
        "mixture": trainer(settings, walkers, together),
        "parts": trainer(settings, walkers, in_parts),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for update in ways.values():  # the first ones reserve memory
        update(0)
    for turn in range(settings.rounds):
        for way, update in ways.items():
            first = 1 + turn * settings.updates
            began = time.process_time()
            tokens = sum(update(step) for step in range(first, first + settings.updates))
            rates[way].append(tokens / (time.process_time() - began))
    single = rates["single"]
    return {
        "hinges": sizes,
        "hinges_of_single": mean,
        "ways": {
            way: {
                "tokens_per_second": statistics.median(found),
                "over_single": statistics.median(a / b for a, b in zip(found, single, strict=True)),
                "rounds": found,
            }
            for way, found in rates.items()
        },
    }


def main(settings: Settings) -> None:
    """Measure, print and keep."""
    torch.set_num_threads(1)  # CPU time is then wall-clock time on an idle core
    found = measure(settings)
    for way, row in found["ways"].items():
        rate, ratio = row["tokens_per_second"], row["over_single"]
        print(f"{way}: {rate:,.0f} tokens per second, {ratio:.2f} times a single body's")
    value = {"schema": 1, "settings": plain(asdict(settings)), **found, "provenance": provenance()}
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
