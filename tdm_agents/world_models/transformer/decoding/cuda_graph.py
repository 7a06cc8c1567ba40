"""CUDA graphs: work that is launched at once, every time it is repeated.

A small model's kernels take less time than their launches.
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

    The work is done twice before: libraries make their workspaces at a first call, which a capture forbids.

    Args:
        work: On tensors that stay where they are, and that the caller keeps as long as the graph; no shape
            or choice depends on what they hold.
        device: Where.
        pool: Of memory, ``torch.cuda.graph_pool_handle()``; None for one of its own.
        reset: What has to be done before the work is done another time.
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
