"""Plan as if no episode ended."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from tdm_agents.protocols import ModelSpec
from tdm_agents.wrappers.base import Wrapper

S = TypeVar("S")


class WithoutAlive(Wrapper[S]):
    """A world model whose rows never end: what it predicts behind an end counts.

    For asking what ``alive`` is worth: a learned model imagines beyond an end that it has never seen anything
    follow, and a planner that believes it goes on earning there.

    The wrapper is a ``HasRollout``, ``HasProposal``, ``HasValue``, ``HasTokens``, ``HasRowBytes`` or
    ``HasOnly`` exactly where ``model`` is one.

    Args:
        model: Any world model; of the true simulator an ended row earns 0, with or without this.

    Attributes:
        model: The wrapped model.
    """

    @property
    def spec(self) -> ModelSpec:
        """The wrapped model's, which does not terminate."""
        return replace(self.model.spec, terminates=False)

    def _alive(self, predicted: Tensor) -> Tensor:
        return torch.ones_like(predicted)
