"""Reading and writing a model's spec as JSON, for the ``model.json`` of every saved world model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from minari.serialization import deserialize_space, serialize_space

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec
from tdm_agents.storage import CheckpointError

_SCALARS = ("observation_dim", "action_dim", "action_kind", "action_repeat", "history_steps", "terminates")
_OBSERVATIONS = "imagines_observations"


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    """The spec as JSON, without the device; :func:`spec_from_json` reads it back.

    Spaces are strings in Minari's own format, because infinite bounds are not JSON numbers.

    Raises:
        ValueError: For a space that Minari cannot write.
    """
    try:
        value: dict[str, Any] = {
            "observation_space": serialize_space(spec.observation_space),
            "action_space": serialize_space(spec.action_space),
        }
    except NotImplementedError as error:
        raise WrongValueError(
            f"{error}; expected Box, Discrete, MultiDiscrete, or Dict or Tuple of them"
        ) from error
    value |= {name: getattr(spec, name) for name in _SCALARS}
    if not spec.imagines_observations:
        # left out where True, so that older files and runs under way compare equal
        value[_OBSERVATIONS] = False
    return value | {
        "action_choices": list(spec.action_choices),
        "dtype": str(spec.dtype).removeprefix("torch."),
    }


def spec_from_json(value: Mapping[str, Any], device: torch.device | str = "cpu") -> ModelSpec:
    """The spec that :func:`spec_to_json` wrote, on ``device``.

    Raises:
        CheckpointError: If an entry is missing or makes no sense.
    """
    try:
        return ModelSpec(
            observation_space=_space(json.loads(value["observation_space"])),
            action_space=_space(json.loads(value["action_space"])),
            **{name: value[name] for name in _SCALARS},
            imagines_observations=bool(value.get(_OBSERVATIONS, True)),
            action_choices=tuple(int(c) for c in value["action_choices"]),
            device=torch.device(device),
            dtype={"float32": torch.float32, "float64": torch.float64}[value["dtype"]],
        )
    except (KeyError, TypeError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"the model's spec is not readable ({type(error).__name__}: {error}); "
            "its model.json was altered or is of another version: save the model again"
        ) from error


def _space(value: Mapping[str, Any]) -> spaces.Space[Any]:
    # Minari rebuilds a Dict from a mapping, which Gymnasium sorts by key: a space made of an OrderedDict
    # would then flatten in another order than the one the model was trained on. Pairs keep the order.
    if value["type"] == "Dict":
        return spaces.Dict([(key, _space(child)) for key, child in value["subspaces"].items()])
    if value["type"] == "Tuple":
        return spaces.Tuple([_space(child) for child in value["subspaces"]])
    space: spaces.Space[Any] = deserialize_space(dict(value))
    return space
