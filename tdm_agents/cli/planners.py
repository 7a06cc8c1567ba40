"""``tdm planners``: what is installed, with settings and where each comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tdm_agents import registry


@dataclass(frozen=True)
class Planners:
    """List the installed planners: their settings with defaults, and the package that each comes from."""

    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One planner.

    Attributes:
        name: What ``planner=`` takes.
        package: The distribution that provides it.
        settings: Its fields with their defaults; empty where it does not import.
        error: Why it does not import, or None.
    """

    name: str
    package: str
    settings: dict[str, Any]
    error: str | None


def installed() -> list[Installed]:
    """Every planner; one that does not import is listed with its error instead of hiding the others."""
    packages = {e.name: e.dist.name if e.dist else "unknown" for e in entry_points(group=registry.PLANNERS)}
    found = []
    for name in registry.names(registry.PLANNERS):
        package = packages.get(name, "registered by this process")
        try:
            settings, error = settings_of(registry.load(registry.PLANNERS, name)), None
        except (ImportError, ValueError) as problem:
            settings, error = {}, str(problem)
        found.append(Installed(name, package, settings, error))
    return found


def settings_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """A planner's settings with their defaults; ``"required"`` where there is none."""
    if not dataclasses.is_dataclass(factory):
        return {}
    return {f.name: _default(f) for f in dataclasses.fields(factory) if f.init}


def run(arguments: Planners) -> None:
    """Print the list."""
    found = installed()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(p) for p in found], indent=2, default=str))
        return
    shown = Table("planner", "settings", "package")
    for planner in found:
        settings = ", ".join(f"{k}={v!r}" for k, v in planner.settings.items())
        shown.add_row(planner.name, escape(planner.error or settings), planner.package)
    Console().print(shown)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else "required"
