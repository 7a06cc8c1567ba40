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
from tdm_agents.errors import UnknownNameError
from tdm_agents.json_text import JsonError, check_fields, load_json, plain_number
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces.spec_json import spec_from_json, spec_to_json
from tdm_agents.storage import CheckpointError, read_json, read_tensors, write_json, write_tensors
from tdm_agents.world_models.allocations import Allocations

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
    kind = _model_json(folder, "type")
    try:
        loader: Any = registry.load(registry.WORLD_MODELS, kind)
    except UnknownNameError as error:
        raise UnknownNameError(f"{path} is of a model that is not installed: {str(error)[:400]}") from error
    if not callable(getattr(loader, "load", None)):
        raise CheckpointError(
            f"{path} says that the model is a {kind!r}, which has no weights and cannot be loaded; it was "
            "altered: copy or train the model again"
        )
    return loader.load(folder, device=device)


def _model_json(folder: Path, name: str) -> str:
    """A text of ``model.json``, whose schema is the model's own business."""
    path = folder / MODEL_FILE
    try:
        return str(check_fields(load_json(path), str(path), {name: str})[name])
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: is {folder} a checkpoint folder?") from error
    except JsonError as error:
        raise CheckpointError(str(error)) from error


def weights_sha256(folder: Path) -> str:
    """The sha256 of the weights that ``model.json`` names.

    Raises:
        CheckpointError: If it is missing or names none.
    """
    return _model_json(folder, "sha256")


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
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), default=plain_number)
    return hashlib.sha256(text.encode()).hexdigest()


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
    path, weights_path = folder / MODEL_FILE, folder / "weights.safetensors"
    value = read_json(path, schema=_READ, fields={"type": str, "sha256": str})
    if value["type"] != kind:
        raise CheckpointError(f"{path} is of a model of type {value['type'][:80]!r}; expected {kind!r}")
    if value.get(SETTINGS_SHA256) != settings_sha256(value):
        raise CheckpointError(
            f"{path} does not agree with its {SETTINGS_SHA256}, which is "
            f"{str(value.get(SETTINGS_SHA256))[:80]!r}; expected what was saved, but it was altered: copy or "
            "save the model again"
        )
    weights = read_tensors(weights_path, sha256=value["sha256"])
    try:
        with Allocations.of_file(weights):
            model = build(value)
    except (
        ArithmeticError,
        AttributeError,
        AssertionError,
        LookupError,
        MemoryError,
        RuntimeError,  # PyTorch's, of sizes that are none, and our CheckpointErrors
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointError(
            f"{path} is not readable: it was altered ({type(error).__name__}: {str(error)[:400]}); copy or "
            "save the model again"
        ) from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    if wrong:
        raise CheckpointError(
            f"{weights_path} does not fit model.json in {len(wrong)} of {len(expected)} tensors; {wrong[0]} "
            f"has shape {found.get(wrong[0])}, expected {expected.get(wrong[0])} (None: no such tensor): "
            "copy both files again"
        )
    for name, _ in model.named_parameters():
        if not bool(torch.isfinite(weights[name]).all()):
            raise CheckpointError(
                f"{weights_path} holds NaN or infinity in {name}, so nothing can be predicted with it; train "
                "the model again, with a smaller learning rate where it diverged"
            )
    model.load_state_dict(weights)
    return model.to(device).eval()
