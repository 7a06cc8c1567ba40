"""The gradient of a batch, whether it is read at once, by and by, or by several processes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tdm_agents.protocols import MicroBatches


def backward(
    model: Any, batch: Any, *, generator: torch.Generator, bf16: bool
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Add the gradient of a batch's loss to the weights, and return loss and metrics, detached.

    Args:
        model: The model, called for its loss; for :class:`~tdm_agents.protocols.MicroBatches` one that
            :class:`~tdm_agents.protocols.Divides`.
        batch: A batch, or this process's micro-batches of one. The gradient, the loss and the metrics are
            then those of the whole batch, up to rounding, and equal in all processes.
        generator: Source of the noise in the loss.
        bf16: Whether the loss is computed under bfloat16 autocast.
    """
    parts = batch.parts if isinstance(batch, MicroBatches) else [batch]
    begin = generator.get_state() if len(parts) > 1 else None
    total, names = None, ("loss",)
    for part in parts:
        if begin is not None:
            generator.set_state(begin)  # each takes its rows of the same draws
        with torch.autocast(generator.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss, metrics = model(part, generator=generator)
        loss.backward()
        names = ("loss", *metrics)
        numbers = torch.stack([value.detach().float() for value in (loss, *metrics.values())])
        total = numbers if total is None else total + numbers
    assert total is not None, "there are no micro-batches"
    if isinstance(batch, MicroBatches):
        batch.processes.sum_gradients(p for p in model.parameters() if p.requires_grad)
        total = batch.processes.sum(total)
    found = dict(zip(names, total.unbind(), strict=True))
    return found.pop("loss"), found
