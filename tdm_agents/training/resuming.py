"""Going on with the run in a folder: its settings are compared, its weights and optimizers restored."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdm_agents.errors import WrongValueError
from tdm_agents.json_text import plain_number
from tdm_agents.protocols import Optimizers
from tdm_agents.storage import CheckpointError
from tdm_agents.training import run_state
from tdm_agents.world_models.sharded_weights import kept_like

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


PROCESSES = "processes"
"""The number of processes that trained together, in the progress of a checkpoint; 1 is left out."""


def check_processes(folder: Path, found: run_state.RunState, processes: int) -> None:
    """Refuse to go on with another number of processes, which rounds otherwise.

    Raises:
        ValueError: If the run was trained by another number.
    """
    if (before := int(found.progress.get(PROCESSES, 1))) != processes:
        raise WrongValueError(
            f"the run in {folder} was trained by {before} process{'' if before == 1 else 'es'}, now there "
            f"{'is' if processes == 1 else 'are'} {processes}: start {before}, or add --any-processes, with "
            "which the result differs by rounding from that of an undisturbed run"
        )


def settings_json(config: DataclassInstance) -> dict[str, Any]:
    """Settings as they are on disk, where tuples are lists, so that what is written is what is compared."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config), default=plain_number))
    return settings


def restore_run(
    folder: Path,
    model: Any,
    optimizers: Optimizers,
    config: DataclassInstance,
    *,
    observers: Collection[str],
) -> run_state.RunState:
    """Restore a model and its optimizers from the last checkpoint of a run.

    Args:
        folder: Folder of the run.
        model: The model; its weights are overwritten.
        optimizers: Its optimizers; their state is overwritten.
        config: Settings with which the run is to go on.
        observers: Names of those that may differ.

    Returns:
        The checkpoint.

    Raises:
        ValueError: If another setting differs; the message names it.
        CheckpointError: If the checkpoint was altered or belongs to another model.
    """
    found = run_state.load(folder)
    # a setting that came after the run began had its default
    began: dict[str, Any] = {f.name: f.default for f in fields(config)}
    began.update(found.settings)
    for name, value in settings_json(config).items():
        if name not in observers and began[name] != value:
            raise WrongValueError(
                f"the run in {folder} has {name}={began[name]!r}, now it is {value!r}: go on "
                "with its own settings, or begin in another folder"
            )
    here = model.state_dict()
    try:
        kept = {name: kept_like(v, here[name]) if name in here else v for name, v in found.weights.items()}
        model.load_state_dict(kept)
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder} holds a run of another model: {error}; choose another folder"
        ) from error
    run_state.restore_optimizers(model, optimizers, found.optimizers)
    return found
