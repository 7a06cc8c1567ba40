"""Environments by name: their ids and settings, the modules that register them, and who may import those."""

from __future__ import annotations

import logging
import math
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

import gymnasium as gym

from tdm_agents.errors import MissingPackageError, TDMError, UnknownNameError, WrongValueError, is_mistake
from tdm_agents.settings_text import parse_settings, split_line, value_text
from tdm_agents.typed_modules import import_typed

LOG = logging.getLogger(__name__)
Env = gym.Env[Any, Any]
MakeEnv = Callable[[], Env]

ENVIRONMENTS = "tdm_agents.environments"
"""Group of the entry points of packages that register environments. An entry point maps the namespace of
their ids (``drive`` for ``drive/Race-v0``) to the module to import."""

# gymnasium 1.x no longer imports packages that register environments; these namespaces are ours to know
_PROVIDERS = {"dm_control": "tdm_envs", "tdm": "tdm_envs"}
_KNOWN = {"shimmy", "tdm_envs"}


ENDLESS_STEPS = 10_000
"""Environment steps after which an episode is cut where nothing else sets a limit."""


class EndlessWarning(UserWarning):
    """An episode was cut, since neither its environment nor the user set a limit."""


class UntrustedModuleError(TDMError, ImportError):
    """A file names a module that the user has not vouched for; the message says how to do so."""


@dataclass(frozen=True, slots=True)
class EnvRef:
    """An environment by name. Two are equal where they are the same environment.

    Its text is ``"tdm/WalkerTree-v0 dof=12 body=3"`` or ``"mydrive:Drive-v0 wind=0.5"``, read by
    :meth:`parse` and written by ``str``.

    Attributes:
        id: The id that ``gymnasium.make`` takes, without a module.
        kwargs: Keyword arguments of ``gymnasium.make``, JSON values; their order does not matter.
        module: The module that registers the id, where it has to be imported first. It does not count when
            two environments are compared.
        source: The file that names the environment; ``""`` where the user named it, who may import anything.

    Raises:
        ValueError: If the id is empty or holds a module.
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    module: str = field(default="", compare=False)
    source: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.id or ":" in self.id:
            raise WrongValueError(
                f"environment id is {self.id!r}; expected an id of gymnasium.make, for example "
                "'Pendulum-v1'; 'module:ID' is read by EnvRef.of and EnvRef.parse"
            )

    def __hash__(self) -> int:
        return hash((self.id, frozenset(self.kwargs)))

    @classmethod
    def of(cls, made_by: str, kwargs: Mapping[str, Any] | None = None, *, source: str = "") -> EnvRef:
        """The environment that ``gymnasium.make(made_by, **kwargs)`` makes.

        Args:
            made_by: Its id as ``gymnasium.make`` takes it, ``"ID"`` or ``"module:ID"``.
            kwargs: Keyword arguments.
            source: The file that this comes from.

        Raises:
            ValueError: If ``made_by`` is not an id.
        """
        module, colon, env_id = made_by.partition(":")
        return cls(env_id if colon else made_by, dict(kwargs or {}), module if colon else "", source)

    @classmethod
    def parse(cls, text: str, *, source: str = "") -> EnvRef:
        """An environment from its id and ``NAME=VALUE`` arguments in one line.

        Args:
            text: The line, for example ``"tdm/WalkerTree-v0 dof=12 body=3"``.
            source: The file that the line comes from.

        Raises:
            ValueError: If the line cannot be read.
        """
        made_by, options = split_line(text, "an environment's id")
        return cls.of(made_by, parse_settings(options), source=source)

    @classmethod
    def of_data(cls, info: DataInfo) -> EnvRef | None:
        """The environment that data come from, without the arguments that equal the registered ones.

        None where the data do not say.
        """
        if not info.env_id:
            return None
        source = str(getattr(info, "path", "the metadata of a data set"))
        found = cls.of(info.env_id, info.env_kwargs, source=source)
        registered = gym.registry.get(found.id)
        if registered is None:
            return found
        own = {key: value for key, value in found.kwargs.items() if registered.kwargs.get(key) != value}
        return replace(found, kwargs=own)

    @classmethod
    def of_env(cls, env: Env) -> EnvRef | None:
        """The environment that a live one was made as, without the arguments that equal the registered ones.

        None where it was not made by ``gymnasium.make``.
        """
        if env.spec is None:
            return None
        registered = gym.registry.get(env.spec.id)
        usual = {"render_mode": env.spec.kwargs.get("render_mode")}
        usual |= {} if registered is None else registered.kwargs
        own = {key: value for key, value in env.spec.kwargs.items() if usual.get(key, cls) != value}
        return cls.of(env.spec.id, own)

    @property
    def made_by(self) -> str:
        """``"module:ID"``, or ``"ID"``: what ``gymnasium.make`` takes."""
        return f"{self.module}:{self.id}" if self.module else self.id

    @property
    def name(self) -> str:
        """The text without the module, its arguments sorted: equal for equal environments."""
        return str(EnvRef(self.id, {key: self.kwargs[key] for key in sorted(self.kwargs)}))

    def __str__(self) -> str:
        pairs = (f"{key}={value_text(value)}" for key, value in self.kwargs.items())
        return " ".join([shlex.quote(self.made_by), *pairs])

    def make(self, **settings: Any) -> Env:
        """A new environment.

        Args:
            settings: Keyword arguments of ``gymnasium.make``, added to :attr:`kwargs` or replacing them.

        Raises:
            UntrustedModuleError: If the module was named by a file, and the user has not vouched for it.
            MissingPackageError: If the module, or a package that the environment needs, is not installed.
            UnknownNameError: If no package registers the id.
            WrongValueError: If the environment refuses the settings.
        """
        with _refusals_as_mistakes(self, settings):
            if self.module:
                _import(self.module, self)
            if self.id not in gym.registry and "/" in self.id:
                provider = _providers().get(self.id.partition("/")[0])
                if provider is not None:
                    import_module(provider)
            made: Env = gym.make(self.id, **{**self.kwargs, **settings})
            LOG.info("made the environment %s", self)
            return made


class DataInfo(Protocol):
    """The description of its environment that a data set carries."""

    @property
    def env_id(self) -> str:
        """``"ID"`` or ``"module:ID"``; ``""`` where it does not say."""
        ...

    @property
    def env_kwargs(self) -> Mapping[str, Any]:
        """Keyword arguments of ``gymnasium.make``."""
        ...


def known_name(name: str | None, known: Iterable[str]) -> str | None:
    """The one of several names that means the same environment; None where none does.

    Args:
        name: An environment's text; a module in front does not count, and arguments may come in any order.
        known: The names.

    Raises:
        ValueError: If ``name`` cannot be read.
    """
    wanted = None if name is None else EnvRef.parse(name)
    return next((one for one in known if EnvRef.parse(one) == wanted), None)


def make_env(env: str | EnvRef | MakeEnv, **settings: Any) -> Env:
    """An environment from its text, its reference, or a function.

    Args:
        env: The environment, for example ``"dm_control/cartpole-swingup-v0"``; see :meth:`EnvRef.parse`.
        settings: Keyword arguments of ``gymnasium.make``; not for a function.

    Raises:
        ValueError: If the text cannot be read.
        TDMError: See :meth:`EnvRef.make`.
    """
    if isinstance(env, str):
        env = EnvRef.parse(env)
    return env.make(**settings) if isinstance(env, EnvRef) else env()


def name_of(env: str | EnvRef | MakeEnv, made: Env) -> str:
    """The name of the environment in reports."""
    if isinstance(env, str | EnvRef):
        return str(env)
    return made.spec.id if made.spec is not None else type(made.unwrapped).__name__


def episode_limit(env: Env) -> int | None:
    """Environment steps after which an episode is truncated, where the environment says so.

    Shimmy's dm_control environments have no ``max_episode_steps``: dm_control counts the steps itself.
    """
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return int(env.spec.max_episode_steps)
    outer = env
    while isinstance(outer, gym.Wrapper):  # around an environment that was never registered
        if isinstance(outer, gym.wrappers.TimeLimit):
            return int(outer._max_episode_steps)
        outer = outer.env
    steps = getattr(getattr(env.unwrapped, "_env", None), "_step_limit", math.inf)
    return int(steps) if isinstance(steps, int | float) and math.isfinite(steps) else None


def steps_at_most(env: Env, max_steps: int | None) -> int | None:
    """Environment steps after which whoever plays cuts an episode: None where the environment does it.

    Args:
        env: The environment.
        max_steps: What the user said; None = nothing.

    Returns:
        ``max_steps``, or :data:`ENDLESS_STEPS` where neither that nor the environment sets a limit.
    """
    return ENDLESS_STEPS if max_steps is None and episode_limit(env) is None else max_steps


def warn_of_cut(name: str) -> None:
    """Warn that an episode without a limit was cut; ``name`` is the environment's."""
    warnings.warn(
        f"{name} has no time limit, and an episode was cut after {ENDLESS_STEPS:,} environment steps; "
        "max_steps (--max-steps) sets another number",
        EndlessWarning,
        stacklevel=3,
    )


def known_seconds(env: Env) -> float | None:
    """The length of an environment step in seconds: ``dt`` of MuJoCo environments, or 1 / ``render_fps``.

    None where it says neither.
    """
    if (dt := getattr(env.unwrapped, "dt", None)) is not None:
        return float(dt)
    rate = env.unwrapped.metadata.get("render_fps")
    return 1.0 / float(rate) if rate else None


def seconds_per_step(env: Env) -> float:
    """The length of an environment step in seconds, see :func:`known_seconds`.

    Raises:
        ValueError: If the environment does not say it.
    """
    seconds = known_seconds(env)
    if seconds is None:
        raise WrongValueError(
            f"{env.unwrapped} does not say how long a step is; give it dt, in seconds, or "
            'metadata["render_fps"]'
        )
    return seconds


@contextmanager
def _refusals_as_mistakes(ref: EnvRef, settings: Mapping[str, Any]) -> Iterator[None]:
    """Turn what Gymnasium or the environment objects to in an id and settings into the user's mistake."""
    try:
        yield
    except gym.error.Error as error:
        raise UnknownNameError(
            f"environment {str(ref)!r} cannot be made: {error}{_where_it_may_be(ref, error)}"
        ) from error
    except ImportError as error:
        if is_mistake(error):
            raise
        absent = isinstance(error, ModuleNotFoundError) and error.name == ref.module.partition(".")[0]
        remedy = "; install it, or run the command in its folder" if absent else ""
        raise MissingPackageError(f"environment {str(ref)!r} cannot be made: {error}{remedy}") from error
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        given = {**ref.kwargs, **settings}
        if is_mistake(error) or not given:
            raise
        told = ", ".join(f"{name}={value!r}" for name, value in given.items())
        why = str(error) or type(error).__name__  # a bare assertion says nothing
        raise WrongValueError(f"environment {ref.id!r} cannot be made with {told}: {why}") from error


def _where_it_may_be(ref: EnvRef, error: gym.error.Error) -> str:
    """What to do about an id that nothing has registered; ``""`` where the error is another one."""
    if not isinstance(error, gym.error.NameNotFound | gym.error.NamespaceNotFound):
        return ""
    if ref.module:
        return (
            f" Importing {ref.module} did not register it: its file has to call "
            f"gymnasium.register(id={ref.id!r}, ...)"
        )
    return (
        " If it is your own, say also which module registers it when it is imported, in the current folder "
        f"or installed: 'my_module:{ref.id}'"
    )


def _import(module: str, ref: EnvRef) -> None:
    if module in sys.modules or not ref.source:
        import_typed(module)
        return
    import_on_the_word_of(ref.source, module, f"its environment {ref.id!r}")


def import_on_the_word_of(source: str, module: str, needed_for: str) -> None:
    """Import a module that a file names, if the user has imported it already or it is of a known package.

    Args:
        source: The file.
        module: What it names.
        needed_for: What it names it for, in words.

    Raises:
        UntrustedModuleError: If nobody here has vouched for it.
        ImportError: If it is not there or does not import.
    """
    if module in sys.modules:
        return
    if module.partition(".")[0] not in _known_packages():
        raise UntrustedModuleError(
            f"{source} names the module {module!r} for {needed_for}, and importing "
            f"it runs its code; if you trust this one, pass --import {module} (in Python: import it first)"
        )
    import_module(module)  # installed: the current folder does not count


def _providers() -> dict[str, str]:
    """The module that registers each namespace of ids."""
    installed = {entry.name: entry.module for entry in entry_points(group=ENVIRONMENTS)}
    return installed | _PROVIDERS


def _known_packages() -> set[str]:
    """Top-level packages whose modules a file may name: ours, and those with entry points of ours."""
    from tdm_agents.registry import PLANNERS, REWARDS, WORLD_MODELS  # here: it imports torch

    groups = (ENVIRONMENTS, PLANNERS, REWARDS, WORLD_MODELS)
    modules = {entry.module for group in groups for entry in entry_points(group=group)}
    return {module.partition(".")[0] for module in modules | _KNOWN}
