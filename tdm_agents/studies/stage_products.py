"""What the stages of studies make: folders that are found again by the hash of all that they depend on.

::

    OUT/products/data-1f0c.../product.json      what it is; written when it is complete
                              makers.json       who worked on it
                              files/            what was made, or a link to an adopted folder

A key is the hash of a stage's settings and of the keys of its inputs, not of its name. So a changed setting
makes that product and those that depend on it anew, and studies with the same ``OUT`` share what they have in
common.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdm_agents.actors.entries import EXPERT, Entry, parse_entry
from tdm_agents.actors.tuned import expert_for
from tdm_agents.environments import EnvRef
from tdm_agents.errors import PathTakenError
from tdm_agents.experts.algorithms import EVALUATION_EPISODES, settings_for
from tdm_agents.experts.recorded_training import MEDIUM_SHARE
from tdm_agents.json_text import plain_number
from tdm_agents.protocols import Preset
from tdm_agents.registry import make_planner
from tdm_agents.storage import CheckpointError, make_folder, read_json, write_json
from tdm_agents.studies.makers import MAKERS_FILE, Maker, without_threads
from tdm_agents.studies.stages import Collect, Evaluate, Recipe, Reinforce, Stage, Train
from tdm_agents.training.model_choice import chosen_preset, trainable_class, with_settings
from tdm_agents.training.train_config import OBSERVERS

SCHEMA = 1
PRODUCTS_FOLDER = "products"
PRODUCT_FILE = "product.json"
FILES_FOLDER = "files"
_KINDS = {Reinforce: "policy", Collect: "data", Train: "model", Evaluate: "returns"}


@dataclass(frozen=True, slots=True)
class Product:
    """The product of a stage, made or not.

    Attributes:
        stage: The stage.
        key: Hash of everything that it depends on.
        folder: Its folder.
        depends: What was hashed, as JSON.
    """

    stage: Stage
    key: str
    folder: Path
    depends: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """``policy``, ``data``, ``model`` or ``returns``."""
        return _KINDS[type(self.stage)]

    @property
    def files(self) -> Path:
        """Folder of what is made."""
        return self.folder / FILES_FOLDER

    @property
    def done(self) -> bool:
        """Whether it is complete."""
        return (self.folder / PRODUCT_FILE).exists()

    def result(self) -> dict[str, Any]:
        """What :meth:`finish` was given.

        Raises:
            CheckpointError: If the file was altered.
        """
        path = self.folder / PRODUCT_FILE
        value = read_json(path, schema=SCHEMA, fields={"key": str, "result": dict, "seconds": float})
        if value["key"] != self.key:
            raise CheckpointError(f"{path} is not what its folder says; remove {self.folder}")
        found: dict[str, Any] = value["result"]
        return found

    def seconds(self) -> float:
        """Wall-clock time that it took, in the process that finished it."""
        return float(read_json(self.folder / PRODUCT_FILE, schema=SCHEMA)["seconds"])

    def makers(self) -> list[Maker]:
        """Who worked on it; empty if an older version of this package did not say.

        Raises:
            CheckpointError: If the file was altered.
        """
        value = read_json(self.folder / PRODUCT_FILE, schema=SCHEMA)
        older = [value["origin"]] if value.get("origin") else []  # who finished it
        return [without_threads(one) for one in value.get("makers", older)]

    def finish(self, result: Mapping[str, Any], *, seconds: float, makers: Sequence[Maker]) -> None:
        """Mark it as complete.

        Args:
            result: What the report needs of it.
            seconds: Wall-clock time that it took.
            makers: Who worked on it.
        """
        value = {"schema": SCHEMA, "kind": self.kind, "key": self.key, "depends": self.depends}
        value |= {"result": result, "seconds": float(seconds), "makers": list(makers)}
        write_json(self.folder / PRODUCT_FILE, value)

    def adopt(self, other: Path) -> bool:
        """Let a folder that was made elsewhere be this product's files; nothing is checked or copied.

        Returns:
            Whether it was not so before.

        Raises:
            PathTakenError: If the product has files already.
        """
        if self.files.is_symlink() and self.files.resolve() == other.resolve():
            return False
        if self.files.exists() or self.files.is_symlink():
            raise PathTakenError(
                f"{self.stage.name} has files already, in {self.files}; remove them before you adopt {other}"
            )
        make_folder(self.folder)
        self.files.symlink_to(other.resolve(), target_is_directory=True)
        return True

    def disown(self) -> None:
        """Undo :meth:`adopt`; the other folder stays as it is."""
        self.files.unlink()
        (self.folder / MAKERS_FILE).unlink(missing_ok=True)


def products_of(stages: Sequence[Stage], out: Path) -> dict[str, Product]:
    """The products of stages by name, each stage after those that it needs.

    Raises:
        LookupError: If a stage trains a model or preset that does not exist.
        TypeError: If a model has no such setting.
    """
    found: dict[str, Product] = {}
    for stage in stages:
        depends = plain(_depends(stage, {name: product.key for name, product in found.items()}))
        text = json.dumps(depends, sort_keys=True, separators=(",", ":"), default=plain_number)
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        folder = out / PRODUCTS_FOLDER / f"{_KINDS[type(stage)]}-{key}"
        found[stage.name] = Product(stage, key, folder, depends)
    return found


def plain(value: Any) -> Any:
    """Settings as JSON values; dataclasses as objects."""

    def default(one: Any) -> Any:
        if dataclasses.is_dataclass(one) and not isinstance(one, type):
            return dataclasses.asdict(one)
        return plain_number(one)

    return json.loads(json.dumps(value, default=default))


def preset_of(recipe: Recipe) -> tuple[Preset, Any]:
    """The preset of a recipe, and the model's whole configuration.

    Raises:
        LookupError: If there is no such model or preset.
        TypeError: If the model has no such setting.
    """
    preset = chosen_preset(recipe.model, trainable_class(recipe.model), recipe.preset)
    return preset, with_settings(f"world model {recipe.model!r}", preset.config, recipe.settings)


def planner_of(entry: Entry, envs: Sequence[EnvRef]) -> dict[str, Any] | None:
    """All settings of the planner that an entry names; None where it names none.

    Raises:
        LookupError: If there is no such planner, or no expert for an environment.
        TypeError: If the planner has no such setting.
    """
    name = entry.options.get("planner")
    if name is None:
        return None
    if name == EXPERT:
        experts = {env.id: plain(expert_for(env)) for env in envs}
        return {"name": name, "experts": experts, "settings": entry.planner_settings}
    return {"name": name, "settings": make_planner(str(name), **entry.planner_settings)}


def _depends(stage: Stage, keys: Mapping[str, str]) -> dict[str, Any]:
    if isinstance(stage, Reinforce):
        settings = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage) if f.name != "name"}
        return {
            "kind": "policy",
            **settings,
            "env": stage.env.name,
            "settings": settings_for(stage.algorithm, stage.settings),
            "evaluation_episodes": EVALUATION_EPISODES,
            "medium_share": MEDIUM_SHARE,
        }
    if isinstance(stage, Collect):
        datasets = [{**one.settings(), "episodes": one.counts} for one in stage.filled(keys)]
        return {"kind": "data", "datasets": datasets}
    if isinstance(stage, Train):
        recipe = stage.recipe
        preset, config = preset_of(recipe)
        training = {k: v for k, v in dataclasses.asdict(recipe.training).items() if k not in OBSERVERS}
        return {
            "kind": "model",
            "data": [keys[name] for name in stage.data],
            "only": stage.only,
            "init_from": None if stage.init_from is None else keys[stage.init_from],
            "model": recipe.model,
            "config": config,
            "planner": recipe.planner or [preset.planner, preset.planner_settings],
            "action_repeat": recipe.action_repeat,
            "training": training,
            "held_out_fraction": recipe.held_out_fraction,
            "data_seed": recipe.data_seed,
            "known_reward": recipe.known_reward,
        }
    line = stage.filled(keys)
    return {
        "kind": "returns",
        "line": line,
        "planner": planner_of(parse_entry(line), stage.envs),
        "envs": [env.name for env in stage.envs],
        "protocol": stage.protocol,
    }
