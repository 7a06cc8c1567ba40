"""How much does sharing the history's keys and values between candidates save?

The same rollouts, in one run, three ways; medians over repetitions, strictly alternating:

- *shared*: what the package does, one prefix for all candidates, suffixes in buffers of fixed size.
- *concatenated*: a cache of its own for every candidate, grown by concatenation with every forward, fused
  attention: the dynamic cache of common libraries.
- *copied*: the package's own code with the prefix copied for every candidate, a stronger opponent: buffers of
  fixed size, and the batched products that are fastest at these shapes.

All three feed ``[r, SEP, a]`` in one forward and draw the same uniform numbers.

    python benchmarks/shared_prefix.py
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from gymnasium import spaces
from torch import Tensor

from tdm_agents.evaluation.report import provenance
from tdm_agents.protocols import History, ModelSpec
from tdm_agents.storage import write_json
from tdm_agents.world_models.transformer.cache import Grouping, Prefix
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding import choose_bin
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
        (key.repeat(1, rows, 1, 1), value.repeat(1, rows, 1, 1)) for key, value in state.prefix.layers
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


def concatenated(model: TransformerWorldModel, state: TransformerState, actions: Tensor) -> Tensor:
    """Imagine with a cache that grows by concatenation; observations ``[K, H, n]``."""
    rows, horizon = actions.shape[:2]
    layout, tokenizer, network = model.layout, model.tokenizer, model.network
    cache = [  # [rows, heads, tokens, head_dim], as the fused attention wants it
        tuple(x.transpose(0, 1).repeat(rows, 1, 1, 1) for x in layer) for layer in state.prefix.layers
    ]
    rotations = network.rotation(torch.arange(horizon + 1))
    generator = torch.Generator().manual_seed(2)

    def extend(tokens: Tensor, offset: int, time: int) -> Tensor:
        chunk = tokens.shape[1]
        start = layout.position(offset)
        x = network.token(tokens) + network.position.weight[start : start + chunk]
        rotation = (rotations[0][time : time + 1], rotations[1][time : time + 1])
        for index, block in enumerate(network.blocks):
            query, key, value = block.project(x, rotation)
            keys, values = (torch.cat(pair, dim=2) for pair in zip(cache[index], (key, value), strict=True))
            # what has left the band is dropped, as a sliding cache does
            within = (model.context_steps - 1) * layout.tokens + offset + chunk
            cache[index] = keys, values = keys[:, :, -within:], values[:, :, -within:]
            mask = torch.ones(chunk, keys.shape[2], dtype=torch.bool).tril(keys.shape[2] - chunk)
            attended = F.scaled_dot_product_attention(
                query, keys, values, attn_mask=mask if chunk > 1 else None
            )
            x = block.finish(x, attended.transpose(1, 2).flatten(2))
        return network.norm(x[:, -1])

    reward, imagined = state.reward.repeat(rows), []
    for step in range(horizon):
        uniform = torch.rand((layout.observation_dim + 2, rows), generator=generator)
        separator = torch.full_like(reward, tokenizer.separator)
        known = [torch.stack([reward, separator], dim=1), tokenizer.encode_action(actions[:, step])]
        hidden = extend(torch.cat(known, dim=1), layout.observation_dim, step)
        scalars = []
        for i in range(layout.observation_dim):
            scalars.append(state.centres[i][choose_bin(network.logits(hidden), uniform[i])])
            token = tokenizer.encode_observation_scalar(i, scalars[-1])
            hidden = extend(token[:, None], i, step + 1)
        reward = choose_bin(network.logits(hidden), uniform[-2])
        imagined.append(torch.stack(scalars, dim=1))
    return torch.stack(imagined, dim=1)


KINDS = ("shared", "concatenated", "copied")


@torch.no_grad()
def decide(
    model: TransformerWorldModel, history: History, actions: Tensor, kind: str
) -> tuple[float, int | None, Tensor]:
    """Seconds of one decision's imagination, bytes of keys and values, and the imagined observations."""
    rows, horizon = actions.shape[:2]
    began = time.perf_counter()
    state = model.start(history, horizon=horizon)
    if kind == "concatenated":
        imagined = concatenated(model, state, actions)
        return time.perf_counter() - began, None, imagined
    if kind == "shared":
        state = model.take(state, torch.zeros(rows, dtype=torch.int64))
    else:
        state = copied(state, rows)
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
        decide(model, history, actions, "shared")  # warm up
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        sizes: dict[str, int | None] = {}
        imagined: dict[str, Tensor] = {}
        for _ in range(settings.repeats):
            for kind in KINDS:
                taken, sizes[kind], imagined[kind] = decide(model, history, actions, kind)
                seconds[kind].append(taken)
        median = {kind: statistics.median(seconds[kind]) for kind in KINDS}
        row = {
            "history_steps": steps,
            "seconds": seconds,
            "tokens_per_second": {kind: tokens / median[kind] for kind in KINDS},
            "times_concatenated": median["concatenated"] / median["shared"],
            "times_copied": median["copied"] / median["shared"],
            "bytes": {kind: sizes[kind] for kind in KINDS},
            # a bin may flip where a uniform number falls on a boundary, and all after it differs
            "equal_first_step": {
                kind: float((imagined[kind][:, 0] - imagined["shared"][:, 0]).abs().lt(1e-4).float().mean())
                for kind in KINDS
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
