"""How much does sharing the history's keys and values between candidates save?

The same rollouts, in one run, with a shared prefix (what the package does) and with the prefix copied for
every candidate (what a batched decoder does that treats candidates as independent sequences). The copy is the
same code with ``B = K`` prefixes of one row each, so nothing else differs. Medians over repetitions, strictly
alternating.

    python benchmarks/shared_prefix.py --out benchmarks/results/shared_prefix.json
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from gymnasium import spaces
from torch import Tensor

from tdm_agents.evaluation.report import provenance
from tdm_agents.protocols import History, ModelSpec
from tdm_agents.storage import write_json
from tdm_agents.world_models.transformer.cache import Grouping, Prefix
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.state import TransformerState
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig


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


def build(settings: Settings) -> TransformerWorldModel:
    """A model with random weights."""
    torch.manual_seed(0)
    spec = ModelSpec(
        observation_space=spaces.Box(-np.inf, np.inf, (settings.observation_dim,)),
        action_space=spaces.Box(-1.0, 1.0, (settings.action_dim,)),
        observation_dim=settings.observation_dim,
        action_dim=settings.action_dim,
    )
    config = TransformerConfig(
        layers=settings.layers,
        width=settings.width,
        heads=4,
        feedforward=2 * settings.width,
        context=settings.context,
        tokenizer=TokenizerConfig(observation="mu_law", target="absolute"),
        decoding="sample",
    )
    return TransformerWorldModel(spec, config).eval()


def history_of(settings: Settings, steps: int) -> History:
    """A random history of one environment."""
    generator = torch.Generator().manual_seed(1)
    return History(
        observation=torch.randn((1, steps, settings.observation_dim), generator=generator),
        reward=torch.rand((1, steps), generator=generator),
        action=torch.rand((1, steps - 1, settings.action_dim), generator=generator) * 2 - 1,
        length=torch.tensor([steps]),
    )


def copied(state: TransformerState, rows: int) -> TransformerState:
    """``rows`` rows with a prefix of their own each: every key and value copied for every candidate."""
    layers = tuple(
        (key.repeat(rows, 1, 1, 1), value.repeat(rows, 1, 1, 1)) for key, value in state.prefix.layers
    )
    return TransformerState(
        prefix=Prefix(layers, None),
        grouping=Grouping.of(torch.arange(rows), rows),
        suffix=None,
        capacity=state.capacity,
        rotation=state.rotation,
        centres=state.centres,
        observation=state.observation.repeat(rows, 1),
        reward=state.reward.repeat(rows),
        history_steps=state.history_steps,
        horizon=state.horizon,
    )


def bytes_of(state: TransformerState) -> int:
    """Bytes of the prefix and the suffix's buffers."""
    prefix = sum(t.untyped_storage().nbytes() for layer in state.prefix.layers for t in layer)
    return prefix + (0 if state.suffix is None else state.suffix.buffer.untyped_storage().nbytes())


def decide(
    model: TransformerWorldModel, history: History, actions: Tensor, *, share: bool
) -> tuple[float, int, Tensor]:
    """Seconds of one decision's imagination, bytes of keys and values, and the imagined observations."""
    rows, horizon = actions.shape[:2]
    began = time.perf_counter()
    state = model.start(history, horizon=horizon)
    state = model.take(state, torch.zeros(rows, dtype=torch.int64)) if share else copied(state, rows)
    rollout = model.rollout(state, actions, generator=torch.Generator().manual_seed(2))
    return time.perf_counter() - began, bytes_of(rollout.state), rollout.observation


def main(settings: Settings) -> None:
    """Measure, print, and keep."""
    torch.set_num_threads(settings.threads)
    model = build(settings)
    generator = torch.Generator().manual_seed(3)
    shape = (settings.num_samples, settings.horizon, settings.action_dim)
    actions = torch.rand(shape, generator=generator) * 2 - 1
    tokens = settings.num_samples * settings.horizon * (settings.observation_dim + 1)
    rows = []
    for steps in settings.histories:
        history = history_of(settings, steps)
        decide(model, history, actions, share=True)  # warm up
        seconds: dict[bool, list[float]] = {True: [], False: []}
        sizes, imagined = {}, {}
        for _ in range(settings.repeats):
            for share in (True, False):
                taken, sizes[share], imagined[share] = decide(model, history, actions, share=share)
                seconds[share].append(taken)
        shared, copy = (statistics.median(seconds[share]) for share in (True, False))
        # a sampled bin may flip where the uniform number falls on a boundary, and everything after it differs
        first = (imagined[True][:, 0] - imagined[False][:, 0]).abs() < 1e-4
        rows.append(
            {
                "history_steps": steps,
                "seconds_shared": seconds[True],
                "seconds_copied": seconds[False],
                "times_faster": copy / shared,
                "tokens_per_second_shared": tokens / shared,
                "tokens_per_second_copied": tokens / copy,
                "bytes_shared": sizes[True],
                "bytes_copied": sizes[False],
                "equal_first_step": float(first.all(dim=1).float().mean()),
            }
        )
        print(
            f"history {steps:4d}: {tokens / shared:8,.0f} tokens/s shared, {tokens / copy:8,.0f} copied, "
            f"{copy / shared:5.1f} times; {sizes[True] / 2**20:,.0f} MiB against {sizes[False] / 2**20:,.0f}"
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
