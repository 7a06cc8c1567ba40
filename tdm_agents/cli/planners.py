"""``tdm planners``: the installed planners, with their settings and packages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Planners:
    """List the installed planners: their settings with defaults, and the package that each comes from."""

    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One planner.

    Attributes:
        name: Name that ``planner=`` takes.
        package: The distribution that provides it, or several where they clash.
        version: Version of the distribution.
        settings: Its fields with their defaults; empty where it cannot be used.
        error: Reason why it cannot be used, or None.
    """

    name: str
    package: str
    version: str
    settings: dict[str, Any]
    error: str | None


def installed() -> list[Installed]:
    """All planners; one that cannot be used is listed with its error, so that it does not hide the others."""
    from tdm_agents import registry  # here: it imports torch

    found = []
    for name in registry.names(registry.PLANNERS):
        origins = registry.providers(registry.PLANNERS, name) or [("registered by this process", "")]
        try:
            settings, error = settings_of(registry.load(registry.PLANNERS, name)), None
        except registry.PluginError as problem:
            settings, error = {}, str(problem)
        packages, versions = (", ".join(column) for column in zip(*origins, strict=True))
        found.append(Installed(name, packages, versions, settings, error))
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
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table("planner", "settings", "package")
    for planner in found:
        settings = ", ".join(f"{k}={v!r}" for k, v in planner.settings.items())
        package = f"{planner.package} {planner.version}".strip()
        shown.add_row(escape(planner.name), escape(planner.error or settings), escape(package))
    Console().print(shown)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    # not called, because a plug-in's code could fail and hide the others
    factory = field.default_factory
    return "required" if factory is dataclasses.MISSING else f"{getattr(factory, '__name__', factory)}()"
