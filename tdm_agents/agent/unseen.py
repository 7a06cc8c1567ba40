"""Models of environments that a trained model may not have seen."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import gymnasium as gym

from tdm_agents.protocols import ModelSpec, WorldModel
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.spaces.scalar_names import observation_names


@runtime_checkable
class ForAnySpec(Protocol):
    """A trained model that also models environments which it has not seen."""

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


def model_for(model: ForAnySpec, env: gym.Env[Any, Any]) -> WorldModel[Any]:
    """The model of an environment, whether it was trained there or not, at the time step of its training.

    Args:
        model: Of several environments.
        env: The environment, with all its wrappers.

    Raises:
        ValueError: If the environment does not fit; the message says why.
    """
    seen = model.environment(model.environments[0]).spec
    return model.for_spec(
        spec_of(
            env.observation_space,
            env.action_space,
            action_repeat=seen.action_repeat,
            terminates=seen.terminates,
            observation_names=observation_names(env),
        )
    )
