"""Behaviour policies as JSON, for manifests and for the record of a collection."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from tdm_agents.actors.behaviour import BehaviourPolicy, PlannerPolicy, RandomPolicy
from tdm_agents.collection.entry_policy import ActorPolicy
from tdm_agents.collection.names import check_name
from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.json_text import plain_number

KINDS: Mapping[str, type[RandomPolicy] | type[PlannerPolicy] | type[ActorPolicy]] = {
    kind.__name__: kind for kind in (RandomPolicy, PlannerPolicy, ActorPolicy)
}
"""The kinds of policies by the name that a manifest uses."""


def policy_to_json(policy: BehaviourPolicy) -> dict[str, Any]:
    """The settings of a policy without its name, as JSON sees them (tuples become lists)."""
    settings: dict[str, Any] = json.loads(
        json.dumps(asdict(policy), default=plain_number)  # type: ignore[call-overload]
    )
    del settings["name"]
    return {"kind": type(policy).__name__, **settings}


def policy_from_json(name: str, value: Mapping[str, Any]) -> BehaviourPolicy:
    """The inverse of :func:`policy_to_json`; settings that are not given have their defaults.

    Raises:
        ValueError: If the name cannot be that of a file, the kind is unknown, or a setting makes no sense.
        TypeError: If there is no such setting, or its value is of another type.
        LookupError: If there is no such planner.
    """
    check_name("name of a policy", name)
    if not isinstance(value, Mapping):
        raise WrongTypeError(f"policy {name!r} is {value!r}; expected an object with its kind and settings")
    settings = dict(value)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise WrongValueError(f"policy {name!r} has kind {kind!r}; expected one of {', '.join(KINDS)}")
    known = {field.name: str(field.type) for field in fields(KINDS[kind]) if field.name != "name"}
    for setting, given in settings.items():
        if setting not in known:
            raise WrongTypeError(f"policy {name!r} has {setting!r}; expected only {', '.join(sorted(known))}")
        expected, fits = _IN_JSON[known[setting]]
        if not fits(given):
            raise WrongTypeError(f"policy {name!r}: {setting} is {given!r}; expected {expected}")
    return KINDS[kind](**settings, name=name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_IN_JSON: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "str": ("text", lambda value: isinstance(value, str)),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "float": ("a number", _is_number),
    "tuple[float, ...]": (
        "a list of numbers",
        lambda value: isinstance(value, list) and all(map(_is_number, value)),
    ),
    "Mapping[str, Any]": ("an object", lambda value: isinstance(value, dict)),
}
"""The values that a manifest has for a setting of each type: in words, and as a check."""
