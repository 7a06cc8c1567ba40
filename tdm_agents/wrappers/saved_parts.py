"""Files of a wrapper whose parts are models: a folder for each, and ``model.json``, which names them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import TrainableModel, WorldModel
from tdm_agents.storage import CheckpointError, make_folder, read_json, write_json
from tdm_agents.world_models.model_files import (
    MODEL_FILE,
    SETTINGS_SHA256,
    load_model,
    settings_sha256,
    weights_sha256,
)

SCHEMA = 1


def save_parts(folder: Path, kind: str, parts: Mapping[str, Any], **settings: float | str) -> None:
    """Write every part into a folder of its name, and ``model.json`` last.

    Args:
        folder: Folder of the whole.
        kind: The wrapper's name in the registry.
        parts: World models by name.
        settings: The wrapper's other arguments.

    Raises:
        ValueError: If a part is no model that can be saved.
    """
    check_parts(parts)
    for name, part in parts.items():
        make_folder(folder / name)
        part.save(folder / name)
    write_parts(folder, kind, {name: name for name in parts}, **settings)


def check_parts(parts: Mapping[str, Any]) -> None:
    """Refuse parts that cannot be saved, before anything is written.

    Raises:
        ValueError: If a part is no model that can be saved.
    """
    for name, part in parts.items():
        if not (isinstance(part, WorldModel) and callable(getattr(part, "save", None))):
            raise WrongValueError(
                f"the {name} is a {type(part).__name__}; expected a world model with weights, which has "
                "save(): save the parts, and wrap them again after loading"
            )


def write_parts(folder: Path, kind: str, paths: Mapping[str, str], **settings: float | str) -> None:
    """Write ``model.json`` of parts that are there.

    Args:
        folder: Folder of the whole.
        kind: The wrapper's name in the registry.
        paths: Folders of the parts by name, relative to ``folder``.
        settings: The wrapper's other arguments.
    """
    value = {
        "schema": SCHEMA,
        "type": kind,
        "parts": dict(paths),
        "settings": settings,
        "sha256": _sha256(folder, paths),
    }
    write_json(folder / MODEL_FILE, value | {SETTINGS_SHA256: settings_sha256(value)})


def load_parts(
    folder: Path | str, kind: str, names: tuple[str, ...], device: str | torch.device
) -> tuple[list[Any], dict[str, Any]]:
    """The parts that :func:`save_parts` wrote, in the order of ``names``, and the wrapper's settings.

    Raises:
        CheckpointError: If a file is missing, truncated or altered.
    """
    folder = Path(folder)
    path = folder / MODEL_FILE
    value = read_json(
        path, schema=SCHEMA, fields={"type": str, "sha256": str, "parts": dict, "settings": dict}
    )
    paths = value["parts"]
    if (
        value.get(SETTINGS_SHA256) != settings_sha256(value)
        or value["type"] != kind
        or set(paths) != set(names)
        or not all(isinstance(part, str) for part in paths.values())
        or value["sha256"] != _sha256(folder, paths)
    ):
        raise CheckpointError(
            f"{path} does not agree with its parts, or is not of the type {kind!r}; expected what was saved, "
            "but it was altered: copy or save the model again"
        )
    found = [load_model(folder / paths[name], device) for name in names]
    parts = [part.environment(None) if isinstance(part, TrainableModel) else part for part in found]
    return parts, value["settings"]


def _sha256(folder: Path, paths: Mapping[str, str]) -> str:
    """A hash that stands for the weights of all parts."""
    told = "".join(f"{name} {weights_sha256(folder / path)}\n" for name, path in sorted(paths.items()))
    return hashlib.sha256(told.encode()).hexdigest()
