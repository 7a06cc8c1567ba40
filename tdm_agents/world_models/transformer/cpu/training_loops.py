"""Where the loops of :mod:`.block_loops` serve, and a call of one; imports numba when one is called."""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.cpu import compiles
from tdm_agents.world_models.transformer.cpu.openmp import can_share

ACTIVATIONS = (torch.float32, torch.bfloat16)


def runs_loops(x: Tensor) -> bool:
    """Whether loops are for this tensor: rows on a CPU, a gradient is wanted, and torch compiles nothing."""
    if x.device.type != "cpu" or x.dtype not in ACTIVATIONS or x.ndim != 2 or not torch.is_grad_enabled():
        return False
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") not in ACTIVATIONS:
        return False
    return not torch.compiler.is_compiling() and compiles() and can_share()


def run_loop(name: str, rows: int, *tensors: Tensor, sizes: tuple[int, ...]) -> None:
    """Call a loop of :mod:`.block_calls` by its name; see :func:`.block_calls.run`."""
    from tdm_agents.world_models.transformer.cpu import block_calls  # here: importing numba takes a second

    block_calls.run(getattr(block_calls, name), rows, *tensors, sizes=sizes)
