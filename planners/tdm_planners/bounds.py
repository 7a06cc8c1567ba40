"""Actions inside their bounds, clipped or drawn uniformly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tdm_agents.protocols import ModelSpec


def within_bounds(actions: Tensor) -> Tensor:
    """Continuous actions clipped to [-1, 1]; discrete ones, which are integers, unchanged."""
    return actions.clamp(-1.0, 1.0) if actions.is_floating_point() else actions


def uniform_actions(shape: Sequence[int], spec: ModelSpec, *, generator: torch.Generator) -> Tensor:
    """Uniform actions ``[..., m]`` of ``shape``: in [-1, 1], or int64 among each component's choices."""
    draws = torch.rand(tuple(shape), generator=generator, device=generator.device, dtype=spec.dtype)
    if spec.action_kind == "discrete":
        choices = torch.tensor(spec.action_choices, device=draws.device)
        # the product may round up to the number of choices
        return torch.minimum((draws * choices).long(), choices - 1)
    return 2.0 * draws - 1.0
