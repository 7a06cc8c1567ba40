"""How much faster could imagination with int8 weights be than with bfloat16 ones, at best?

AMX multiplies int8 twice as fast as bfloat16. So at best an imagined step would save half of the time that
its products take. Both are timed in turn on one core: whole steps of the shipped TDM and of the step
transformer, and their products alone. What int8 would cost (scaling every token's numbers to 8 bits, and sums
back) is left out, so the result is a bound.

    python benchmarks/int8_bound.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numba import njit
from rich.console import Console
from rich.table import Table

import keep
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.protocols import History
from tdm_agents.world_models.transformer.cpu.packed_network import PackedNetwork
from tdm_agents.world_models.transformer.cpu.tiles import (
    COLUMNS,
    DEPTH,
    ROWS,
    SHAPES,
    configure,
    has_tiles,
    release,
    tile_product,
)
from tdm_agents.world_models.transformer.token_model import TokenModel

CHECKPOINTS = ("cartpole-swingup", "cartpole-swingup-step-transformer")


@dataclass(frozen=True)
class Settings:
    """What is measured, and where it is kept."""

    rows: int = 64
    """Candidates that are imagined at once."""
    horizon: int = 10
    """Steps per rollout."""
    turns: int = 15
    """Turns of each, after two that do not count."""
    out: Path = Path("benchmarks/results/int8_bound.json")
    """The result."""


@njit(nogil=True)  # type: ignore[untyped-decorator]
def products(
    groups: int, weights: Any, depths: Any, columns: Any, left: Any, right: Any, shapes: int
) -> None:
    """All products of ``groups`` groups of 32 tokens with the packed weights at these addresses."""
    configure(shapes)
    for _ in range(groups):
        for i in range(weights.shape[0]):
            tiles = depths[i] // DEPTH
            for block in range(columns[i] // COLUMNS):
                tile_product(
                    left.ctypes.data,
                    2 * left.shape[1],
                    weights[i] + block * tiles * 64 * COLUMNS,
                    tiles,
                    right.ctypes.data + block * 4 * COLUMNS,
                    4 * right.shape[1],
                )
    release()


def products_alone(model: TokenModel, settings: Settings) -> Callable[[], None]:
    """The products of one imagined step: each token through each block, and the output layer."""
    packed = PackedNetwork.of(model.network)
    blocks = [weight for layer in packed.layers for weight in layer if weight.ndim > 2]
    tokens = settings.rows * (model.spec.observation_dim + model.spec.action_dim + 2)
    read = settings.rows * (model.spec.observation_dim + 1)
    parts = []
    for matrices, count in ((blocks, tokens), ([packed.head], read)):
        at = np.array([w.data_ptr() for w in matrices], np.int64)
        depths = np.array([w.shape[1] * DEPTH for w in matrices], np.int64)
        columns = np.array([w.shape[0] * COLUMNS for w in matrices], np.int64)
        left = np.zeros((ROWS, depths.max()), np.uint16)
        right = np.zeros((ROWS, columns.max()), np.float32)
        parts.append((-(-count // ROWS), at, depths, columns, left, right))

    def run() -> None:
        for part in parts:
            products(*part, SHAPES.ctypes.data)

    return run


def median_milliseconds(ways: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Of each way, in turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 2):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            if turn > 1:
                found[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in found.items()}


def bound(name: str, settings: Settings) -> dict[str, float]:
    """Milliseconds of an imagined step and of its products, and what int8 could make of them at best."""
    model = load_model(resolve(name), "cpu")
    assert isinstance(model, TokenModel)
    model, spec = model.with_decoding(bf16=True), model.spec
    start = History.of_observation(torch.zeros(1, spec.observation_dim), action_dim=spec.action_dim)
    actions = torch.zeros(settings.rows, settings.horizon, spec.action_dim)
    rows = torch.zeros(settings.rows, dtype=torch.int64)
    alone = products_alone(model, settings)

    def products_of_all() -> None:
        for _ in range(settings.horizon):
            alone()

    def steps() -> None:
        model.rollout(model.take(model.start(start, horizon=settings.horizon), rows), actions)

    found = median_milliseconds({"step": steps, "products": products_of_all}, settings.turns)
    step, alone_ms = found["step"] / settings.horizon, found["products"] / settings.horizon
    return {"step_ms": step, "products_ms": alone_ms, "int8_at_most": step / (step - alone_ms / 2)}


@torch.inference_mode()
def main(settings: Settings) -> None:
    """Measure, print and keep."""
    if not has_tiles():
        raise SystemExit("this processor has no AMX")
    torch.set_num_threads(1)
    bounds = {name: bound(name, settings) for name in CHECKPOINTS}
    table = Table("", "ms per step", "of these products", "int8: at most times as fast")
    for name, found in bounds.items():
        table.add_row(name, *(f"{found[key]:.2f}" for key in ("step_ms", "products_ms", "int8_at_most")))
    Console().print(table)
    keep.result(settings.out, settings, bounds=bounds)


if __name__ == "__main__":
    main(tyro.cli(Settings))
