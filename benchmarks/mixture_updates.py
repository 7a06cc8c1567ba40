"""How long does an update of a generalist take on a device, and what do its parts gain?

The same updates are made in four ways, each of which keeps what the one before has:

- ``each``: the tokens of every environment are computed apart, on the device, and attention goes band by band
  (windows of one size at a time);
- ``together``: environments with the same tokens are computed together;
- ``padded``: attention pads all windows to one length, and is one operation;
- ``ahead``: tokens are computed on the CPU by other processes, ahead of the update.

A CPU does best with ``together``, and a GPU with ``ahead``; that is what training chooses. The data have the
sizes and the names of walkers, but they are random numbers. Ways take turns, and medians count.

    python benchmarks/mixture_updates.py --device cuda
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from keep import result
from mixture_speed import walker
from tdm_agents.cli.checks import at_least, output_file, usable_device
from tdm_agents.data.mixture import MixtureSampler
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.training.model_choice import trainable_class
from tdm_agents.training.reading_ahead import Reader, ReadingAhead
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.world_models.transformer.presets import CONFIGS

WAYS = ("each", "together", "padded", "ahead")


@dataclass(frozen=True)
class Settings:
    """Models, updates and file."""

    kinds: tuple[str, ...] = ("generalist", "step_generalist")
    """Models of several environments."""
    device: str = "cpu"
    """Device to train on."""
    layers: int = 4
    """Blocks of the transformer."""
    width: int = 192
    """Width of the transformer, in heads of 32."""
    bodies: int = 160
    """Environments of 5 to 10 hinges, evenly spread."""
    windows: int = 96
    """Windows per update."""
    window_steps: int = 12
    """Decisions per window."""
    bf16: bool = False
    """Whether the loss is computed under bfloat16 autocast."""
    readers: int = 6
    """Processes that read ahead."""
    updates: int = 10
    """Updates of each way per turn."""
    turns: int = 3
    """Turns of each way, after one that does not count."""
    out: Path = Path("benchmarks/results/mixture_updates.json")
    """Where to keep the result."""


def main(settings: Settings) -> None:
    """Measure, print and keep."""
    at_least(1, updates=settings.updates, turns=settings.turns, readers=settings.readers)
    output_file(settings.out)
    device = usable_device(settings.device)
    torch.set_num_threads(1)
    data = {f"walker-{number}": named(5 + number % 6, number) for number in range(settings.bodies)}
    found = {kind: measured(settings, kind, data, device) for kind in settings.kinds}
    for kind, row in found.items():
        for way, of in row["ways"].items():
            rate = row["tokens"] / of["seconds"]
            print(f"{kind}, {way}: {1e3 * of['seconds']:.1f} ms per update, {rate:,.0f} tokens per second")
    result(settings.out, settings, kinds=found)


def named(dof: int, seed: int) -> Trajectories:
    """Random episodes with a walker's sizes and names."""
    plain = walker(dof, seed)
    names = [f"root_{number}" for number in range(13)]
    names += [f"hinge{hinge + 1}_{what}" for what in ("angle", "velocity") for hinge in range(dof)]
    return replace(plain, info=replace(plain.info, observation_names=tuple(names)))


def measured(
    settings: Settings, kind: str, data: dict[str, Trajectories], device: torch.device
) -> dict[str, Any]:
    """Seconds per update of each way, by turn, and tokens per update."""
    config = replace(
        CONFIGS["small-generalist"],
        layers=settings.layers,
        width=settings.width,
        feedforward=2 * settings.width,
        heads=settings.width // 32,
    )
    model: Any = trainable_class(kind).build({name: t.spec for name, t in data.items()}, config, seed=0)
    model.fit(data)
    model.to(device).train()
    training = TrainConfig(
        batch_size=settings.windows,
        window_steps=settings.window_steps,
        bf16=settings.bf16,
        steps=settings.updates * (settings.turns + 1),
        learning_rate=1e-4,
    )
    optimizers = model.optimizers(training)
    sampler = MixtureSampler(data, steps=settings.window_steps, batch_size=settings.windows, seed=0)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    read = {way: reading(way, model, sampler, training, settings.readers, device) for way in WAYS}
    tokens = 0
    for step in range(0, training.steps, settings.updates):
        for way in WAYS:
            wait(device)
            began = time.perf_counter()
            for index in range(step, step + settings.updates):
                batch = read[way](index)
                generator = torch.Generator(device).manual_seed(index)
                model.update(batch, optimizers, step=index, settings=training, generator=generator)
                tokens = len(batch.packed.tokens)
            wait(device)
            times[way].append((time.perf_counter() - began) / settings.updates)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": tokens,
        "ways": {
            way: {"seconds": statistics.median(seconds[1:]), "turns": seconds[1:]}
            for way, seconds in times.items()
        },
    }


def reading(
    way: str, model: Any, sampler: Any, training: TrainConfig, readers: int, device: torch.device
) -> Callable[[int], Any]:
    """The tokens of a batch by its index, on the device, in one of the ways."""
    preparation = replace(model.preparation, pads=way not in ("each", "together"))
    if way == "ahead":
        reader = Reader(sampler, model, training.seed)
        ahead = ReadingAhead(reader, range(training.steps), readers)
        return lambda index: ahead[index].to(device)
    if way == "each":
        apart = {name: replace(of, alike=name) for name, of in preparation.readings.items()}
        preparation = replace(preparation, readings=apart)

    def read(index: int) -> Any:
        generator = torch.Generator(device).manual_seed(index)
        return preparation(sampler.batch(index).to(device), generator=generator)

    return read


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main(tyro.cli(Settings))
