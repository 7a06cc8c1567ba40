"""The files of a saved world model: ``weights.safetensors``, and ``model.json``, which describes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from tdm_agents import registry
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces.spec_json import spec_from_json, spec_to_json
from tdm_agents.storage import CheckpointError, read_json, read_tensors, write_json, write_tensors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA = 2
_READ = (1, SCHEMA)  # settings of schema 1 had other names, which the models know
MODEL_FILE = "model.json"
SETTINGS_SHA256 = "settings_sha256"
M = TypeVar("M", bound=nn.Module)


def load_model(folder: Path, device: torch.device | str = "cpu") -> Any:
    """The model in a folder, read by the class that ``model.json`` names.

    Raises:
        CheckpointError: If a file is missing, truncated or altered.
        UnknownNameError: If no installed package provides the class.
    """
    path = folder / MODEL_FILE
    try:
        kind = json.loads(path.read_text())["type"]  # its schema is the class's own business
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: is {folder} a checkpoint folder?") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f'{path} is not a JSON object with a "type"; copy or train it again') from error
    loader: Any = registry.load(registry.WORLD_MODELS, str(kind))
    return loader.load(folder, device=device)


def weights_sha256(folder: Path) -> str:
    """The sha256 of the weights that ``model.json`` names.

    Raises:
        CheckpointError: If it is missing or names none.
    """
    path = folder / MODEL_FILE
    try:
        return str(json.loads(path.read_text())["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not name the hash of its weights; train the model again"
        ) from error


def write_model(
    folder: Path | str, kind: str, model: nn.Module, *, spec: ModelSpec, config: DataclassInstance
) -> None:
    """Write a model, each file atomically; the JSON last, with hashes of the weights and of itself.

    Args:
        folder: Folder of the model; made if it does not exist.
        kind: The model's name in the registry.
        model: The model, whose state dict is written.
        spec: Spec of the model.
        config: Settings of the model: JSON values, or dataclasses of them.
    """
    write_described(folder, kind, model, {"spec": spec_to_json(spec), "config": asdict(config)})


def write_described(folder: Path | str, kind: str, model: nn.Module, description: Mapping[str, Any]) -> None:
    """Write weights with any JSON description; otherwise like :func:`write_model`."""
    folder = Path(folder)
    sha256 = write_tensors(folder / "weights.safetensors", model.state_dict())
    value = {"schema": SCHEMA, "type": kind, **description, "sha256": sha256}
    write_json(folder / MODEL_FILE, value | {SETTINGS_SHA256: settings_sha256(value)})


def settings_sha256(value: Mapping[str, Any]) -> str:
    """The sha256 of a ``model.json`` without this hash itself, whatever its layout and order of keys."""
    rest = {name: part for name, part in value.items() if name != SETTINGS_SHA256}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_model(
    folder: Path | str,
    kind: str,
    build: Callable[[ModelSpec, Mapping[str, Any]], M],
    *,
    device: torch.device | str = "cpu",
) -> M:
    """The model that :func:`write_model` wrote, ready to plan with.

    Args:
        folder: Folder of the model.
        kind: The type that ``model.json`` must name.
        build: Makes a model with any weights from a spec and the JSON of the settings.
        device: Device that the model is moved to.

    Raises:
        CheckpointError: If a file is missing, truncated or altered, or has another schema or type.
    """
    return read_described(
        folder,
        kind,
        lambda value: build(spec_from_json(value["spec"], device), value["config"]),
        device=device,
    )


def read_described(
    folder: Path | str,
    kind: str,
    build: Callable[[Mapping[str, Any]], M],
    *,
    device: torch.device | str = "cpu",
) -> M:
    """The model that :func:`write_described` wrote, ready to plan with.

    Args:
        folder: Folder of the model.
        kind: The type that ``model.json`` must name.
        build: Makes a model with any weights from the JSON of ``model.json``.
        device: Device that the model is moved to.

    Raises:
        CheckpointError: If a file is missing, truncated or altered, or has another schema or type.
    """
    folder = Path(folder)
    value = read_json(folder / MODEL_FILE, schema=_READ)
    if value.get("type") != kind:
        raise CheckpointError(f"{folder} holds a model of type {value.get('type')!r}; expected {kind!r}")
    if value.get(SETTINGS_SHA256) != settings_sha256(value):
        raise CheckpointError(
            f"{folder / 'model.json'} does not agree with its {SETTINGS_SHA256}, which is "
            f"{value.get(SETTINGS_SHA256)!r}; expected what was saved, but it was altered: copy or save the "
            "model again"
        )
    try:
        sha256 = str(value["sha256"])
        model = build(value)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / 'model.json'} is not readable: it was altered ({error}); copy or save the model again"
        ) from error
    weights = read_tensors(folder / "weights.safetensors", sha256=sha256)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    if wrong:
        raise CheckpointError(
            f"{folder}: weights.safetensors does not fit model.json in {len(wrong)} of {len(expected)} "
            f"tensors; {wrong[0]} has shape {found.get(wrong[0])}, expected {expected.get(wrong[0])} "
            "(None: no such tensor): copy both files again"
        )
    model.load_state_dict(weights)
    return model.to(device).eval()
