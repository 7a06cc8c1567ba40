"""Batches that an update reads: windows of trajectories, one entry per decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """``B`` windows of ``T`` decision steps of environments with the same ``(n, m)``.

    Attributes:
        observation: ``[B, T, n]`` float32; 0 where not ``valid``.
        reward: ``[B, T]`` float32, the reward that arrived *with* each observation; NaN where unknown (the
            first step of an episode) or not ``valid``.
        action: ``[B, T, m]``, taken after each observation, float32 in [-1, 1] or int64 choices; 0 where not
            ``acted``.
        alive: ``[B, T]`` bool; False at the observation in which the episode terminated.
        valid: ``[B, T]`` bool; False on the padding to the right of a short episode.
        acted: ``[B, T]`` bool; False where no action followed (the last step of an episode, padding).
        example: ``[B, T]`` bool; False where the action is not one that a policy should imitate. None: all
            are examples.
    """

    observation: Tensor
    reward: Tensor
    action: Tensor
    alive: Tensor
    valid: Tensor
    acted: Tensor
    example: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.observation.to(device),
            self.reward.to(device),
            self.action.to(device),
            self.alive.to(device),
            self.valid.to(device),
            self.acted.to(device),
            None if self.example is None else self.example.to(device),
        )


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """Windows of environments of different ``(n, m)``, grouped by environment.

    Attributes:
        parts: The batch of each environment, by name; environments without a window are left out.
    """

    parts: Mapping[str, Batch]

    @property
    def windows(self) -> int:
        """``B``, the number of windows of all environments together."""
        return sum(len(part.reward) for part in self.parts.values())

    def to(self, device: torch.device | str) -> MixedBatch:
        """The same batch on another device."""
        return MixedBatch({name: part.to(device) for name, part in self.parts.items()})
