"""Training speed of a transformer, beside a plain one of its shape, as a share of the machine's rate."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from speed.clock import Stopwatch, product_flops_per_second
from speed.models import random_model
from speed.plain_gpt import PlainGpt
from speed.roofline import DecisionShape
from tdm_agents.protocols import Batch
from tdm_agents.world_models.transformer.config import TransformerConfig

_SQUARE = {"cpu": 1024, "cuda": 8192}
WAYS = ("plain", "plain, compiled", "tdm", "tdm, compiled")
"""A plain transformer and the world model, eager and with compiled blocks, tables and norms; heads and losses
are not compiled."""


@dataclass(frozen=True, kw_only=True)
class TrainingShape:
    """The sizes on which the cost of an update depends.

    Attributes:
        config: Settings of the transformer; windows are as long as its band.
        observation_dim: ``n``, scalars of the observation.
        action_dim: ``m``, scalars of the action.
        windows: Windows per update.
        bf16: Whether products are computed in bfloat16; weights and moments are float32.
    """

    config: TransformerConfig
    observation_dim: int
    action_dim: int
    windows: int
    bf16: bool

    @property
    def decision(self) -> DecisionShape:
        """The same sizes, in the form that :func:`random_model` takes."""
        return DecisionShape(
            observation_dim=self.observation_dim,
            action_dim=self.action_dim,
            num_samples=1,
            horizon=1,
            config=self.config,
        )

    @property
    def length(self) -> int:
        """Number of tokens per window."""
        return self.decision.band_steps * self.decision.layout.tokens


def training_flops(shape: TrainingShape) -> float:
    """The model's FLOPs per update: forward and, twice as much, backward.

    They are ``6 (L (4 d^2 + 3 d f) + d V) + 12 L d S`` per token of a window of ``S`` tokens, counted as in
    PaLM (2204.02311, appendix B) and nanoGPT: attention counts as if it were not causal.
    """
    config = shape.config
    blocks = config.layers * (4 * config.width**2 + 3 * config.width * config.feedforward)
    weights = blocks + config.width * config.tokenizer.bins
    token = 6 * weights + 12 * config.layers * config.width * shape.length
    return float(token * shape.windows * shape.length)


def measure_training(
    shape: TrainingShape, device: torch.device, *, repeats: int, ways: tuple[str, ...] = WAYS
) -> dict[str, Any]:
    """The speed of updates of AdamW with every way's loss, in turn, as a JSON value.

    Args:
        shape: Shape of an update.
        device: Device to compute on.
        repeats: Timed updates per way, after two that are not timed.
        ways: Names in :data:`WAYS`.

    Returns:
        ``square_flops_per_second`` of large products in the same dtype, ``flops`` per update and, by way, the
        ``seconds`` of each update, and medians of ``tokens_per_second`` and ``mfu`` (the model's FLOPs per
        second over those of large products).
    """
    dtype = torch.bfloat16 if shape.bf16 else torch.float32
    updates = {way: update_as(way, shape, device) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    watch = Stopwatch(device)
    for update in updates.values():  # the first updates compile and reserve memory
        update()
        update()
    rates = []
    for _ in range(repeats):
        rates.append(product_flops_per_second(device, dtype, size=_SQUARE[device.type], repeats=3))
        for way, update in updates.items():
            watch.start()
            update()
            seconds[way].append(watch.stop())
    square, flops = statistics.median(rates), training_flops(shape)
    found: dict[str, Any] = {}
    for way, taken in seconds.items():
        median = statistics.median(taken)
        found[way] = {
            "seconds": taken,
            "tokens_per_second": shape.windows * shape.length / median,
            "mfu": flops / median / square,
        }
    return {"square_flops_per_second": square, "flops": flops, "length": shape.length, "ways": found}


def update_as(way: str, shape: TrainingShape, device: torch.device) -> Callable[[], None]:
    """An update of AdamW with the loss of one of :data:`WAYS`."""
    kind, _, compiled = way.partition(", ")
    model, loss = (_plain if kind == "plain" else _tdm)(shape, device, compiled=bool(compiled))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=shape.bf16):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return update


def _plain(
    shape: TrainingShape, device: torch.device, *, compiled: bool
) -> tuple[nn.Module, Callable[[], Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PlainGpt(shape.config, shape.length).to(device)
        tokens = torch.randint(shape.config.tokenizer.bins, (shape.windows, shape.length + 1)).to(device)
    if compiled:
        model.compile()
    return model, lambda: model.loss(tokens)


def _tdm(
    shape: TrainingShape, device: torch.device, *, compiled: bool
) -> tuple[nn.Module, Callable[[], Tensor]]:
    model = random_model(shape.decision, device=device).train()
    if compiled:
        model.network.compile()
    batch = _random_batch(shape).to(device)
    generator = torch.Generator(device).manual_seed(0)
    return model, lambda: model(batch, generator=generator)[0]


def _random_batch(shape: TrainingShape) -> Batch:
    generator = torch.Generator().manual_seed(0)
    rows = (shape.windows, shape.decision.band_steps)
    every = torch.ones(rows, dtype=torch.bool)
    return Batch(
        observation=torch.randn((*rows, shape.observation_dim), generator=generator),
        reward=torch.rand(rows, generator=generator),
        action=torch.rand((*rows, shape.action_dim), generator=generator) * 2 - 1,
        alive=every,
        valid=every,
        acted=every,
    )
