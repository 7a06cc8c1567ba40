"""Planners, world models and reward functions by name: found through entry points, imported when first used.

Any package adds one line to its own ``pyproject.toml``::

    [project.entry-points."tdm_agents.planners"]
    mine = "my_package.my_module:MyPlanner"

The built-in planners are found the same way. A planner in a file of the current folder needs no package: its
name is ``"module:Class"``. A plug-in that cannot be used (it does not import, two packages
provide its name, or it is not a planner or world model) is an error for the user of that name. The error
says which package it comes from; all other names go on working.
"""

from __future__ import annotations

import difflib
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tdm_agents.errors import (
    MissingPackageError,
    TDMError,
    UnknownNameError,
    WrongTypeError,
    WrongValueError,
    is_mistake,
)
from tdm_agents.protocols import Planner
from tdm_agents.typed_modules import import_typed

PLANNERS = "tdm_agents.planners"
WORLD_MODELS = "tdm_agents.world_models"
REWARDS = "tdm_agents.rewards"
"""Reward functions, see :data:`tdm_agents.protocols.RewardFn`."""

FORMER_SETTINGS = {"returns": "execute"}
"""Planner settings that were renamed, from former to present name; former names work for one more release."""

_METHODS = {PLANNERS: ("init", "plan"), WORLD_MODELS: ("start", "step", "take")}
_OF_SEVERAL = ("build", "environment", "load")
"""Methods of a learned model of several environments, which is not a world model itself."""

_registered: dict[tuple[str, str], Callable[..., Any]] = {}


class PluginError(TDMError, ImportError):
    """An installed plug-in that cannot be used; the message names its package, the reason and the remedy."""


def register(group: str, name: str, factory: Callable[..., Any]) -> None:
    """Make ``factory`` available under ``name`` for this process, without an entry point.

    Args:
        group: :data:`PLANNERS`, :data:`WORLD_MODELS` or :data:`REWARDS`.
        name: The name that users type.
        factory: The class, or anything that builds one from keyword arguments; the function where it is a
            reward.

    Raises:
        ValueError: If the name is taken, by ``register`` or by an installed package.
        TypeError: If ``factory`` is not a planner, world model or function.
    """
    if (group, name) in _registered or any(e.name == name for e in entry_points(group=group)):
        raise WrongValueError(f"{name!r} is already taken in {group!r}; choose another name")
    if fault := _fault(group, factory):
        raise WrongTypeError(f"{name!r} cannot be registered in {group!r}: {fault}")
    _registered[group, name] = factory


def names(group: str) -> list[str]:
    """Every name of a group, sorted."""
    return sorted({e.name for e in entry_points(group=group)} | {n for g, n in _registered if g == group})


def providers(group: str, name: str) -> list[tuple[str, str]]:
    """Distribution and version of every installed package that provides a name, sorted.

    More than one is a clash, which :func:`load` refuses. None means that this process registered the name.
    """
    return sorted({_distribution(e) for e in _entries(group, name)})


def load(group: str, name: str) -> Callable[..., Any]:
    """The class behind a name, imported now.

    Args:
        group: :data:`PLANNERS`, :data:`WORLD_MODELS` or :data:`REWARDS`.
        name: An installed or registered name; of planners also ``"module:Class"``, whose module may lie in
            the current folder. Whoever has the name from a file asks first whether it may be imported.

    Raises:
        UnknownNameError: If no package provides it, or the module has no such class.
        MissingPackageError: If the module is not there or does not import.
        TypeError: If the class of a module is no planner.
        PluginError: If two installed packages provide it, its package does not import, or its entry point
            names something that is not a planner or world model.
    """
    if (group, name) in _registered:
        return _registered[group, name]
    if group == PLANNERS and ":" in name:
        return _of_module(name)
    found = _entries(group, name)
    if not found:
        raise UnknownNameError(_unknown(group, name))
    if len({e.value for e in found}) > 1:
        raise PluginError(
            f"{name!r} is provided more than once in {group!r}: "
            + ", ".join(_origin(e) for e in found)
            + "; uninstall all but one of these packages, or rename the entry point of one"
        )
    what = f"{name!r} in {group!r} is {_origin(found[0])}, which"
    remedy = f"mend, upgrade or uninstall {_distribution(found[0])[0]}"
    try:
        loaded: Callable[..., Any] = found[0].load()
    except (Exception, SystemExit) as error:  # a plug-in's module may raise anything while it is imported
        raise PluginError(f"{what} does not import: {type(error).__name__}: {error}; {remedy}") from error
    if fault := _fault(group, loaded):
        raise PluginError(f"{what} breaks the contract of a {_kind(group)}: {fault}; {remedy}")
    return loaded


def check_settings(what: str, of: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Refuse settings that a dataclass does not have.

    Args:
        what: Owner of the settings, in words, for the message.
        of: The dataclass; settings of anything else are not checked.
        settings: The settings by name.

    Raises:
        TypeError: If a setting is unknown; the message names it, and those that exist.
    """
    if not is_dataclass(of):
        return
    known = [f.name for f in fields(of) if f.init]
    if unknown := sorted(set(settings) - set(known)):
        raise WrongTypeError(f"{what} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}")


def present_settings(of: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with former names replaced by present ones, where the planner has only the present ones.

    Where both names are given, the former one counts: only a user still writes it, and means it to override
    the present one in a file or a preset.

    Args:
        of: The planner's dataclass; settings of anything else are left as they are.
        settings: The settings by present or former name.
    """
    known = {f.name for f in fields(of)} if is_dataclass(of) else set()
    given = dict(settings)
    for former, present in FORMER_SETTINGS.items():
        if former in given and present in known and former not in known:
            given[present] = given.pop(former)
    return given


def planner_defaults(name: str) -> dict[str, Any]:
    """The settings of a planner that have a default, with it; none if it is no dataclass.

    Raises:
        LookupError: If there is no such planner.
        PluginError: If it cannot be loaded.
    """
    of = load(PLANNERS, name)
    return {f.name: f.default for f in fields(of) if f.default is not MISSING} if is_dataclass(of) else {}


def make_planner(name: str, **settings: Any) -> Planner:
    """A planner by name, for example ``make_planner("cem", horizon=25, num_samples=64)``.

    Args:
        name: An entry point of the group ``tdm_agents.planners``, a registered name, or ``"module:Class"``.
        **settings: Fields of the planner's dataclass. A former name gives a ``DeprecationWarning``.

    Raises:
        UnknownNameError: If no package provides the name.
        PluginError: If the package that provides it cannot be used.
        TypeError: If the planner has no such setting; the message lists those it has.
        ValueError: If a setting's value makes no sense.
    """
    factory = load(PLANNERS, name)
    present = present_settings(factory, settings)
    for former in settings.keys() - present.keys():
        warnings.warn(
            f"setting {former!r} of planner {name!r} is called {FORMER_SETTINGS[former]!r} now; the former "
            "name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
    check_settings(f"planner {name!r}", factory, present)
    planner: Planner = factory(**present)
    return planner


def _of_module(name: str) -> Callable[..., Any]:
    """The planner that ``"module:Class"`` names."""
    module, _, of = name.partition(":")
    if not of.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise WrongValueError(
            f"planner is {name!r}; expected 'module:Class', for example 'my_planner:Halving'"
        )
    try:
        import_typed(module)
    except ImportError as error:
        if is_mistake(error):
            raise
        absent = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        remedy = "install it, or run the command in its folder" if absent else f"mend {module}"
        raise MissingPackageError(f"planner {name!r} cannot be imported: {error}; {remedy}") from error
    found = getattr(sys.modules[module], of, None)
    if not inspect.isclass(found):
        defined = sorted(
            n for n, c in vars(sys.modules[module]).items() if inspect.isclass(c) and not _fault(PLANNERS, c)
        )
        raise UnknownNameError(
            f"planner is {name!r}, but {module} has no class {of!r}; its planners: "
            f"{', '.join(defined) or 'none'}"
        )
    if fault := _fault(PLANNERS, found):
        raise WrongTypeError(f"planner {name!r} breaks the contract of a planner: {fault}")
    return found


def _entries(group: str, name: str) -> list[EntryPoint]:
    return [e for e in entry_points(group=group) if e.name == name]


def _fault(group: str, plugin: Any) -> str | None:
    """The part of a group's contract that a plug-in breaks, as far as can be seen before it is built."""
    if group == REWARDS:
        return None if callable(plugin) else f"it is a {type(plugin).__name__}; expected a function"
    if inspect.isclass(plugin):
        return _fault_of_class(group, plugin)
    # a function may build anything; the agent checks what it is given
    return None if callable(plugin) else f"it is a {type(plugin).__name__}; expected a class"


def _fault_of_class(group: str, plugin: Any) -> str | None:
    name = plugin.__name__
    several = group == WORLD_MODELS and all(callable(getattr(plugin, m, None)) for m in _OF_SEVERAL)
    needed = _OF_SEVERAL if several else _METHODS[group]
    missing = {m for m in needed if not callable(getattr(plugin, m, None))}
    missing |= getattr(plugin, "__abstractmethods__", frozenset())
    if missing:
        return f"{name} has no {', no '.join(f'{m}()' for m in sorted(missing))}"
    if group != PLANNERS:
        return None
    dataclass_params = getattr(plugin, "__dataclass_params__", None)
    if dataclass_params is None or not dataclass_params.frozen:
        return f"{name} is not a frozen dataclass of its settings: put @dataclass(frozen=True) above it"
    if not hasattr(plugin, "horizon") and "horizon" not in {f.name for f in fields(plugin)}:
        return f"{name} has no horizon"
    return None


def _unknown(group: str, name: str) -> str:
    known = names(group)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known) or "none: is tdm-agents installed (pip install)?"
    own = "; one in a file of yours is named 'module:Class'" if group == PLANNERS else ""
    return f"no {_kind(group)} named {name!r}; {hint}installed: {listed}{own}"


def _kind(group: str) -> str:
    return group.rpartition(".")[2][:-1].replace("_", " ")


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    return ("unknown", "") if entry.dist is None else (entry.dist.name, entry.dist.version)


def _origin(entry: EntryPoint) -> str:
    """The target of an entry point, and its package."""
    return f"{entry.value} of package {' '.join(_distribution(entry)).strip()}"
