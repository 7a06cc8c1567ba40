"""How long does the Trajectory Transformer's search take, beside one without a cache, as in its own code?

A transformer of the preset ``trajectory-transformer`` with random weights, at the sizes of Hopper: 11
observation scalars, 3 of the action, 128 beams, 2 continuations each, 5 steps of context, 15 steps ahead.
Both search with the same code of the package (``beam_search`` over tokens), the same weights and the same
draws. One keeps the shared history and what each beam imagined in a cache; the other reads all tokens anew
for each new one. The latter is measured over the first of the 15 steps, in which its sequences are shortest
and its first forward has one row, and multiplied by 15: the ratio is a lower bound. Seconds are those of the
processor, one thread.

    python benchmarks/beam_search_speed.py
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from gymnasium import spaces

import keep
from speed.uncached_search import UncachedSearch
from tdm_agents.protocols import History
from tdm_agents.registry import make_planner
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.trajectory_model import TrajectoryTransformer

PRESET = TrajectoryTransformer.presets()["paper"]


@dataclass(frozen=True)
class Settings:
    """Sizes and repetitions."""

    observation_dim: int = 11
    """Hopper's."""
    action_dim: int = 3
    """Hopper's."""
    context: int = 5
    """Steps of history, the present included."""
    horizon: int = 15
    """Steps that are imagined."""
    beam_width: int = 128
    """Sequences that are kept."""
    num_expand: int = 2
    """Continuations of each."""
    repeats: int = 3
    """Measurements of each in turn; the medians count."""
    out: Path = Path("benchmarks/results/beam_search_speed.json")
    """File of the result."""


def hopper(settings: Settings) -> tuple[TransformerWorldModel, History]:
    """A model with random weights whose tokens are fitted to random data, and a history."""
    n, m = settings.observation_dim, settings.action_dim
    spec = spec_of(spaces.Box(-10.0, 10.0, (n,)), spaces.Box(-1.0, 1.0, (m,)))
    config = PRESET.config
    config = replace(config, tokenizer=replace(config.tokenizer, reward_to_go=None))  # as in the other search
    model = TransformerWorldModel.build({"hopper": spec}, config, seed=0)
    generator = torch.Generator("cpu").manual_seed(0)
    made: dict[str, Any] = {"generator": generator, "device": "cpu", "dtype": torch.float32}
    data = torch.randn((2000, n), **made)
    model.tokenizer.fit(data, data.diff(dim=0), torch.rand(2000, **made))
    history = History(
        torch.randn((1, settings.context, n), **made),
        torch.rand((1, settings.context), **made),
        torch.rand((1, settings.context - 1, m), **made) * 2 - 1,
        torch.full((1,), settings.context, device="cpu", dtype=torch.int64),
    )
    return model.eval(), history


def decided(model: Any, history: History, settings: Settings) -> tuple[float, torch.Tensor]:
    """Processor seconds of a decision, and its sequence ``[1, H, m]``."""
    planner = make_planner(
        "beam_search",
        level="token",
        horizon=settings.horizon,
        beam_width=settings.beam_width,
        num_expand=settings.num_expand,
        discount=0.99,
    )
    elapsed = torch.zeros(1, device="cpu", dtype=torch.int64)
    generator = torch.Generator("cpu").manual_seed(0)
    began = time.process_time()
    with torch.no_grad():
        state = model.start(history, horizon=settings.horizon)
        plan = planner.plan(model, state, None, elapsed=elapsed, generator=generator)
    return time.process_time() - began, plan.sequence


def main(settings: Settings) -> None:
    """Measure both in turns, and keep the ratio."""
    torch.set_num_threads(1)
    model, history = hopper(settings)
    first = replace(settings, horizon=1)
    decided(model, history, first)  # compiles
    ours, theirs = [], []
    for _ in range(settings.repeats):
        ours.append(decided(model, history, settings)[0])
        theirs.append(settings.horizon * decided(UncachedSearch(model), history, first)[0])
        print(f"{ours[-1]:.1f} s with the cache, at least {theirs[-1]:.0f} s without")
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"at least {ratio:.0f} times as long without a cache")
    keep.result(
        settings.out,
        settings,
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=ours,
        seconds_without_cache=theirs,
        ratio=ratio,
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
