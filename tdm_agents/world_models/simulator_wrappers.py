"""Wrappers around a simulated environment: which change nothing that the simulator foresees.

The simulator imagines what the unwrapped environment does. A wrapper that looks on (a time limit, a recorder)
leaves that right; one that repeats actions or rewrites rewards makes every prediction wrong, and no space
shows it. So a wrapper is accepted where it is known to look on, has no ``step`` of its own, or says
``looks_on = True`` in its class.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import gymnasium as gym

from tdm_agents.errors import WrongValueError

# FlattenObservation changes the structure, not the flat vector that a model sees. Autoreset ignores the
# action after an end, for which nothing is planned. AddWhiteNoise and ObstructView change pictures only.
_LOOKING_ON = {
    "gymnasium.wrappers": (
        "AddWhiteNoise",
        "Autoreset",
        "FlattenObservation",
        "HumanRendering",
        "ObstructView",
        "OrderEnforcing",
        "PassiveEnvChecker",
        "RecordEpisodeStatistics",
        "RecordVideo",
        "RenderCollection",
        "TimeLimit",
    ),
    "stable_baselines3.common.monitor": ("Monitor",),
    "minari": ("DataCollector",),
    "tdm_agents.agent.attach": ("AttachedEnv",),
}

_REPEATS = (
    "it takes several steps of the environment per action: take it off and say SimulatorModel(env, "
    "action_repeat=...) instead"
)
_ACTS = "it changes actions: take it off (the agent scales actions from [-1, 1] itself)"
_OBSERVES = (
    "it changes observations: build the simulator with the environment inside it, SimulatorModel(env.env)"
)
_REWARDS = "it changes rewards: take it off, and plan for another reward with reward_function="
_RANDOM = "what it does is drawn at random, which nobody foresees: take it off, or plan with a learned model"
_OTHER = (
    "what it does in step() is not known here; if it changes neither actions nor what is observed and "
    "earned, write looks_on = True into its class; otherwise take it off, or plan with a learned model"
)

# by name and not by class: looking some of these up imports packages that need not be there
_REFUSED = {
    "AddRenderObservation": _OBSERVES,
    "ArrayConversion": _OBSERVES,
    "AtariPreprocessing": _REPEATS,
    "ClipAction": _ACTS,
    "ClipReward": _REWARDS,
    "DelayObservation": _OBSERVES,
    "DiscretizeAction": _ACTS,
    "DiscretizeObservation": _OBSERVES,
    "DtypeObservation": _OBSERVES,
    "FilterObservation": _OBSERVES,
    "FrameStackObservation": _OBSERVES,
    "GrayscaleObservation": _OBSERVES,
    "JaxToNumpy": _OBSERVES,
    "JaxToTorch": _OBSERVES,
    "MaxAndSkipObservation": _REPEATS,
    "NormalizeObservation": _OBSERVES,
    "NormalizeReward": _REWARDS,
    "NumpyToTorch": _OBSERVES,
    "RepeatAction": _REPEATS,
    "RescaleAction": _ACTS,
    "RescaleObservation": _OBSERVES,
    "ReshapeObservation": _OBSERVES,
    "ResizeObservation": _OBSERVES,
    "StickyAction": _RANDOM,
    "TimeAwareObservation": _OBSERVES,
    "TransformAction": _ACTS,
    "TransformObservation": _OBSERVES,
    "TransformReward": _REWARDS,
}


def refuse_wrappers(env: gym.Env[Any, Any]) -> None:
    """Refuse an environment with a wrapper behind which the simulator's predictions would be wrong.

    Args:
        env: With its wrappers, if any.

    Raises:
        ValueError: Naming the outermost of them and what to do instead.
    """
    for wrapper in _wrappers(env):
        kind = type(wrapper)
        if not _looks_on(kind):
            raise WrongValueError(f"the simulator cannot see through {kind.__name__} of {env}: {_why(kind)}")


def _wrappers(env: gym.Env[Any, Any]) -> Iterator[gym.Wrapper[Any, Any, Any, Any]]:
    """From the outside to the inside."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def _looks_on(kind: type[gym.Wrapper[Any, Any, Any, Any]]) -> bool:
    """Whether observations, rewards and ends of a step are those of the environment inside.

    The class itself has to be known, to leave ``step`` alone, or to say ``looks_on = True``: what a subclass
    does is its own.
    """
    if kind.step is gym.Wrapper.step or vars(kind).get("looks_on") is True:
        return True
    for module, names in _LOOKING_ON.items():
        # a wrapper can only exist where its module is imported already
        loaded = sys.modules.get(module)
        if loaded is not None and any(getattr(loaded, name, None) is kind for name in names):
            return True
    return False


def _why(kind: type[gym.Wrapper[Any, Any, Any, Any]]) -> str:
    for base in kind.__mro__:
        if base.__module__.startswith("gymnasium.") and base.__name__ in _REFUSED:
            return _REFUSED[base.__name__]
    for base, why in (
        (gym.ActionWrapper, _ACTS),
        (gym.ObservationWrapper, _OBSERVES),
        (gym.RewardWrapper, _REWARDS),
    ):
        if issubclass(kind, base):
            return why
    return _OTHER
