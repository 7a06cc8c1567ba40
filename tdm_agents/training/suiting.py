"""Settings of a training that suit the data's sizes, where the user left them at their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from tdm_agents.data.trajectories import IntArray, Trajectories
from tdm_agents.protocols import Planner, TrainableModel
from tdm_agents.training.train_config import TrainConfig

_MEASURING = ("horizons", "starts", "context_steps")
_STARTS = (64, 16, 4, 1)
_CONTEXTS = (8, 4, 2, 1)


def within_episodes(planner: Planner, data: Mapping[str, Trajectories]) -> tuple[Planner, list[str]]:
    """The planner with a horizon no longer than the longest episode, beyond which nothing was seen.

    Args:
        planner: A planner; one without a setting ``horizon`` stays as it is.
        data: Episodes, by environment.

    Returns:
        The planner, and a sentence about what was changed, if anything was.
    """
    longest = max(int(_steps(episodes).max()) - 1 for episodes in data.values())
    settable: Any = planner
    if planner.horizon <= longest or "horizon" not in {f.name for f in dataclasses.fields(settable)}:
        return planner, []
    return dataclasses.replace(settable, horizon=longest), [
        f"the longest episode has {longest} decisions, so the agent plans {longest} ahead, not "
        f"{planner.horizon}"
    ]


def fitting_evaluation(
    config: TrainConfig, held_out: Mapping[str, Trajectories]
) -> tuple[TrainConfig, list[str]]:
    """Settings of the prediction error that the held-out episodes allow.

    Short episodes hold few windows of the default length. Fewer starting points are tried last, since they
    make the error uncertain. Settings that the user chose stay as they are.

    Args:
        config: Settings of the run.
        held_out: Held-out episodes, by environment.

    Returns:
        The settings, and a sentence about what was changed, if anything was.
    """
    defaults = TrainConfig()
    if any(getattr(config, name) != getattr(defaults, name) for name in _MEASURING):
        return config, []
    lengths = [_steps(episodes) for episodes in held_out.values()]
    furthest = range(len(defaults.horizons), 0, -1)
    for starts, count, context in product(_STARTS, furthest, _CONTEXTS):
        horizons = defaults.horizons[:count]
        if all(_windows(steps, context + max(horizons)) >= starts for steps in lengths):
            break
    else:
        return config, []  # not even one step ahead: the evaluation itself says so
    fitting = dataclasses.replace(config, horizons=horizons, starts=starts, context_steps=context)
    if fitting == config:
        return config, []
    return fitting, [
        f"{sum(map(len, lengths))} held-out episodes of at most {max(int(s.max()) for s in lengths) - 1} "
        f"decisions: the prediction error is measured {', '.join(map(str, horizons))} ahead (not "
        f"{', '.join(map(str, defaults.horizons))}) from {starts} starting points with {context} steps of "
        "history; --held-out-fraction holds out more"
    ]


def evaluated(
    config: TrainConfig, held_out: Mapping[str, Trajectories]
) -> tuple[dict[str, Trajectories], list[str]]:
    """The environments that are evaluated: at most ``evaluate_environments``, evenly chosen.

    Args:
        config: Settings of the run.
        held_out: Held-out episodes, by environment.

    Returns:
        Those of them, and a sentence about the others, if there are any.
    """
    names, most = list(held_out), config.evaluate_environments
    if len(names) <= most:
        return dict(held_out), []
    chosen = [names[place * len(names) // most] for place in range(most)]
    told = f"{most} of {len(names):,} environments are evaluated; --evaluate-environments says how many"
    return {name: held_out[name] for name in chosen}, [told]


def long_histories(model: TrainableModel, config: TrainConfig, data: Mapping[str, Trajectories]) -> list[str]:
    """A sentence where an agent's histories are longer than anything that the model learns from, if they are.

    Args:
        model: The model.
        config: Settings of the run.
        data: All episodes, by environment.
    """
    read = max(min(model.environment(e).spec.history_steps, int(_steps(t).max())) for e, t in data.items())
    if read <= config.window_steps:
        return []
    return [
        f"the model reads histories of up to {read} steps, and learns from windows of {config.window_steps}: "
        "what it makes of longer ones is not learned. Raise --window-steps, or lower the model's context"
    ]


def _steps(episodes: Trajectories) -> IntArray:
    """Steps of each episode, its last observation included."""
    return episodes.episodes[:, 2]


def _windows(steps: IntArray, length: int) -> int:
    return int(np.maximum(steps - length + 1, 0).sum())
