"""CUDA graphs: work that is launched at once, every time it is repeated.

A small model's kernels take less time than their launches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def captured(
    work: Callable[[], None], device: torch.device, *, reset: Callable[[], object] | None = None
) -> Callable[[], object]:
    """Work that can be repeated: a CUDA graph of it on a GPU, elsewhere itself.

    Args:
        work: On tensors that stay where they are; no shape or choice depends on what they hold.
        device: Where.
        reset: What has to be done before the work is done again in a trial run. On a GPU there are some:
            libraries make their workspaces at a first call, which a capture forbids.
    """
    if device.type != "cuda":
        return work
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(2):
            if reset is not None:
                reset()
            work()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
