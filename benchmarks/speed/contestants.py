"""Contestants, which imagine a decision, and whether memory and time suffice for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from speed import caches
from speed.llama import Llama
from speed.memory import decision_bytes
from speed.models import random_actions, random_history
from speed.roofline import DecisionShape
from tdm_agents.world_models.transformer.decoding.options import Capture, DecodingOptions
from tdm_agents.world_models.transformer.model import TransformerWorldModel

Decide = Callable[[], Iterator[Tensor]]
"""A function that imagines a decision, the observations ``[N, n]`` of one step at a time."""

OWN = ("sequential", "parallel")
"""The package's ways: scalars one after another, and guessed together."""
CAPTURED: dict[str, Capture] = {"captured": "eager", "compiled": "compiled"}
"""The same ways by replaying a captured step, on a GPU only."""
OTHERS = ("copied cache", "grown cache", "no cache", "transformers")
"""The other contestants: see :mod:`speed.caches` and :mod:`speed.llama`."""

_CACHES = {"copied cache": caches.copied, "grown cache": caches.concatenated, "no cache": caches.uncached}
_SEED = 0


def decide_as(name: str, model: TransformerWorldModel, shape: DecisionShape, *, max_rows: int) -> Decide:
    """A contestant that decides, with random histories, actions and weights.

    Args:
        name: A name in :data:`OWN`, :data:`CAPTURED` or :data:`OTHERS`.
        model: The model, whose weights are used; a Llama uses only its device and dtype.
        shape: Shape of the decision.
        max_rows: Rows that the package's own ways imagine at once.

    Raises:
        ImportError: If it is ``transformers``, which is not installed.
    """
    device = model.spec.device
    way: Callable[..., Iterator[Tensor]]
    if name in OWN:
        way = partial(caches.shared, model, max_rows=max_rows)
    elif name in CAPTURED:
        way = partial(caches.replayed, model.with_decoding(capture=CAPTURED[name]), max_rows=max_rows)
    elif name == "transformers":
        way = Llama(model, shape).imagine
    else:
        way = partial(_CACHES[name], model)
    history, actions = random_history(shape, device=device), random_actions(shape, device=device)
    return lambda: way(history, actions, generator=torch.Generator(device).manual_seed(_SEED))


def rows_that_fit(
    name: str, shape: DecisionShape, *, number_bytes: int, memory: int, on_cpu: bool = True
) -> int:
    """The rows of a decision that a contestant can imagine at once in this many bytes, at least one."""
    ways = {"parallel": name == "parallel", "captured": name in CAPTURED}
    whole = decision_bytes(shape, **ways, on_cpu=on_cpu, number_bytes=number_bytes)
    shared = whole.weights + whole.tables + whole.history_cache
    return max(1, min(shape.rows, shape.rows * (memory - shared) // (whole.imagined_cache + whole.working)))


def why_left_out(
    name: str,
    shape: DecisionShape,
    *,
    number_bytes: int,
    memory: int,
    seconds: float,
    flops_per_second: float,
) -> str | None:
    """The reason why a contestant of :data:`OTHERS` cannot take part; None if it can, or is the package's.

    Each candidate has its own keys and values of the history. Growing them by concatenation holds the old and
    the new ones of one block at once. Without a cache, the tokens of all rows are in a block at once, again
    for every token.

    Args:
        name: Name of the contestant.
        shape: Shape of the decision.
        number_bytes: Size of a number.
        memory: Bytes that are available.
        seconds: Longest time of its first step, computed from its products.
        flops_per_second: Rate of the products.
    """
    if name not in OTHERS:
        return None
    config, step, rows = shape.config, shape.layout.tokens, shape.rows
    width, hidden, layers = config.width, config.feedforward, config.layers
    products = replace(shape, config=replace(shape.config, decoding=DecodingOptions(attention="products")))
    own = decision_bytes(products, number_bytes=number_bytes)
    seen = min(shape.prefix_tokens + shape.horizon * step, shape.band_steps * step)
    if name == "no cache":
        needed = rows * seen * (4 * hidden + 7 * width) * number_bytes
        first = min(shape.prefix_tokens + step, seen)
        flops = (shape.observation_dim + 1) * rows * first * layers * (8 * width**2 + 6 * width * hidden)
        if flops > seconds * flops_per_second:
            return f"takes {flops / flops_per_second:,.0f} s or more for its first step"
    elif name == "copied cache":
        needed = own.history_cache * shape.num_samples + own.imagined_cache + own.working
    else:
        needed = 2 * (layers + 1) * width * rows * seen * number_bytes + own.working
    needed += own.weights
    return f"needs {needed / 2**30:,.1f} GiB" if needed > memory else None
