"""The manifest of a collection: which environments, how many episodes, by which policies.

A JSON file that may be written by hand (schema 1)::

    {"schema": 1,
     "seed": 0,
     "policies": {
       "random": {"kind": "RandomPolicy"},
       "expert": {"kind": "PlannerPolicy", "planner": "mppi", "settings": {"horizon": 16}}},
     "environments": [
       {"name": "tree-12-3", "env_id": "tdm/WalkerTree-v0", "env_kwargs": {"dof": 12, "body": 3},
        "episodes": {"random": 20, "expert": 20}},
       {"env_id": "dm_control/cartpole-swingup-v0", "episodes": {"random": 50}, "action_repeat": 4}]}

Each environment may have ``name`` (made from the id and its arguments where it is not said), ``env_kwargs``,
``action_repeat`` and ``max_steps``; a policy has the settings of the dataclass that its kind names
(:mod:`tdm_agents.data.policies`), and ``seed`` is that of the whole collection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tdm_agents.data.minari_io import DataError
from tdm_agents.data.policies import BehaviourPolicy, policy_from_json, policy_to_json
from tdm_agents.data.portion import Portion
from tdm_agents.storage import CheckpointError, read_json, write_json

SCHEMA = 1
_TOP = {"schema", "seed", "policies", "environments"}
_REQUIRED = {"env_id", "episodes"}
_OPTIONAL = {"name", "env_kwargs", "action_repeat", "max_steps"}


def read_manifest(path: Path) -> tuple[Portion, ...]:
    """The portions that a manifest asks for.

    Raises:
        DataError: If it is no manifest, or asks for what makes no sense; the message says where.
    """
    try:
        content = read_json(path, schema=SCHEMA)
    except CheckpointError as error:
        raise DataError(f"{error}; expected the manifest of a collection") from error
    try:
        return _portions(content)
    except (TypeError, ValueError, LookupError) as error:
        raise DataError(f"{path}: {error}") from error


def write_manifest(path: Path, portions: Sequence[Portion]) -> None:
    """Write what :func:`read_manifest` reads, atomically.

    Raises:
        ValueError: If the portions differ in their seed, or in the settings of a policy of the same name.
    """
    seeds = {portion.seed for portion in portions}
    policies: dict[str, Any] = {}
    rows = []
    for portion in portions:
        for policy, _ in portion.mix:
            value = policy_to_json(policy)
            if policies.setdefault(policy.name, value) != value:
                raise ValueError(f"policy {policy.name!r} of {portion.name!r} has other settings elsewhere")
        rows.append(
            {
                "name": portion.name,
                "env_id": portion.env_id,
                "env_kwargs": dict(portion.env_kwargs),
                "episodes": portion.counts,
                "action_repeat": portion.action_repeat,
                "max_steps": portion.max_steps,
            }
        )
    if len(seeds) != 1:
        raise ValueError(f"portions have the seeds {sorted(seeds)}; expected one for the whole collection")
    write_json(path, {"schema": SCHEMA, "seed": seeds.pop(), "policies": policies, "environments": rows})


def check_names(portions: Iterable[Portion]) -> None:
    """Refuse portions that would be written to the same folder.

    Raises:
        ValueError: If two have the same name, or one of several has none.
    """
    names = [portion.name for portion in portions]
    if not names:
        raise ValueError("no environments to collect from; expected at least one")
    if len(names) > 1 and "" in names:
        raise ValueError("a collection of several environments needs a name for each")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two environments are called {repeated[0]!r}; give each a name of its own")


def default_name(env_id: str, env_kwargs: Mapping[str, Any]) -> str:
    """``"WalkerTree-v0-dof12-body3"`` for ``tdm/WalkerTree-v0`` with these arguments."""
    given = "".join(f"-{name}{json.dumps(value)}" for name, value in env_kwargs.items())
    return re.sub(r"[^-\w.]+", "_", re.split("[:/]", env_id)[-1] + given)


def _portions(content: Mapping[str, Any]) -> tuple[Portion, ...]:
    if "bodies" in content:
        raise ValueError(
            "a set of bodies of `tdm envs sample`, no manifest of a collection; pass it as --bodies"
        )
    _refuse_unknown("the manifest", content, _TOP)
    rows, policies = content.get("environments"), content.get("policies")
    if not isinstance(rows, list) or not isinstance(policies, dict):
        raise TypeError('expected a list "environments" and an object "policies"')
    known = {name: policy_from_json(name, value) for name, value in policies.items()}
    seed = content.get("seed", 0)
    portions = tuple(_portion(f"environment {i}", row, known, seed) for i, row in enumerate(rows))
    check_names(portions)
    return portions


def _portion(where: str, row: Any, policies: Mapping[str, BehaviourPolicy], seed: Any) -> Portion:
    if not isinstance(row, dict) or not set(row) >= _REQUIRED:
        raise ValueError(f"{where} is {row!r}; expected an object with {' and '.join(sorted(_REQUIRED))}")
    _refuse_unknown(where, row, _REQUIRED | _OPTIONAL)
    kwargs, episodes = row.get("env_kwargs", {}), row["episodes"]
    repeat, max_steps = row.get("action_repeat", 1), row.get("max_steps")
    _expect(where, str, env_id=row["env_id"], name=row.get("name", ""))
    _expect(where, dict, env_kwargs=kwargs, episodes=episodes)
    _expect(where, int, seed=seed, action_repeat=repeat, max_steps=1 if max_steps is None else max_steps)
    _expect(where, int, **{f"episodes of {policy!r}": count for policy, count in episodes.items()})
    if unknown := sorted(set(episodes) - set(policies)):
        raise ValueError(
            f"{where} asks for episodes of {unknown[0]!r}; the policies are {', '.join(sorted(policies))}"
        )
    return Portion(
        env_id=row["env_id"],
        mix=tuple((policies[policy], count) for policy, count in episodes.items()),
        env_kwargs=kwargs,
        name=row.get("name") or default_name(row["env_id"], kwargs),
        action_repeat=repeat,
        seed=seed,
        max_steps=max_steps,
    )


def _expect(where: str, kind: type, **values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{where}: {name} is {value!r}; expected {kind.__name__}")


def _refuse_unknown(where: str, found: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(found) - known):
        raise ValueError(f"{where} has {unknown[0]!r}; expected only {', '.join(sorted(known))}")
