"""Returns on one scale: 0 is random actions, 1 the same planner on the true dynamics; and the gap to it.

The interquartile mean over all episodes of all tasks, with 95 % intervals of a stratified bootstrap: episodes
are drawn anew within each task (:func:`tdm_agents.evaluation.statistics.interval`). Of successes it is the
mean, because the interquartile mean is 1 as soon as three of four succeed. The ends of the scale are the
means of their own episodes, and count as known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tdm_agents.errors import WrongValueError
from tdm_agents.evaluation.statistics import Interval, interval, iqm, mean, share

Returns = Mapping[str, Sequence[float]]
"""Returns by task, one per seed, in the order of the seeds."""


def normalised(returns: Returns, *, random: Returns, reference: Returns) -> dict[str, list[float]]:
    """Returns on the scale of each task.

    Args:
        returns: Of the contestant.
        random: Of random actions, in at least the same tasks.
        reference: Of the same planner on the true dynamics, in at least the same tasks.

    Raises:
        ValueError: If a task has no scale, because the reference is no better there than random actions.
    """
    found = {}
    for task, scores in returns.items():
        zero, one = float(np.mean(random[task])), _top(task, random, reference)
        found[task] = [(score - zero) / (one - zero) for score in scores]
    return found


def planning_gap(returns: Returns, *, random: Returns, reference: Returns) -> dict[str, list[float]]:
    """By how much the same planner on the true dynamics is better, seed by seed, on the scale of each task.

    Args:
        returns: Of the planner on a learned model.
        random: See :func:`normalised`.
        reference: See :func:`normalised`; on the same seeds.

    Raises:
        ValueError: If the seeds are not as many, or a task has no scale.
    """
    found = {}
    for task, scores in returns.items():
        true = reference[task]
        if len(true) != len(scores):
            raise WrongValueError(
                f"{task}: {len(scores)} returns and {len(true)} of the reference; expected the same seeds"
            )
        width = _top(task, random, reference) - float(np.mean(random[task]))
        found[task] = [(best - score) / width for score, best in zip(scores, true, strict=True)]
    return found


def middle(by_task: Returns, *, successes: bool = False) -> Interval:
    """The interquartile mean over all tasks and seeds, or the mean of successes, with its interval.

    Args:
        by_task: Returns, or what was made of them.
        successes: Whether the returns are 0 or 1.
    """
    if not successes:
        return interval(list(by_task.values()), iqm)
    pooled = [score for scores in by_task.values() for score in scores]
    return share(pooled) if set(pooled) <= {0.0, 1.0} else interval(list(by_task.values()), mean)


def has_scale(tasks: Sequence[str], *, random: Returns, reference: Returns) -> bool:
    """Whether the reference is better than random actions in every one of these tasks."""
    return all(task in random and np.mean(reference[task]) > np.mean(random[task]) for task in tasks)


def _top(task: str, random: Returns, reference: Returns) -> float:
    one = float(np.mean(reference[task]))
    if not one > float(np.mean(random[task])):
        raise WrongValueError(
            f"{task} has no scale: the planner on the true dynamics reaches {one:.4g} and random actions "
            f"{float(np.mean(random[task])):.4g}; expected more of a planner, or of longer episodes"
        )
    return one
