"""The reward that an agent plans for instead of the model's own: a function, or its name.

A name is one that a package provides (an entry point of the group ``tdm_agents.rewards``), that of a function
of :mod:`tdm_envs.rewards` (``"dm_control/walker-stand-v0"``), or ``"module:function"``, whose module is
imported. A module that the user typed is imported at once. A module that only a file names is imported under
the same conditions as an environment's (see :class:`tdm_agents.environments.EnvRef`).
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from tdm_agents import registry
from tdm_agents.environments import UntrustedModuleError, import_on_the_word_of
from tdm_agents.errors import (
    MissingPackageError,
    UnknownNameError,
    WrongTypeError,
    WrongValueError,
    brief,
    is_mistake,
)
from tdm_agents.protocols import ModelSpec, RewardFn, WorldModel
from tdm_agents.typed_modules import import_typed
from tdm_agents.wrappers import RewardFunction, WithoutAlive, WithProposal, WithSupport, WithValue


def with_reward(model: WorldModel[Any], reward: str | RewardFn, env_id: str | None = None) -> WorldModel[Any]:
    """The model with its reward replaced by a function.

    What other models add stays: one that keeps plans near recorded data
    (:class:`~tdm_agents.wrappers.WithSupport`) does so with the other reward, too.

    Args:
        model: Any world model.
        reward: A function ``fn(observation[N, n], action[N, m], next_observation[N, n]) -> reward[N]``, or
            its name.
        env_id: The model's environment, named in errors.

    Raises:
        LookupError: If there is no such function.
        ImportError: If its module does not exist or cannot be imported.
        TypeError: If ``reward`` is neither a name nor a function.
        ValueError: If the function reads observations or actions of other sizes than the model's, or the
            model imagines no observations.
    """
    if isinstance(model, WithSupport | WithValue | WithProposal | WithoutAlive):
        return model.around(with_reward(model.model, reward, env_id))
    wrapped: WorldModel[Any] = RewardFunction(model, function_for(model.spec, reward, env_id))
    return wrapped


def function_for(spec: ModelSpec, reward: str | RewardFn, env_id: str | None = None) -> RewardFn:
    """The given function, or the one of that name, for an environment; see :func:`with_reward`."""
    return _suites(spec, reward, env_id) if _is_suites(reward) else function_of(reward)


def function_of(reward: str | RewardFn, *, source: str = "") -> RewardFn:
    """The given function, or the one that an installed name or ``"module:function"`` names.

    Args:
        reward: The function or its name.
        source: The file that has the name; ``""`` where it is the user's, who may import anything.

    Raises:
        UntrustedModuleError: If a file names a module that must not be imported on its word.
        LookupError: If the module has no such function.
        ImportError: If the module does not exist or cannot be imported.
        TypeError: If ``reward`` is neither a name nor a function.
    """
    if not isinstance(reward, str):
        if not callable(reward):
            raise WrongTypeError(
                f"reward_function is {reward!r}; expected a function of (observation [N, n], action [N, m], "
                "next_observation [N, n]) that returns a tensor [N], or the name of one"
            )
        return reward
    if ":" not in reward:
        named: RewardFn = registry.load(registry.REWARDS, reward)
        return named
    module, _, name = reward.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise WrongValueError(
            f"reward_function is {reward!r}; expected 'module:function', for example 'my_rewards:upright'"
        )
    _import(module, reward, source)
    found = getattr(sys.modules[module], name, None)
    if not callable(found):
        raise UnknownNameError(
            f"reward_function is {reward!r}, but {module} has no function {name!r}; name one that it defines"
        )
    function: RewardFn = found
    return function


def vet_reward(name: str | None, source: str) -> None:
    """Import the module that a file names for its reward function, or refuse to.

    Args:
        name: The name in the file; None where there is none.
        source: The file.

    Raises:
        UntrustedModuleError: If it must not be imported on the file's word; other errors are those of
            :func:`function_of`.
    """
    if name is not None and ":" in name:
        function_of(name, source=source)


def reward_name(reward: str | RewardFn | None) -> str | None:
    """The name of a reward in a file, by which it is found again.

    Raises:
        ValueError: If a function has no name by which it could be imported.
    """
    if reward is None or isinstance(reward, str):
        return reward
    module, name = getattr(reward, "__module__", None), getattr(reward, "__qualname__", None)
    if (
        isinstance(module, str)
        and module != "__main__"
        and isinstance(name, str)
        and getattr(sys.modules.get(module), name, None) is reward
    ):
        return f"{module}:{name}"
    raise WrongValueError(
        f"reward_function is {reward!r}, which has no name to find it again by: define it in a module and "
        "give that function, or reward_function='module:function', before saving the agent"
    )


def reward_file(reward: object) -> Path | None:
    """The file of the function that ``"module:function"`` names, once its module is imported; or None."""
    module = str(reward).partition(":")[0] if isinstance(reward, str) and ":" in reward else ""
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None else Path(file)


def check_reward(reward: str | RewardFn, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
    """Refuse a reward function that would be wrong for an environment's physical constants.

    Args:
        reward: The reward that is planned for; only functions of :mod:`tdm_envs.rewards` are judged.
        env: The environment; of vector environments, only a ``SyncVectorEnv`` shows its members.

    Raises:
        ValueError: If the function would be wrong.
    """
    if not _is_suites(reward):
        return
    from tdm_envs.rewards import refuse_variant

    for member in getattr(env, "envs", ()) if isinstance(env, VectorEnv) else (env,):
        refuse_variant(str(reward), member)


def _is_suites(reward: object) -> bool:
    """Whether a reward is a name of :mod:`tdm_envs.rewards`, an environment's id, and of no package."""
    return isinstance(reward, str) and ":" not in reward and reward not in registry.names(registry.REWARDS)


def _suites(spec: ModelSpec, reward: str | RewardFn, env_id: str | None) -> RewardFn:
    # environments are optional to the agent: imported only where a reward is named
    from tdm_envs.rewards import reward_function, reward_sizes

    name = str(reward)
    try:
        function, sizes = reward_function(name), reward_sizes(name)
    except LookupError as error:
        installed = ", ".join(registry.names(registry.REWARDS)) or "none"
        raise UnknownNameError(
            f"{brief(error)}; provided by installed packages: {installed}; a function of your own is named "
            "'module:function'"
        ) from error
    found = (spec.observation_dim, spec.action_dim)
    if found != sizes:
        raise WrongValueError(
            f"reward_function is {name!r}, which reads observations of {sizes[0]} scalars and actions of "
            f"{sizes[1]}; the model of {env_id or 'an unnamed environment'!r} has {found[0]} and {found[1]}: "
            "name the reward function of the model's own environment"
        )
    return function


def _import(module: str, reward: str, source: str) -> None:
    try:
        if not source:
            import_typed(module)
        elif module.partition(".")[0] in sys.stdlib_module_names:  # imported already, but for something else
            raise UntrustedModuleError(
                f"{source} names {reward!r} as its reward function, which is Python's own and no reward; "
                "correct the file"
            )
        else:
            import_on_the_word_of(source, module, f"its reward function {reward!r}")
            import_module(module)
    except ImportError as error:
        if is_mistake(error):
            raise
        raise MissingPackageError(f"reward_function {reward!r} cannot be imported: {error}") from error
