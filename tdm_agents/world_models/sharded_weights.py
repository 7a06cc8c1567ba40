"""Weights that are divided over several processes (PyTorch's FSDP2), for models larger than a device.

Each process keeps its share of the weights, of their gradients and of the optimizer's moments. The weights of
a layer are gathered before it is computed, and let go after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


@runtime_checkable
class HasLayers(Protocol):
    """A model with layers that are called one after another; its loss is a call of the model itself."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The layers, each gathered for itself; all other weights are gathered together."""
        ...


def sharded(model: Model, processes: int, device_type: str) -> Model:
    """Divide a model's weights, in place; all processes call this with equal weights.

    Args:
        model: A model that :class:`HasLayers`.
        processes: Their number.
        device_type: ``cpu`` or ``cuda``.

    Returns:
        The same model; its gradients are sums over the processes, its parameters are ``DTensor``.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    assert isinstance(model, HasLayers)
    mesh = init_device_mesh(device_type, (processes,))
    for part in (*model.layers, model):
        fully_shard(part, mesh=mesh)
        assert isinstance(part, FSDPModule)
        part.set_gradient_divide_factor(1.0)  # every loss is divided by what the whole batch counts
        part.set_force_sum_reduction_for_comms(True)  # Gloo can only add up
    return model


def is_sharded(value: Any) -> bool:
    """Whether a process has only its share of a tensor."""
    return hasattr(value, "full_tensor")


def whole(value: Tensor) -> Tensor:
    """The whole of a tensor; all processes ask for it at the same time where it is sharded."""
    full: Tensor = value.full_tensor() if is_sharded(value) else value  # type: ignore[attr-defined]
    return full


def kept_like(value: Tensor, other: Tensor) -> Tensor:
    """This process's part of a whole tensor, if it is kept as ``other`` is."""
    if not is_sharded(other) or value.shape != other.shape:
        return value.to(other.device)
    from torch.distributed.tensor import distribute_tensor

    kept: Any = other
    here = value.to(other.device)
    with torch.no_grad():
        return distribute_tensor(here, kept.device_mesh, kept.placements, src_data_rank=None)
