"""The floor of a decision: its linear layers alone, as plain matrix products."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from speed.clock import median_seconds
from speed.roofline import DecisionShape, decision_cost
from tdm_agents.world_models.transformer.decoding.cuda_graph import cuda_graph
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.network import Block


@torch.no_grad()
def linear_seconds(model: TransformerWorldModel, shape: DecisionShape, *, repeats: int) -> float:
    """Seconds of a decision's products with weights, one scalar after another, in the model's dtype.

    Every imagined step has the same products, so one forward of each size is timed. On a GPU it is a captured
    graph: launches are not part of the floor.

    Args:
        model: The model whose weights are used.
        shape: Shape of the decision.
        repeats: Number of repetitions, of which the median counts.
    """
    calls = [(call.count, (call.tokens, call.outputs, call.read)) for call in decision_cost(shape).calls]
    device = model.spec.device
    seconds = {
        sizes: median_seconds(_products(model, *sizes), device, repeats=repeats)
        for sizes in {sizes for _, sizes in calls}
    }
    return sum(count * seconds[sizes] for count, sizes in calls)


def _products(model: TransformerWorldModel, tokens: int, outputs: int, read: int) -> Callable[[], object]:
    """The linear layers of one forward; see :class:`speed.roofline.Call`."""
    network = model.network
    blocks = [block for block in network.blocks if isinstance(block, Block)]
    width, hidden = network.config.width, network.config.feedforward
    x, gated = network.head.weight.new_ones((tokens, width)), network.head.weight.new_ones((tokens, hidden))
    layers: list[tuple[Tensor, Tensor]] = []
    for block in blocks:
        finished = outputs if block is blocks[-1] else tokens
        layers.append((x, block.qkv.weight))
        if finished:
            layers.append((x[:finished], block.attention_out.weight))
            layers.append((x[:finished], block.feedforward_in.weight))
            layers.append((gated[:finished], block.feedforward_out.weight))
    if read:
        layers.append((x[:read], network.head.weight))

    def multiply() -> None:
        for left, weight in layers:
            F.linear(left, weight)

    repeated = cuda_graph(multiply, x.device)
    return multiply if repeated is None else partial(_repeat, repeated, layers)


def _repeat(work: Callable[[], object], _kept: object) -> None:
    """Do the work; the kept tensors are not used."""
    work()
