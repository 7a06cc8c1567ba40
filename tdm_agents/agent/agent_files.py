"""Agent folders: a model's own files, and ``agent.json``, which says how to plan with it.

``model.json`` and ``weights.safetensors`` belong to the world model, which writes and reads them; the
``"type"`` is the model's name in the registry. ``agent.json`` holds the planner's name and settings, the
reward function's name or null, the environment's id, and the number of decisions per plan. Nothing is a
pickle.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import torch

from tdm_agents import registry
from tdm_agents.agent import hub
from tdm_agents.agent.reward_choice import reward_name
from tdm_agents.agent.unseen import ForAnySpec, model_for
from tdm_agents.environments import EnvRef, import_on_the_word_of
from tdm_agents.errors import (
    PathTakenError,
    UnknownNameError,
    WrongTypeError,
    WrongValueError,
    brief,
    is_mistake,
    retold,
)
from tdm_agents.json_text import plain_number
from tdm_agents.protocols import Planner, RewardFn, TrainableModel, WorldModel
from tdm_agents.storage import CheckpointError, foreign_file, make_folder, read_json, write_json
from tdm_agents.world_models import model_files

SCHEMA = 2
SCHEMAS = (SCHEMA, 1)
"""Schemas that are read. In schema 1 the planners' setting ``execute`` was called ``returns``."""
AGENT_FILE = "agent.json"
OWN_FILES = frozenset({AGENT_FILE, model_files.MODEL_FILE, "weights.safetensors"})
"""What a killed :func:`write` may have left of a model, besides a plug-in's own files."""


@runtime_checkable
class Saveable(Protocol):
    """A world model that writes itself into a folder; its class reads it with ``load(folder, device=)``."""

    def save(self, folder: Path) -> None:
        """Write ``model.json`` (with ``"type"``, the name in the registry) and whatever else it needs."""
        ...


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The contents of ``agent.json``.

    Attributes:
        planner: The planner's name in the registry.
        planner_settings: Fields of its dataclass.
        reward_function: Name of a function of :mod:`tdm_envs.rewards`, ``"module:function"``, or None for
            the model's own reward.
        env_id: The environment that the agent is for, with its module and arguments, as
            :meth:`tdm_agents.environments.EnvRef.parse` reads it; or None.
        replan_every: Decisions per plan.
        deadline: Seconds that a decision may take; None = as long as it takes.
        source: The file that says so; ``""`` where none does.
    """

    planner: str
    planner_settings: Mapping[str, Any] = field(default_factory=dict)
    reward_function: str | None = None
    env_id: str | None = None
    replan_every: int = 1
    deadline: float | None = None
    source: str = field(default="", compare=False)


def settings_of(
    planner: Planner,
    reward_function: str | RewardFn | None,
    env_id: str | None,
    *,
    replan_every: int = 1,
    deadline: float | None = None,
) -> AgentSettings:
    """The settings from which an agent is built again.

    Raises:
        ValueError: If the planner's class has no name in the registry, or the reward function none by which
            it could be imported.
    """
    if not dataclasses.is_dataclass(planner) or isinstance(planner, type):
        raise WrongValueError(
            f"planner {planner!r} is not a dataclass of its settings, so they cannot be saved"
        )
    return AgentSettings(
        planner_name(planner),
        dataclasses.asdict(planner),
        reward_name(reward_function),
        env_id,
        replan_every,
        deadline,
    )


def planner_name(planner: Planner) -> str:
    """The name of a planner's class: in the registry, or ``"module:Class"``.

    Raises:
        ValueError: If it has none by which it could be found again.
    """
    known = registry.names(registry.PLANNERS)
    for name in known:
        try:
            factory = registry.load(registry.PLANNERS, name)
        except (ImportError, ValueError):
            continue  # one broken package is no reason to refuse another planner
        if factory is type(planner):
            return name
    module, name = type(planner).__module__, type(planner).__qualname__
    if module != "__main__" and getattr(sys.modules.get(module), name, None) is type(planner):
        return f"{module}:{name}"
    raise WrongValueError(
        f"{type(planner).__name__} has no name among the installed planners ({', '.join(known)}), and no "
        "module to import it from: define it in a file of its own, give it an entry point, or call "
        "tdm_agents.registry.register(PLANNERS, name, class) first"
    )


def write(folder: Path, model: WorldModel[Any], settings: AgentSettings) -> None:
    """Write a model and how to plan with it; ``agent.json`` comes last, so a folder that has it is whole.

    Raises:
        FileExistsError: If ``folder`` holds files but no checkpoint.
        OSError: If ``folder`` cannot be made or written to.
        ValueError: If the model cannot be saved.
    """
    if not isinstance(model, Saveable):
        raise WrongValueError(
            f"{type(model).__name__} has no save(): only models with weights can be saved; a wrapped "
            "model can be saved if its wrapper is named: TDMAgent(model, planner, reward_function=...)"
        )
    found = foreign_file(folder, OWN_FILES)
    if found is not None and not any(
        (folder / name).exists() for name in (AGENT_FILE, model_files.MODEL_FILE)
    ):
        raise PathTakenError(
            f"{folder} holds {found!r} and no checkpoint; choose another folder, or empty this one"
        )
    make_folder(folder)
    model.save(folder)
    write_settings(folder, settings)


def write_settings(folder: Path, settings: AgentSettings) -> None:
    """Write ``agent.json`` beside a model's files.

    Raises:
        ValueError: If a planner setting is not a JSON value.
    """
    value = {
        "schema": SCHEMA,
        "planner": {"name": settings.planner, "settings": dict(settings.planner_settings)},
        "reward_function": settings.reward_function,
        "env_id": settings.env_id,
        "replan_every": settings.replan_every,
        "deadline": settings.deadline,
    }
    try:
        json.dumps(value, allow_nan=False, default=plain_number)
    except (TypeError, ValueError) as error:
        raise WrongValueError(
            f"settings of planner {settings.planner!r} are not JSON ({error}): expected numbers, strings, "
            "booleans, None and lists or tuples of them"
        ) from error
    write_json(folder / AGENT_FILE, value)


def read_settings(folder: Path) -> AgentSettings:
    """Read ``agent.json``.

    Raises:
        CheckpointError: If it is missing, not JSON, of another schema, or lacks something.
    """
    path = folder / AGENT_FILE
    if not path.exists() and (folder / model_files.MODEL_FILE).exists():
        raise CheckpointError(
            f"{path} is missing, though {folder} holds a model: its training has not finished, or the model "
            "was saved by itself; `tdm train` writes the file at its end, and agent.save(folder) at once"
        )
    value = read_json(path, schema=SCHEMAS)
    planner = value.get("planner")
    texts = (value.get("reward_function"), value.get("env_id"))
    # older versions, which always replanned and had no deadlines, wrote neither
    replan_every, deadline = value.get("replan_every", 1), value.get("deadline")
    if (
        not isinstance(planner, dict)
        or not isinstance(planner.get("name"), str)
        or not isinstance(planner.get("settings"), dict)
        or not all(text is None or isinstance(text, str) for text in texts)
        or type(replan_every) is not int
        or replan_every < 1
        or not (deadline is None or (type(deadline) in (int, float) and deadline > 0))
    ):
        raise CheckpointError(
            f'{path} is not an agent\'s: expected "planner": {{"name", "settings"}}, and '
            '"reward_function" and "env_id" that are strings or null, and, if there, "replan_every" that is '
            'a positive integer and "deadline" that is a positive number or null; restore it from where it '
            "came"
        )
    return AgentSettings(
        planner["name"], _tuples(planner["settings"]), *texts, replan_every, deadline, str(path)
    )


def choose_planner(
    saved: AgentSettings, planner: str | Planner | None, overrides: Mapping[str, Any]
) -> Planner:
    """The planner to use: the saved one, another by name (which keeps the saved horizon), or the given one.

    Raises:
        UntrustedModuleError: If the file names a planner of a module that must not be imported on its word.
        TypeError: If a setting does not exist, or settings are given for a planner that is already built.
        LookupError: If the name is unknown.
    """
    if planner is None and saved.source and ":" in saved.planner:
        module = saved.planner.partition(":")[0]
        import_on_the_word_of(saved.source, module, f"its planner {saved.planner!r}")
    if planner is None or planner == saved.planner:
        # a file of an earlier version is no reason to warn whoever reads it
        try:
            factory = registry.load(registry.PLANNERS, saved.planner)
        except UnknownNameError as error:
            raise UnknownNameError(f"{saved.source}: {error}") from error
        kept = registry.present_settings(factory, saved.planner_settings)
        if not overrides and saved.source:
            return _planner_of_file(saved, kept)
        return registry.make_planner(saved.planner, **{**kept, **overrides})
    if isinstance(planner, str):
        horizon = {k: v for k, v in saved.planner_settings.items() if k == "horizon"}
        return registry.make_planner(planner, **{**horizon, **overrides})
    if overrides:
        raise WrongTypeError(
            f"settings {sorted(overrides)} beside a planner that is already built; "
            "give the planner's name instead, or set them when building it"
        )
    return planner


def _planner_of_file(saved: AgentSettings, settings: Mapping[str, Any]) -> Planner:
    try:
        return registry.make_planner(saved.planner, **settings)
    except (ValueError, TypeError) as error:
        if not is_mistake(error):
            raise
        raise CheckpointError(
            f"{saved.source} says what the planner {saved.planner!r} does not take: {brief(error)}; restore "
            "the file from where it came, or name a planner (--planner, planner=)"
        ) from error


def load_model(
    folder: Path,
    device: str | torch.device = "cpu",
    *,
    env_id: str | None = None,
    env: gym.Env[Any, Any] | None = None,
) -> WorldModel[Any]:
    """The world model in a folder.

    Args:
        folder: Folder of the model.
        device: Where it computes.
        env_id: The environment whose model to return, where the folder's is of several; otherwise not read.
        env: The environment itself, in place of ``env_id``; a generalist's need not be one of those.

    Raises:
        CheckpointError: If a file is missing, truncated or altered.
        UnknownNameError: If no installed package provides the model's class.
        LookupError: If the model is of several environments and ``env_id`` is none of them.
        ValueError: If ``env`` does not fit the model.
    """
    model = model_files.load_model(folder, device)
    if env is not None and isinstance(model, ForAnySpec):
        try:
            return model_for(model, env)
        except ValueError as error:
            raise retold(error, f"{folder}: {error}") from error
    if env is not None and env_id is None and hasattr(model, "environments"):
        ref = EnvRef.of_env(env)
        env_id = None if ref is None else ref.name
    found: WorldModel[Any] = model.environment(env_id) if isinstance(model, TrainableModel) else model
    return found


def bundled() -> dict[str, Path]:
    """Checkpoints that come with the package, by name."""
    root = Path(str(resources.files("tdm_agents"))) / "checkpoints"
    return {p.parent.name: p.parent for p in sorted(root.glob(f"*/{AGENT_FILE}"))}


def resolve(name_or_folder: str | Path) -> Path:
    """The folder of a bundled checkpoint's name or of an agent on the hub, or the folder itself.

    Text that begins with ``hf://`` names an agent on the hub, which is downloaded. A ``Path``, or text with a
    separator or a leading dot, is a folder. A bare word is a bundled name if there is one, and otherwise a
    folder.

    Raises:
        UnknownNameError: If it is neither; the message names the nearest and lists the bundled ones.
        CheckpointError: If it is a file or not there, or a downloaded file is not the one that was uploaded.
        HubError: If the hub cannot be reached, and the agent was never loaded before.
        TypeError: If it is neither text nor a path.
    """
    if not isinstance(name_or_folder, str | Path):
        raise WrongTypeError(
            f"checkpoint is {name_or_folder!r}; expected the name of a bundled one "
            f"({', '.join(bundled()) or 'none'}), the path of a folder, or hf://owner/name"
        )
    if isinstance(name_or_folder, str) and name_or_folder.startswith(hub.SCHEME):
        return hub.download(name_or_folder)
    folder = _resolved(name_or_folder)
    if folder.is_file():
        raise CheckpointError(
            f"{folder} is a file; expected the folder of a checkpoint: pass {str(folder.parent)!r} if that "
            "is one"
        )
    if not folder.exists():
        beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
        agents = sorted(one.name for one in beside if (one / AGENT_FILE).exists())
        near = difflib.get_close_matches(folder.name, agents, n=1)
        hint = (
            f"; did you mean {str(folder.parent / near[0])!r}?"
            if near
            else "; `tdm train --out FOLDER` makes one"
        )
        raise CheckpointError(f"there is no folder {folder}{hint}")
    return folder


def _resolved(name_or_folder: str | Path) -> Path:
    if isinstance(name_or_folder, Path):
        return name_or_folder
    separators = [s for s in (os.sep, os.altsep) if s]
    if name_or_folder.startswith((".", "~")) or any(s in name_or_folder for s in separators):
        return Path(name_or_folder).expanduser()
    known = bundled()
    if name_or_folder in known:
        return known[name_or_folder]
    if Path(name_or_folder).exists():
        return Path(name_or_folder)
    near = difflib.get_close_matches(name_or_folder, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(
        f"no checkpoint named {name_or_folder!r} and no folder of that name; {hint}"
        f"Bundled: {', '.join(known) or 'none'}"
    )


def _tuples(value: Any) -> Any:
    """JSON lists as tuples, because settings of planners (frozen dataclasses) must be immutable."""
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
