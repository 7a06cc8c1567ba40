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

Each environment may have ``name`` (by default made from the id and its arguments), ``env_kwargs``,
``action_repeat`` and ``max_steps``. A policy has the settings of the dataclass that its kind names
(:mod:`tdm_agents.collection.policy_json`). ``seed`` is the seed of the whole collection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tdm_agents.actors.behaviour import BehaviourPolicy
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.entry_policy import ActorPolicy
from tdm_agents.collection.policy_json import policy_from_json, policy_to_json
from tdm_agents.data.minari_io import DataError
from tdm_agents.environments import EnvRef
from tdm_agents.errors import TDMError, WrongTypeError, WrongValueError, brief
from tdm_agents.storage import CheckpointError, read_json, write_json

SCHEMA = 1
_TOP = {"schema", "seed", "policies", "environments"}
_REQUIRED = {"env_id", "episodes"}
_OPTIONAL = {"name", "env_kwargs", "action_repeat", "max_steps"}


def read_manifest(path: Path) -> tuple[DatasetSpec, ...]:
    """The data sets that a manifest asks for.

    Raises:
        DataError: If the file is no manifest, or asks for something that makes no sense; the message says
            where.
    """
    try:
        content = read_json(path, schema=SCHEMA)
    except CheckpointError as error:
        raise DataError(f"{error}; expected the manifest of a collection") from error
    try:
        return _datasets(content)
    except TDMError as error:
        raise DataError(f"{path}: {brief(error)}") from error


def write_manifest(path: Path, datasets: Sequence[DatasetSpec]) -> None:
    """Write a manifest atomically; :func:`read_manifest` reads it.

    Raises:
        ValueError: If the data sets differ in their seed, or in the settings of a policy of the same name.
    """
    seeds = {dataset.seed for dataset in datasets}
    policies: dict[str, Any] = {}
    rows = []
    for dataset in datasets:
        for policy, _ in dataset.mix:
            value = policy_to_json(policy)
            if policies.setdefault(policy.name, value) != value:
                raise WrongValueError(
                    f"policy {policy.name!r} of {dataset.name!r} has other settings elsewhere"
                )
        rows.append(
            {
                "name": dataset.name,
                "env_id": dataset.env.made_by,
                "env_kwargs": dict(dataset.env.kwargs),
                "episodes": dataset.counts,
                "action_repeat": dataset.action_repeat,
                "max_steps": dataset.max_steps,
            }
        )
    if len(seeds) != 1:
        raise WrongValueError(
            f"data sets have the seeds {sorted(seeds)}; expected one for the whole collection"
        )
    write_json(path, {"schema": SCHEMA, "seed": seeds.pop(), "policies": policies, "environments": rows})


def check_names(datasets: Iterable[DatasetSpec]) -> None:
    """Refuse data sets that would be written to the same folder.

    Raises:
        ValueError: If two have the same name, or one of several has none.
    """
    names = [dataset.name for dataset in datasets]
    if not names:
        raise WrongValueError("no environments to collect from; expected at least one")
    if len(names) > 1 and "" in names:
        raise WrongValueError("a collection of several environments needs a name for each")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise WrongValueError(f"two environments are called {repeated[0]!r}; give each a name of its own")


def default_name(env: EnvRef) -> str:
    """The name of an environment's data set: ``"WalkerTree-v0-dof12-body3"`` for that walker."""
    given = "".join(f"-{name}{json.dumps(value)}" for name, value in env.kwargs.items())
    return re.sub(r"[^-\w.]+", "_", env.id.rpartition("/")[2] + given)


def _datasets(content: Mapping[str, Any]) -> tuple[DatasetSpec, ...]:
    if "bodies" in content:
        raise WrongValueError(
            "a set of bodies of `tdm envs sample`, no manifest of a collection; pass it as --bodies"
        )
    _refuse_unknown("the manifest", content, _TOP)
    rows, policies = content.get("environments"), content.get("policies")
    if not isinstance(rows, list) or not isinstance(policies, dict):
        raise WrongTypeError('expected a list "environments" and an object "policies"')
    known = {name: policy_from_json(name, value) for name, value in policies.items()}
    seed = content.get("seed", 0)
    datasets = tuple(_dataset(f"environment {i}", row, known, seed) for i, row in enumerate(rows))
    check_names(datasets)
    return datasets


def _dataset(where: str, row: Any, policies: Mapping[str, BehaviourPolicy], seed: Any) -> DatasetSpec:
    if not isinstance(row, dict) or not set(row) >= _REQUIRED:
        raise WrongValueError(
            f"{where} is {row!r}; expected an object with {' and '.join(sorted(_REQUIRED))}"
        )
    _refuse_unknown(where, row, _REQUIRED | _OPTIONAL)
    kwargs, episodes = row.get("env_kwargs", {}), row["episodes"]
    repeat, max_steps = row.get("action_repeat", 1), row.get("max_steps")
    _expect(where, str, env_id=row["env_id"], name=row.get("name", ""))
    _expect(where, dict, env_kwargs=kwargs, episodes=episodes)
    _expect(where, int, seed=seed, action_repeat=repeat, max_steps=1 if max_steps is None else max_steps)
    _expect(where, int, **{f"episodes of {policy!r}": count for policy, count in episodes.items()})
    if unknown := sorted(set(episodes) - set(policies)):
        raise WrongValueError(
            f"{where} asks for episodes of {unknown[0]!r}; the policies are {', '.join(sorted(policies))}"
        )
    env = EnvRef.of(row["env_id"], kwargs)
    return DatasetSpec(
        env=env,
        mix=tuple((_known(policies[policy], env), count) for policy, count in episodes.items()),
        name=row.get("name") or default_name(env),
        action_repeat=repeat,
        seed=seed,
        max_steps=max_steps,
    )


def _known(policy: BehaviourPolicy, env: EnvRef) -> BehaviourPolicy:
    """The policy with all settings that a hand-written manifest leaves to the files of an actor."""
    return policy.in_environment(env) if isinstance(policy, ActorPolicy) and not policy.settings else policy


def _expect(where: str, kind: type, **values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise WrongTypeError(f"{where}: {name} is {value!r}; expected {kind.__name__}")


def _refuse_unknown(where: str, found: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(found) - known):
        raise WrongValueError(f"{where} has {unknown[0]!r}; expected only {', '.join(sorted(known))}")
