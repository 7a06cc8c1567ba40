"""The choice of a model to train, by the names and settings of a command."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from tdm_agents import registry
from tdm_agents.errors import UnknownNameError, WrongTypeError
from tdm_agents.protocols import Planner, Preset, TrainableModel
from tdm_agents.world_models.model_files import load_model

_NEEDED = ("config_type", "presets", "build", "fit", "optimizers", "update", "save", "load", "state_dict")


def trainable_class(name: str) -> type[TrainableModel]:
    """The class of a model that is trained by name.

    Raises:
        UnknownNameError: If no package provides the name.
        PluginError: If the package that provides it cannot be used.
        TypeError: If the class cannot be trained by name; the message says what it lacks.
    """
    kind: Any = registry.load(registry.WORLD_MODELS, name)
    if missing := [part for part in _NEEDED if not hasattr(kind, part)]:
        raise WrongTypeError(
            f"world model {name!r} cannot be trained by name: {getattr(kind, '__name__', kind)} has no "
            f"{', no '.join(missing)}; expected a class as tdm_agents.protocols.TrainableModel describes it"
        )
    trainable: type[TrainableModel] = kind
    return trainable


def chosen_preset(name: str, kind: type[TrainableModel], preset: str | None) -> Preset:
    """A model's preset, by default its first.

    Args:
        name: Name of the model, for the message.
        kind: Class of the model.
        preset: Name of the preset; None for the first.

    Raises:
        UnknownNameError: If the model has no such preset; the message lists those it has.
    """
    presets = kind.presets()
    if preset is None:
        return next(iter(presets.values()))
    if preset not in presets:
        near = difflib.get_close_matches(preset, presets, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownNameError(
            f"world model {name!r} has no preset {preset!r}; {hint}it has {', '.join(presets)}"
        )
    return presets[preset]


def chosen_planner(preset: Preset, planner: str | None, settings: Mapping[str, Any]) -> Planner:
    """The preset's planner, or another one, with settings that differ from the preset's or its defaults.

    Raises:
        LookupError: If there is no such planner.
        TypeError: If it has no such setting.
        ValueError: If a setting makes no sense.
    """
    own = planner is None or planner == preset.planner
    return registry.make_planner(
        planner or preset.planner, **{**(preset.planner_settings if own else {}), **settings}
    )


def with_settings(what: str, config: Any, settings: Mapping[str, Any]) -> Any:
    """A configuration with some settings changed.

    Args:
        what: Owner of the settings, in words, for the message.
        config: A frozen dataclass.
        settings: Values by name; ``"tokenizer.bins"`` is field ``bins`` of the dataclass in ``tokenizer``.

    Raises:
        TypeError: If there is no such setting, or the value has another type.
        ValueError: If a value makes no sense.
    """
    for name, value in settings.items():
        head, _, rest = name.partition(".")
        known = [f.name for f in fields(config)]
        if head not in known or (rest and not is_dataclass(getattr(config, head))):
            raise WrongTypeError(f"{what} has no setting {name!r}; it has {', '.join(known)}")
        inner = getattr(config, head)
        if rest:
            value = with_settings(f"{head} of {what}", inner, {rest: value})
        elif is_dataclass(inner):
            parts = ", ".join(f"{head}.{f.name}" for f in fields(inner))
            raise WrongTypeError(f"{name!r} of {what} has settings of its own: {parts}")
        elif not _same_kind(inner, value):
            raise WrongTypeError(f"{name} of {what} is {value!r}; expected a value like {json.dumps(inner)}")
        config = replace(config, **{head: value})
    return config


def load_trained(folder: Path) -> TrainableModel:
    """The trained model in a folder, of any kind.

    Raises:
        CheckpointError: If there is none, or a file was altered.
        TypeError: If the model cannot be trained by name.
    """
    model = load_model(folder)
    if not isinstance(model, TrainableModel):
        raise WrongTypeError(
            f"{folder} holds a {type(model).__name__}, which cannot be trained by name; expected a model as "
            "tdm_agents.protocols.TrainableModel describes it"
        )
    return model


def _same_kind(before: Any, value: Any) -> bool:
    """Whether a value may take the place of another: numbers for numbers, text for text."""
    if before is None or value is None:  # optional: only the settings' own checks apply
        return True
    if isinstance(before, bool) or isinstance(value, bool):
        return isinstance(before, bool) and isinstance(value, bool)
    if isinstance(before, float):
        return isinstance(value, int | float)
    return isinstance(value, type(before)) or (isinstance(before, tuple) and isinstance(value, list))
