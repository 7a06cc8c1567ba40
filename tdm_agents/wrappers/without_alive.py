"""A wrapper for planning as if no episode ended."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from tdm_agents.protocols import ModelSpec
from tdm_agents.wrappers.base import Wrapper

S = TypeVar("S")


class WithoutAlive(Wrapper[S]):
    """A world model whose rows never end: its predictions after an end count.

    It serves to measure what ``alive`` is worth. A learned model imagines beyond an end although its data
    hold nothing after one, and a planner that believes it goes on earning there.

    The wrapper is a ``HasRollout``, ``HasProposal``, ``HasValue``, ``HasTokens``, ``HasRowBytes`` or
    ``HasOnly`` exactly where ``model`` is one.

    Args:
        model: Any world model; with the true simulator an ended row earns 0, with or without this wrapper.

    Attributes:
        model: The wrapped model.
    """

    @property
    def spec(self) -> ModelSpec:
        """The wrapped model's spec, which no longer terminates."""
        return replace(self.model.spec, terminates=False)

    def _alive(self, predicted: Tensor) -> Tensor:
        return torch.ones_like(predicted)
