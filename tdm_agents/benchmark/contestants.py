"""Who imagines a decision, and whether memory and time suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from tdm_agents.benchmark import caches
from tdm_agents.benchmark.llama import Llama
from tdm_agents.benchmark.memory import decision_bytes
from tdm_agents.benchmark.models import random_actions, random_history
from tdm_agents.benchmark.roofline import DecisionShape
from tdm_agents.world_models.transformer.decoding.options import Capture, DecodingOptions
from tdm_agents.world_models.transformer.model import TransformerWorldModel

Decide = Callable[[], Iterator[Tensor]]
"""Imagines a decision, the observations ``[N, n]`` of a step at a time."""

OWN = ("sequential", "parallel")
"""What the package does: scalars one after another, and guessed together."""
CAPTURED: dict[str, Capture] = {"captured": "eager", "compiled": "compiled"}
"""One after another, by replaying a captured step; on a GPU only."""
OTHERS = ("copied cache", "grown cache", "no cache", "transformers")
"""What stands beside it: see :mod:`tdm_agents.benchmark.caches` and :mod:`tdm_agents.benchmark.llama`."""

_CACHES = {"copied cache": caches.copied, "grown cache": caches.concatenated, "no cache": caches.uncached}
_SEED = 0


def decide_as(name: str, model: TransformerWorldModel, shape: DecisionShape, *, max_rows: int) -> Decide:
    """A contestant that decides, with random histories, actions and weights.

    Args:
        name: Of :data:`OWN`, :data:`CAPTURED` or :data:`OTHERS`.
        model: Its weights; of a Llama, only device and dtype.
        shape: Of the decision.
        max_rows: Rows that the package's own imagine at once.

    Raises:
        ImportError: If it is ``transformers``, and that is not installed.
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
    """Rows of a decision that a contestant can imagine at once in this many bytes, at least one."""
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
    """Why a contestant of :data:`OTHERS` cannot take part, or None if it can, or is the package's own.

    Each candidate has keys and values of the history of its own. Growing them by concatenation has the old
    and the new ones of one block at once. Without a cache, the tokens of all rows are in a block at once, and
    again for every token.

    Args:
        name: Of the contestant.
        shape: Of the decision.
        number_bytes: Size of a number.
        memory: Bytes that there are.
        seconds: That its first step may take at most, by what its products must.
        flops_per_second: At which rate.
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
