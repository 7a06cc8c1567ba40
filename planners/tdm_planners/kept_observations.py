"""What a model imagined, kept for the trace of a plan."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tdm_agents.protocols import Rollout


def kept_observations(rollouts: Sequence[Rollout], batch: int) -> Tensor | None:
    """The observations ``[B, K, H, n]`` of ``B * K`` rows, as a copy; None where none are imagined.

    Args:
        rollouts: Of all rows together, in order.
        batch: ``B``.
    """
    seen = [imagined.observation for imagined in rollouts if imagined.observation is not None]
    if not seen:
        return None
    every = torch.cat(seen)  # a copy: a model may write its next rollout to the same memory
    return every.view(batch, -1, *every.shape[1:])
