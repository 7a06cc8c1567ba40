"""The spec of a model, from the spaces of its environment."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces import DiscreteActionCodec, ObservationCodec, action_codec
from tdm_agents.spaces.scalar_names import check_names


def spec_of(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    *,
    action_repeat: int = 1,
    terminates: bool = False,
    observation_names: tuple[str, ...] = (),
    images: bool = False,
) -> ModelSpec:
    """The spec of a model of an environment with these spaces.

    Args:
        observation_space: The environment's observation space.
        action_space: ``Box`` with finite bounds, ``Discrete`` or ``MultiDiscrete``.
        action_repeat: Environment steps per decision.
        terminates: Whether episodes may terminate.
        observation_names: Name of each observation scalar; empty where unknown.
        images: Whether the model reads images.

    Raises:
        ValueError: If the spaces cannot be planned over, or the names are not one per scalar.
    """
    codec = action_codec(action_space)
    observation_dim = ObservationCodec(observation_space, images=images).dim
    check_names(observation_names, observation_dim)
    discrete = isinstance(codec, DiscreteActionCodec)
    return ModelSpec(
        observation_space=observation_space,
        action_space=action_space,
        observation_dim=observation_dim,
        action_dim=codec.dim,
        action_kind="discrete" if discrete else "continuous",
        action_choices=codec.choices if isinstance(codec, DiscreteActionCodec) else (),
        action_repeat=action_repeat,
        terminates=terminates,
        observation_names=observation_names,
    )
