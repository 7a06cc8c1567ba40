"""The state of a training run on disk, switched atomically, so that a kill at any moment loses nothing.

``folder/checkpoint.json`` names the present pair of files under ``folder/checkpoints``: weights (with
buffers), and the state of the optimizers. Each checkpoint goes to files of its own and the JSON is renamed
into place last; only then are the files of the checkpoint before it removed. Files of other names are left
alone. The JSON holds the hashes of both files and one over itself.

Schema 2 had no hash over itself; schema 1, of runs with a single AdamW, called its second file ``moments``.
Both are still read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tdm_agents.errors import brief
from tdm_agents.protocols import Optimizers
from tdm_agents.storage import (
    CheckpointError,
    read_json,
    read_tensors,
    sweep_partial,
    write_json,
    write_tensors,
)
from tdm_agents.world_models.model_files import SETTINGS_SHA256, settings_sha256
from tdm_agents.world_models.sharded_weights import kept_like, whole

SCHEMA = 3
_POINTER = "checkpoint.json"
_FILES = "checkpoints"
_KINDS = {1: ("weights", "moments"), 2: ("weights", "optimizers"), SCHEMA: ("weights", "optimizers")}
_OURS = re.compile(r"step-\d{8,}\.(weights|moments|optimizers)\.safetensors")


@dataclass(frozen=True, slots=True)
class RunState:
    """The state from which a run goes on.

    Attributes:
        step: Number of updates made.
        weights: The model's ``state_dict``.
        optimizers: State of the optimizers, see :func:`optimizer_state`.
        settings: The settings that the run was started with, as JSON.
        progress: Whatever else a run counts, as JSON.
    """

    step: int
    weights: Mapping[str, Tensor]
    optimizers: OptimizerState
    settings: Mapping[str, Any]
    progress: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """The state of optimizers, by ``<optimizer>/<kind>/<parameter>``.

    Attributes:
        tensors: Tensors by name, for example ``adamw/exp_avg/head.weight``.
        numbers: Python numbers by name, of optimizers that count in Python.
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]


def exists(folder: Path) -> bool:
    """Whether the folder holds a run."""
    return (folder / _POINTER).exists()


def pointer(folder: Path) -> bytes:
    """The content of ``checkpoint.json``, with the hashes of all else; empty where there is none."""
    return (folder / _POINTER).read_bytes() if exists(folder) else b""


def step_of(folder: Path) -> int:
    """The number of updates of the present checkpoint, without reading its tensors.

    Raises:
        CheckpointError: If there is none, or it cannot be read.
    """
    return int(read_json(folder / _POINTER, schema=tuple(_KINDS), fields={"step": int})["step"])


def save(folder: Path, state: RunState) -> None:
    """Write a checkpoint and switch to it; the previous one stays whole until then."""
    files = folder / _FILES
    names = {kind: f"step-{state.step:08d}.{kind}.safetensors" for kind in _KINDS[SCHEMA]}
    sha256 = {
        "weights": write_tensors(files / names["weights"], state.weights),
        "optimizers": write_tensors(files / names["optimizers"], state.optimizers.tensors),
    }
    value = {
        "schema": SCHEMA,
        "step": state.step,
        "files": names,
        "sha256": sha256,
        "optimizer_numbers": dict(state.optimizers.numbers),
        "settings": state.settings,
    }
    if state.progress:
        value["progress"] = state.progress
    write_json(folder / _POINTER, value | {SETTINGS_SHA256: settings_sha256(value)})
    for path in files.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in names.values():
            path.unlink()
    # the folder's lock makes sure that none of those who wrote these is alive
    sweep_partial(files, lambda name: _OURS.fullmatch(name) is not None)


def load(folder: Path) -> RunState:
    """The present checkpoint.

    Raises:
        CheckpointError: If there is none, or it was altered.
    """
    value = read_json(folder / _POINTER, schema=tuple(_KINDS))
    if value["schema"] == SCHEMA and value.get(SETTINGS_SHA256) != settings_sha256(value):
        raise CheckpointError(
            f"{folder / _POINTER} does not agree with its {SETTINGS_SHA256}, which is "
            f"{value.get(SETTINGS_SHA256)!r}; expected what was saved, but it was altered: restore it, or "
            "train into a new folder"
        )
    try:
        step, settings, sha256 = int(value["step"]), value["settings"], value["sha256"]
        weights, optimizers = (
            (_file(folder, value["files"][kind]), str(sha256[kind])) for kind in _KINDS[value["schema"]]
        )
        numbers = {str(name): float(number) for name, number in value.get("optimizer_numbers", {}).items()}
        progress = dict(value.get("progress", {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / _POINTER} was altered ({type(error).__name__}: {brief(error)}); train into a "
            "new folder"
        ) from error
    tensors = read_tensors(optimizers[0], sha256=optimizers[1])
    if value["schema"] == 1:  # "exp_avg.head.weight", of the one AdamW
        tensors = {f"adamw/{name.replace('.', '/', 1)}": tensor for name, tensor in tensors.items()}
    return RunState(
        step=step,
        weights=read_tensors(weights[0], sha256=weights[1]),
        optimizers=OptimizerState(tensors, numbers),
        settings=settings,
        progress=progress,
    )


def _file(folder: Path, name: object) -> Path:
    if not isinstance(name, str) or not re.fullmatch(r"[-\w.]{1,100}", name):
        raise ValueError(f"a file of it is called {str(name)[:100]!r}")
    return folder / _FILES / name


def optimizer_state(model: nn.Module, optimizers: Optimizers) -> OptimizerState:
    """The state that optimizers hold for each of the model's parameters."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for name, optimizer in optimizers.items():
        for parameter_name, parameter in model.named_parameters():
            for kind, value in optimizer.state.get(parameter, {}).items():
                key = f"{name}/{kind}/{parameter_name}"
                if isinstance(value, Tensor):
                    tensors[key] = whole(value)
                elif value is not None:
                    numbers[key] = value
    return OptimizerState(tensors, numbers)


def restore_optimizers(model: nn.Module, optimizers: Optimizers, state: OptimizerState) -> None:
    """Restore what :func:`optimizer_state` returned.

    Raises:
        CheckpointError: If an entry belongs to no optimizer or parameter of the model, or has another shape.
    """
    parameters = dict(model.named_parameters())
    for key, value in (*state.tensors.items(), *state.numbers.items()):
        name, kind, parameter_name = key.split("/", 2)
        parameter = parameters.get(parameter_name)
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        fits = parameter is not None and shape in ((), tuple(parameter.shape))
        if parameter is None or not fits or name not in optimizers:
            raise CheckpointError(
                f"the checkpoint holds {key} {shape}, which the model does not have: it is of a model with "
                "other "
                "settings; train into a new folder"
            )
        # AdamW keeps its step count where fused kernels want it: beside the parameter
        moved = kept_like(value, parameter) if isinstance(value, Tensor) else value
        optimizers[name].state[parameter][kind] = moved
