"""The description of a run, written down so that no other run goes on in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import TDMError, WrongValueError, brief
from tdm_agents.json_text import plain_number
from tdm_agents.protocols import TrainableModel
from tdm_agents.spaces.spec_json import spec_from_json, spec_to_json
from tdm_agents.storage import CheckpointError, read_json, write_json
from tdm_agents.world_models.learned import differences, identity
from tdm_agents.world_models.model_files import weights_sha256

SCHEMA = 2
RUN_FILE = "run.json"


def exists(folder: Path) -> bool:
    """Whether the folder has the description of a run."""
    return (folder / RUN_FILE).exists()


def describe(
    model: TrainableModel,
    *,
    name: str,
    data: Mapping[str, Trajectories],
    shares: Mapping[str, float],
    init_from: Path | None,
    held_out_fraction: float,
    data_seed: int,
    terminal_reward: float = 0.0,
) -> dict[str, Any]:
    """Everything that must not change while a run goes on, as JSON.

    Args:
        model: The model before its first update.
        name: Name of the model in the registry.
        data: All episodes by environment.
        shares: Share of the training windows, by environment.
        init_from: Folder of the model that it starts from.
        held_out_fraction: Fraction of the episodes that is held out.
        data_seed: Seed of the choice of held-out episodes and of the order of training windows.
        terminal_reward: Added to the rewards of ends.

    Raises:
        CheckpointError: If ``init_from`` holds no model.
    """
    description = {
        "schema": SCHEMA,
        "data": [digest for t in data.values() for digest in t.info.source],
        "model": name,
        "config": identity(model.config),
        "environments": {e: spec_to_json(model.environment(e).spec) for e in data},
        "shares": dict(shares),
        "init_from": None if init_from is None else weights_sha256(init_from),
        "held_out_fraction": held_out_fraction,
        "data_seed": data_seed,
        **({"terminal_reward": terminal_reward} if terminal_reward else {}),  # older runs have none
    }
    plain: dict[str, Any] = json.loads(json.dumps(description, default=plain_number))
    return plain


def goes_on_with(folder: Path, config: Any, changed: Any) -> bool:
    """Whether the run in a folder has the settings of ``config`` wherever ``changed`` has others.

    Args:
        folder: Of a run, or of none.
        config: Settings of a model.
        changed: The same settings, some of them changed.
    """
    if not exists(folder):
        return False
    there = read_json(folder / RUN_FILE, schema=(1, SCHEMA), fields={"config": dict})["config"]
    here, other = identity(config), identity(changed)
    return all(there.get(name) == value for name, value in here.items() if other[name] != value)


def claim(folder: Path, description: Mapping[str, Any], defaults: Any) -> None:
    """Write the description of the run in ``folder``, or check that it is this one.

    Args:
        folder: Of the run.
        description: Of :func:`describe`.
        defaults: The model's settings, all at their defaults: those of a setting that is newer than the run.

    Raises:
        ValueError: If it is another run; the message says how they differ.
        CheckpointError: If the description there cannot be read.
    """
    path = folder / RUN_FILE
    if not path.exists():
        write_json(path, description)
        return
    there = read_json(path, schema=(1, SCHEMA), fields={"model": str, "config": dict})
    if there["schema"] == 1:
        try:
            there = _of_schema_1(there, description)
        except (TDMError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} is not the description of a run ({type(error).__name__}: {brief(error)}); "
                "restore it from where it came"
            ) from error
    there = {**there, "config": _completed(there["config"], json.loads(json.dumps(identity(defaults))))}
    found = differences(there, description)
    if found:
        raise WrongValueError(
            f"{folder} holds another run: {brief(found[0])}; go on with its own settings, or choose "
            "another --out"
        )


def _of_schema_1(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """An older description in the present form.

    A model of one environment had a ``spec`` and no shares, a generalist was called a transformer, and
    settings that say how to compute were part of the configuration.
    """
    there = dict(there)
    names = list(here["environments"])
    if "spec" in there:
        there |= {"environments": {names[0]: there.pop("spec")}, "shares": {names[0]: 1.0}}
    elif there["model"] == "transformer":
        there["model"] = "generalist"
    specs = {name: spec_to_json(spec_from_json(spec)) for name, spec in there["environments"].items()}
    config = {name: value for name, value in there["config"].items() if name in here["config"]}
    return there | {"schema": SCHEMA, "environments": specs, "config": config}


def _completed(there: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were written down; what was not written down has its default."""
    whole = dict(defaults) | dict(there)
    for name, value in there.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            whole[name] = _completed(value, default)
    return whole
