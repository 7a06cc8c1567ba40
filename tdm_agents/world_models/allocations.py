"""A bound on the tensors that are made while a model is built from settings that somebody else wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from tdm_agents.storage import CheckpointError


class Allocations(TorchFunctionMode):
    """Refuses to make tensors of more bytes, or more tensors, than a model can need; a context manager.

    Every function that makes a tensor from sizes is first asked on the ``meta`` device, where it takes no
    memory.

    Args:
        max_bytes: Of all tensors together, those too that are forgotten at once.
        max_tensors: Their number.
    """

    def __init__(self, *, max_bytes: int, max_tensors: int) -> None:
        super().__init__()
        self._bytes, self._tensors = max_bytes, max_tensors

    @classmethod
    def of_file(cls, weights: Mapping[str, Tensor]) -> Allocations:
        """What building a model may take whose weights are these, with room for what is not kept."""
        size = sum(tensor.nbytes for tensor in weights.values())
        return cls(max_bytes=8 * size + 2**26, max_tensors=100 * len(weights) + 10_000)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count what ``func`` makes, then call it.

        Raises:
            CheckpointError: If it would be too much.
        """
        given = dict(kwargs or {})
        if func in _device_constructors() and func is not torch.tensor:
            asked = {k: v for k, v in given.items() if k not in ("generator", "out", "pin_memory")}
            made = func(*args, **{**asked, "device": "meta"})
            if isinstance(made, Tensor):
                self._bytes -= made.nbytes
                self._tensors -= 1
            if min(self._bytes, self._tensors) < 0:
                raise CheckpointError(
                    "the settings ask for a model many times the size of its weights file; they are of "
                    "another model"
                )
        return func(*args, **given)
