"""World models that are given to others for what they know: a policy, or a value."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import HasProposal, HasValue, History, ModelSpec, WorldModel
from tdm_agents.spaces import difference
from tdm_agents.wrappers.sb3 import same_structure


@runtime_checkable
class ProposingModel(WorldModel[Any], HasProposal[Any], Protocol):
    """A world model that proposes."""


@runtime_checkable
class ValuingModel(WorldModel[Any], HasValue[Any], Protocol):
    """A world model that knows what a state is worth."""


def begun(model: WorldModel[Any], observation: Tensor) -> Any:
    """A state of the model at observations ``[N, n]``, each taken for the first of an episode."""
    spec = model.spec
    history = History.of_observation(
        observation, action_dim=spec.action_dim, discrete=spec.action_kind == "discrete"
    )
    return model.start(history, horizon=1)


def check_same(given: WorldModel[Any], spec: ModelSpec, use: str) -> None:
    """Refuse a model of another environment or time step.

    Args:
        given: The model.
        spec: Spec of the model that it is given to.
        use: What it is to do, in words: ``propose``.

    Raises:
        ValueError: If they differ; the message names the first difference.
    """
    for name in ("observation_dim", "action_kind", "action_dim", "action_choices", "action_repeat"):
        theirs, ours = getattr(given.spec, name), getattr(spec, name)
        if theirs != ours:
            raise WrongValueError(
                f"{name} of {type(given).__name__}, which is to {use}, is {theirs}, that of the model is "
                f"{ours}; expected a model of the same environment and action_repeat"
            )
    theirs, ours = given.spec.observation_space, spec.observation_space
    if not same_structure(theirs, ours):
        raise WrongValueError(
            f"observation_space of {type(given).__name__}, which is to {use}, is {theirs}, that of the model "
            f"is {ours}; expected a model of the same environment"
        )
    theirs, ours = given.spec.action_space, spec.action_space
    if difference(ours, theirs, "action_space") is not None:
        raise WrongValueError(
            f"action_space of {type(given).__name__}, which is to {use}, is {theirs}, that of the model is "
            f"{ours}; expected a model of the same environment"
        )
