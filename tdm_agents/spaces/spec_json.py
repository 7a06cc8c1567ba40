"""Reading and writing a model's spec as JSON, for the ``model.json`` of every saved world model."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any

import torch

from tdm_agents.errors import WrongValueError
from tdm_agents.json_text import JsonError, check_fields
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces import DiscreteActionCodec, ObservationCodec, action_codec
from tdm_agents.spaces.scalar_names import check_names
from tdm_agents.spaces.space_json import space_from_json, space_to_json
from tdm_agents.storage import CheckpointError

_SCALARS = ("observation_dim", "action_dim", "action_kind", "action_repeat", "history_steps", "terminates")
MAX_REPEAT = 10_000
MAX_HISTORY = 1_000_000
_OBSERVATIONS = "imagines_observations"
_NAMES = "observation_names"
_FIELDS: dict[str, type | UnionType] = {
    "observation_space": str,
    "action_space": str,
    "observation_dim": int,
    "action_dim": int,
    "action_kind": str,
    "action_repeat": int,
    "history_steps": int,
    "terminates": bool,
    "action_choices": list,
    "dtype": str,
}


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    """The spec as JSON, without the device; :func:`spec_from_json` reads it back.

    Spaces are strings in Minari's own format, because infinite bounds are not JSON numbers.

    Raises:
        ValueError: For a space that Minari cannot write.
    """
    try:
        value: dict[str, Any] = {
            "observation_space": space_to_json(spec.observation_space),
            "action_space": space_to_json(spec.action_space),
        }
    except NotImplementedError as error:
        raise WrongValueError(
            f"{error}; expected Box, Discrete, MultiDiscrete, or Dict or Tuple of them"
        ) from error
    value |= {name: getattr(spec, name) for name in _SCALARS}
    if not spec.imagines_observations:
        # left out where True, so that older files and runs under way compare equal
        value[_OBSERVATIONS] = False
    if spec.observation_names:
        value[_NAMES] = list(spec.observation_names)
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
        check_fields(value, "the spec", _FIELDS)
        spec = ModelSpec(
            observation_space=space_from_json(value["observation_space"], "the observation_space"),
            action_space=space_from_json(value["action_space"], "the action_space"),
            **{name: value[name] for name in _SCALARS},
            imagines_observations=bool(value.get(_OBSERVATIONS, True)),
            observation_names=tuple(value.get(_NAMES, ())),
            action_choices=tuple(int(c) for c in value["action_choices"]),
            device=torch.device(device),
            dtype={"float32": torch.float32, "float64": torch.float64}[value["dtype"]],
        )
        _check(spec)
        return spec
    except (JsonError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the model's spec is not readable ({type(error).__name__}: {error}); "
            "its model.json was altered or is of another version: save the model again"
        ) from error


def _check(spec: ModelSpec) -> None:
    """Refuse sizes that are not those of the spaces, before anything is made with them."""
    codec = action_codec(spec.action_space)
    expected = {
        "observation_dim": ObservationCodec(spec.observation_space, images=True).dim,
        "action_dim": codec.dim,
        "action_kind": "discrete" if isinstance(codec, DiscreteActionCodec) else "continuous",
        "action_choices": codec.choices if isinstance(codec, DiscreteActionCodec) else (),
    }
    for name, value in expected.items():
        if (said := getattr(spec, name)) != value:
            raise JsonError(f"{name} is {str(said)[:80]}; of these spaces it is {str(value)[:80]}")
    check_names(spec.observation_names, spec.observation_dim)
    if not (1 <= spec.action_repeat <= MAX_REPEAT and 1 <= spec.history_steps <= MAX_HISTORY):
        raise JsonError(
            f"action_repeat is {spec.action_repeat} and history_steps {spec.history_steps}; expected 1 to "
            f"{MAX_REPEAT:,} and 1 to {MAX_HISTORY:,}"
        )
