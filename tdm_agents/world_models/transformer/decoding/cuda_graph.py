"""CUDA graphs: repeated work that takes a single launch each time.

The kernels of a small model take less time than their launches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def cuda_graph(
    work: Callable[[], None],
    device: torch.device,
    *,
    pool: Any = None,
    reset: Callable[[], object] | None = None,
) -> Callable[[], object] | None:
    """A CUDA graph of some work, to be called in its place; None where there is no GPU.

    The work is done twice beforehand: libraries allocate at their first call, which a capture forbids.

    Args:
        work: Work on tensors that keep their addresses, and that the caller keeps as long as the graph. No
            shape or branch depends on their values.
        device: Device of the tensors.
        pool: Memory pool, ``torch.cuda.graph_pool_handle()``; None for a pool of its own.
        reset: Called before the work is done again.
    """
    if device.type != "cuda":
        return None
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(2):
            if reset is not None:
                reset()
            work()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph, pool=pool, stream=side):
        work()
    return graph.replay
