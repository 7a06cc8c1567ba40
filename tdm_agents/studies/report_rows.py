"""The rows of a report: one contestant at one position, in all tasks that it played, with its intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

import numpy as np

from tdm_agents.evaluation.statistics import Interval
from tdm_agents.studies import scores
from tdm_agents.studies.scores import Returns, has_scale, normalised, planning_gap
from tdm_agents.studies.stages import Evaluate


def rows_of(
    evaluations: Sequence[Evaluate],
    returns: Mapping[str, Returns],
    *,
    successes: bool = False,
    missing: Sequence[Evaluate] = (),
) -> list[dict[str, Any]]:
    """The rows of evaluations; those of one label, panel and position are one row.

    Args:
        evaluations: What was played, in the order of the study.
        returns: Returns by task, one per seed, by the names of the evaluations.
        successes: Whether returns are 0 or 1; see :func:`tdm_agents.studies.scores.middle`.
        missing: What is still to be played. Tasks in which something is missing are left out of all
            normalised returns, which would else be of other tasks than their neighbours'. A row at a position
            of which something is missing is left out: its interval would be that of episodes, and its
            neighbours' that of draws.
    """
    random = {
        task: reached
        for stage in evaluations
        if stage.role == "random"
        for task, reached in returns[stage.name].items()
    }
    found: dict[_Place, list[Evaluate]] = {}
    for stage in evaluations:
        found.setdefault(_place(stage), []).append(stage)
    middle = partial(scores.middle, successes=successes)
    incomplete = {_place(stage) for stage in missing}
    left_out = {env.name for stage in missing for env in stage.envs}
    return [
        _row(stages, returns, random, middle, left_out)
        for place, stages in found.items()
        if place not in incomplete or stages[0].x is None
    ]


_Place = tuple[str, str, float | None]


def _place(stage: Evaluate) -> _Place:
    """What the evaluations of one row have in common."""
    return stage.label, stage.panel, stage.x


def _row(
    stages: Sequence[Evaluate],
    returns: Mapping[str, Returns],
    random: Mapping[str, Sequence[float]],
    middle: Callable[[Returns], Interval],
    left_out: AbstractSet[str],
) -> dict[str, Any]:
    """One contestant in all tasks that it played."""
    first = stages[0]
    own = _runs(stages, returns)
    scale: dict[str, Any] = {"normalised": None, "gap": None}
    scaled = {task: reached for task, reached in own.items() if task not in left_out}
    counted = [stage for stage in stages if any(env.name in scaled for env in stage.envs)]
    if counted and all(stage.reference in returns for stage in counted):
        paired = {stage.name: returns[str(stage.reference)] for stage in counted}
        ends = {"random": random, "reference": _runs(counted, paired)}
        if has_scale(list(scaled), **ends):
            scale["normalised"] = _interval(middle(normalised(scaled, **ends)))
            if first.role == "planned":
                scale["gap"] = _interval(middle(planning_gap(scaled, **ends)))
    return {
        "label": first.label,
        "role": first.role,
        "panel": first.panel,
        "x": first.x,
        "lines": {stage.name: stage.line for stage in stages},
        "tasks": {
            task: {"returns": list(reached), **_interval(middle({task: reached}))}
            for task, reached in own.items()
        },
        **scale,
    }


def _runs(stages: Sequence[Evaluate], returns: Mapping[str, Returns]) -> dict[str, list[float]]:
    """The runs of each task: its episodes, or the means of several evaluations (of several draws of data).

    Episodes of one draw of the training data say nothing of how much another draw would change.
    """
    several: dict[str, list[Sequence[float]]] = {}
    for stage in stages:
        for env in stage.envs:
            several.setdefault(env.name, []).append(returns[stage.name][env.name])
    return {
        task: list(each[0]) if len(each) == 1 else [float(np.mean(one)) for one in each]
        for task, each in several.items()
    }


def _interval(found: Interval) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}
