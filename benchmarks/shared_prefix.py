"""How much does sharing the history's keys and values between candidates save?

The same rollouts, in one run, three ways; medians over repetitions, strictly alternating:

- *shared*: what the package does, one prefix for all candidates, packed suffixes.
- *concatenated*: a cache of its own for every candidate, grown by concatenation with every forward, fused
  attention: the dynamic cache of common libraries.
- *copied*: the package's own code with the prefix copied for every candidate, a stronger opponent: packed
  suffixes, and the batched products that are fastest at these shapes.

All three feed ``[r, SEP, a]`` in one forward and draw the same uniform numbers.

    python benchmarks/shared_prefix.py
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from tdm_agents.benchmark.caches import concatenated, copied, shared
from tdm_agents.benchmark.models import random_actions, random_history, random_model
from tdm_agents.benchmark.roofline import DecisionShape
from tdm_agents.benchmark.speed import peak_bytes
from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

KINDS: dict[str, Callable[..., Iterator[Tensor]]] = {
    "shared": shared,
    "concatenated": concatenated,
    "copied": copied,
}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Settings:
    """Cartpole's layout with random weights; speed does not depend on them."""

    out: Path = Path("benchmarks/results/shared_prefix.json")
    """Where to write the result."""
    observation_dim: int = 5
    """n"""
    action_dim: int = 1
    """m"""
    num_samples: int = 128
    """K"""
    horizon: int = 20
    """H"""
    histories: tuple[int, ...] = (1, 10, 40, 127)
    """Steps of history; 127 steps of 8 tokens are the most that fit a band of 1023."""
    context: int = 1023
    """Attention band, tokens."""
    layers: int = 4
    """Blocks."""
    width: int = 128
    """Model width."""
    repeats: int = 3
    """Timed rollouts of each kind."""
    threads: int = 2
    """PyTorch's threads."""


def shape_of(settings: Settings, history_steps: int) -> DecisionShape:
    """The decision after some steps of history."""
    config = TransformerConfig(
        layers=settings.layers,
        width=settings.width,
        heads=4,
        feedforward=2 * settings.width,
        context=settings.context,
        tokenizer=TokenizerConfig(observation="mu_law", target="absolute"),
        decoding=DecodingOptions(read="sample"),
    )
    return DecisionShape(
        observation_dim=settings.observation_dim,
        action_dim=settings.action_dim,
        num_samples=settings.num_samples,
        horizon=settings.horizon,
        config=config,
        history_steps=history_steps,
    )


def draws() -> torch.Generator:
    """The same for every rollout."""
    return torch.Generator().manual_seed(2)


def main(settings: Settings) -> None:
    """Measure, print, and keep."""
    torch.set_num_threads(settings.threads)
    rows = []
    for steps in settings.histories:
        shape = shape_of(settings, steps)
        tokens = shape.tokens
        model, history, actions = random_model(shape), random_history(shape), random_actions(shape)
        ways = {kind: partial(way, model, history, actions) for kind, way in KINDS.items()}
        # also the first run, which does not count
        sizes = {
            kind: peak_bytes(way(generator=draws()), CPU, at_most=math.inf) for kind, way in ways.items()
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        first: dict[str, Tensor] = {}
        for _ in range(settings.repeats):
            for kind, way in ways.items():
                began = time.perf_counter()
                first[kind], *_ = way(generator=draws())
                seconds[kind].append(time.perf_counter() - began)
        median = {kind: statistics.median(seconds[kind]) for kind in KINDS}
        row: dict[str, Any] = {
            "history_steps": steps,
            "seconds": seconds,
            "tokens_per_second": {kind: tokens / median[kind] for kind in KINDS},
            "times_concatenated": median["concatenated"] / median["shared"],
            "times_copied": median["copied"] / median["shared"],
            "peak_bytes": sizes,
            # a bin may flip where a uniform number falls on a boundary, and all after it differs
            "equal_first_step": {
                kind: float((first[kind] - first["shared"]).abs().lt(1e-4).float().mean()) for kind in KINDS
            },
        }
        rows.append(row)
        print(
            f"history {steps:4d}: "
            + ", ".join(f"{kind} {tokens / median[kind]:,.0f} tokens/s" for kind in KINDS)
            + f"; {row['times_concatenated']:.1f} and {row['times_copied']:.1f} times; equal first steps: "
            + ", ".join(f"{share:.3f}" for share in row["equal_first_step"].values())
        )
    value = {
        "schema": 1,
        "settings": asdict(settings) | {"out": str(settings.out)},
        "rows": rows,
        "provenance": provenance(),
    }
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
