"""Planners and world models by name: found through entry points, imported when first used.

A stranger's package adds one line to its own ``pyproject.toml``::

    [project.entry-points."tdm_agents.planners"]
    mine = "my_package.my_module:MyPlanner"

The built-in planners are found the same way.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tdm_agents.protocols import Planner

PLANNERS = "tdm_agents.planners"
WORLD_MODELS = "tdm_agents.world_models"

_registered: dict[tuple[str, str], Callable[..., Any]] = {}


class UnknownNameError(LookupError):
    """A name that no installed package provides; the message says which is nearest."""


def register(group: str, name: str, factory: Callable[..., Any]) -> None:
    """Make ``factory`` available under ``name`` for this process, without an entry point.

    Args:
        group: :data:`PLANNERS` or :data:`WORLD_MODELS`.
        name: What users type.
        factory: The class, or anything that builds one from keyword arguments.

    Raises:
        ValueError: If the name is taken, by ``register`` or by an installed package.
    """
    if (group, name) in _registered or any(e.name == name for e in entry_points(group=group)):
        raise ValueError(f"{name!r} is already taken in {group!r}; choose another name")
    _registered[group, name] = factory


def names(group: str) -> list[str]:
    """Every name of a group, sorted."""
    return sorted({e.name for e in entry_points(group=group)} | {n for g, n in _registered if g == group})


def load(group: str, name: str) -> Callable[..., Any]:
    """The class behind a name; imported now.

    Raises:
        UnknownNameError: If nobody provides it.
        ValueError: If two installed packages provide it.
        ImportError: If its package is installed but its entry point does not import.
    """
    if (group, name) in _registered:
        return _registered[group, name]
    found = [e for e in entry_points(group=group) if e.name == name]
    if not found:
        raise UnknownNameError(_unknown(group, name))
    if len({e.value for e in found}) > 1:
        raise ValueError(
            f"{name!r} is provided more than once in {group!r}: "
            + ", ".join(f"{e.value} ({_package(e)})" for e in found)
            + "; uninstall all but one of these packages"
        )
    try:
        loaded: Callable[..., Any] = found[0].load()
    except Exception as error:
        raise ImportError(
            f"{name!r} in {group!r} is {found[0].value} of package {_package(found[0])}, "
            f"which does not import: {type(error).__name__}: {error}"
        ) from error
    return loaded


def make_planner(name: str, **settings: Any) -> Planner:
    """A planner by name, for example ``make_planner("cem", horizon=25, num_samples=64)``.

    Args:
        name: An entry point of the group ``tdm_agents.planners``, or a registered name.
        **settings: Fields of the planner's dataclass.

    Raises:
        UnknownNameError: If no package provides the name.
        TypeError: If the planner has no such setting; the message lists those it has.
        ValueError: If a setting's value makes no sense.
    """
    factory = load(PLANNERS, name)
    try:
        known = [f.name for f in fields(factory) if f.init]  # type: ignore[arg-type]
    except TypeError:
        known = None
    if known is not None and (unknown := sorted(set(settings) - set(known))):
        raise TypeError(f"planner {name!r} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    planner: Planner = factory(**settings)
    return planner


def _unknown(group: str, name: str) -> str:
    known = names(group)
    kind = group.rpartition(".")[2][:-1].replace("_", " ")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known) or "none: is tdm-agents installed (pip install)?"
    return f"no {kind} named {name!r}; {hint}Installed: {listed}"


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"
