"""The state of a training run on disk: switched to atomically, so that a kill at any moment loses nothing.

``folder/checkpoint.json`` names the present pair of files under ``folder/checkpoints``: weights (with
buffers), and AdamW's moments. Each checkpoint goes to files of its own and the JSON is renamed into place
last; only then are the files of the checkpoint before it removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tdm_agents.storage import CheckpointError, read_json, read_tensors, write_json, write_tensors

SCHEMA = 1
_POINTER = "checkpoint.json"
_FILES = "checkpoints"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a run goes on from.

    Attributes:
        step: Updates made.
        weights: The model's ``state_dict``.
        moments: AdamW's state: ``<moment>.<parameter>`` by :func:`optimizer_tensors`.
        settings: The settings that the run was started with, as JSON.
    """

    step: int
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    settings: Mapping[str, Any]


def exists(folder: Path) -> bool:
    """Whether the folder holds a checkpoint."""
    return (folder / _POINTER).exists()


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint and switch to it; what was there before stays whole until then."""
    files = folder / _FILES
    names = {kind: f"step-{checkpoint.step:08d}.{kind}.safetensors" for kind in ("weights", "moments")}
    sha256 = {
        "weights": write_tensors(files / names["weights"], checkpoint.weights),
        "moments": write_tensors(files / names["moments"], checkpoint.moments),
    }
    write_json(
        folder / _POINTER,
        {
            "schema": SCHEMA,
            "step": checkpoint.step,
            "files": names,
            "sha256": sha256,
            "settings": checkpoint.settings,
        },
    )
    # also sweeps what killed processes left half-written; the folder's lock makes sure that none is alive
    for path in files.iterdir():
        if path.name not in names.values():
            path.unlink()
    for path in folder.glob(f".{_POINTER}.*.partial"):
        path.unlink()


def load(folder: Path) -> Checkpoint:
    """The present checkpoint.

    Raises:
        CheckpointError: If there is none, or it was altered.
    """
    value = read_json(folder / _POINTER, schema=SCHEMA)
    try:
        step, settings, sha256 = int(value["step"]), value["settings"], value["sha256"]
        paths = {kind: folder / _FILES / value["files"][kind] for kind in ("weights", "moments")}
        sums = {kind: str(sha256[kind]) for kind in paths}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / _POINTER} was altered ({type(error).__name__}: {error}); train into a new folder"
        ) from error
    return Checkpoint(
        step=step,
        weights=read_tensors(paths["weights"], sha256=sums["weights"]),
        moments=read_tensors(paths["moments"], sha256=sums["moments"]),
        settings=settings,
    )


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state by name: ``step.<parameter>``, ``exp_avg.<parameter>``, ``exp_avg_sq.<parameter>``."""
    return {
        f"{kind}.{name}": tensor
        for name, parameter in model.named_parameters()
        for kind, tensor in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what :func:`optimizer_tensors` took.

    Raises:
        CheckpointError: If a tensor belongs to no parameter of the model or has another shape.
    """
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        kind, _, name = key.partition(".")
        parameter = parameters.get(name)
        if parameter is None or (kind != "step" and tensor.shape != parameter.shape):
            raise CheckpointError(
                f"the checkpoint holds {key} {tuple(tensor.shape)}, which the model does not have: "
                "it is of a model with other settings; train into a new folder"
            )
        # AdamW keeps its step count where fused kernels want it: beside the parameter
        optimizer.state[parameter][kind] = tensor.to(parameter.device)
