"""Returns of the rest of an episode, for models that learn from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.protocols import ReadsReturns


def as_read_by(model: Any, data: Mapping[str, Trajectories]) -> dict[str, Trajectories]:
    """The data as a model reads them: with returns, where it learns from them.

    Args:
        model: A :class:`~tdm_agents.protocols.TrainableModel`.
        data: Episodes by environment.
    """
    if not isinstance(model, ReadsReturns):
        return dict(data)
    return {name: trajectories.with_returns(model.return_discount) for name, trajectories in data.items()}
