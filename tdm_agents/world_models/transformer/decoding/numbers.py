"""The numbers with which rows are imagined: where the compiled loops can be used, and where in bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tdm_agents.errors import WrongValueError
from tdm_agents.world_models.transformer.cpu import compiles
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.network import TransformerNetwork

if TYPE_CHECKING:
    from tdm_agents.world_models.transformer.cpu.packed_network import PackedNetwork


def attends_in_loop(network: TransformerNetwork, options: DecodingOptions) -> bool:
    """Whether imagined rows attend by the compiled loop."""
    weight = network.head.weight
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not (on_cpu and options.attention == "fused" and options.capture == "no" and compiles()):
        return False
    from tdm_agents.world_models.transformer.cpu.openmp import can_share

    return can_share()


def weights_in_bfloat16(network: TransformerNetwork, options: DecodingOptions) -> PackedNetwork | None:
    """The weights in bfloat16 with which rows are imagined; None if they are imagined in float32.

    Raises:
        ValueError: If ``bf16`` is True and cannot be done here.
    """
    if options.bf16 is False:
        return None
    reason = _obstacle(network, options)
    if reason is None:
        from tdm_agents.world_models.transformer.cpu.packed_network import PackedNetwork

        return PackedNetwork.of(network)
    if options.bf16:
        raise WrongValueError(f"bf16 is True, but {reason}; leave it at None, which chooses")
    return None


def _obstacle(network: TransformerNetwork, options: DecodingOptions) -> str | None:
    """The reason why rows cannot be imagined in bfloat16."""
    if not attends_in_loop(network, options):
        weight = network.head.weight
        return (
            f"weights are {weight.dtype} on {weight.device}, or the compiled loop cannot be used; it needs "
            "float32 on a CPU, numba, and one thread where PyTorch does not use GNU's OpenMP"
        )
    from tdm_agents.world_models.transformer.cpu.tiles import has_tiles

    return None if has_tiles() else "this processor has no AMX for bfloat16, or Linux does not allow its use"
