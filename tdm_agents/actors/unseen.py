"""Generalists in environments that they were not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec, WorldModel
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.model_files import load_model


@runtime_checkable
class ForAnySpec(Protocol):
    """A trained model that models environments which it has not seen."""

    @property
    def environments(self) -> tuple[str, ...]:
        """Names of the environments that it was trained on."""
        ...

    def environment(self, name: str | None) -> WorldModel[Any]:
        """The model of one of them."""
        ...

    def for_spec(self, spec: ModelSpec) -> WorldModel[Any]:
        """The model of any environment."""
        ...


def unseen_model(folder: Path, env: EnvRef, device: str = "cpu") -> WorldModel[Any]:
    """The model of an environment that a generalist was not trained on, at the generalist's time step.

    Args:
        folder: Folder of the generalist.
        env: The environment.
        device: Where it computes.

    Raises:
        CheckpointError: If a file is missing, truncated or altered.
        ValueError: If the model in the folder is for its own environments only, or this one does not fit.
    """
    model = load_model(folder, device)
    if not isinstance(model, ForAnySpec):
        raise WrongValueError(
            f"{folder} holds a {type(model).__name__}, which plays only where it was trained; expected a "
            "generalist, or leave out unseen=true"
        )
    seen = model.environment(model.environments[0]).spec
    made = env.make()
    try:
        spec = spec_of(
            made.observation_space,
            made.action_space,
            action_repeat=seen.action_repeat,
            terminates=seen.terminates,
        )
    finally:
        made.close()
    return model.for_spec(spec)
