"""Statistics of a few runs and their uncertainty: mean, interquartile mean, share; intervals.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", section 4.2
(stratified bootstrap) and section 4.3 (interquartile mean); the numbers agree with their package rliable.
Shares of successes have Wilson's interval, since a bootstrap of twenty successes out of twenty has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tdm_agents.errors import WrongValueError

FloatArray = npt.NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]
"""A function from scores ``[..., runs]`` to ``[...]``."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic of some scores, with its confidence interval.

    Attributes:
        value: The statistic of the scores themselves.
        low: Lower end of the percentile interval.
        high: Upper end.
        level: Confidence level of the interval, for example 0.95.
    """

    value: float
    low: float
    high: float
    level: float


def mean(scores: FloatArray) -> FloatArray:
    """Mean over the last axis."""
    averaged: FloatArray = np.asarray(scores, np.float64).mean(axis=-1)
    return averaged


def iqm(scores: FloatArray) -> FloatArray:
    """Interquartile mean over the last axis: the mean without the lowest and the highest quarter.

    ``floor(runs / 4)`` scores are dropped at either end, as ``scipy.stats.trim_mean(scores, 0.25)`` and
    rliable do; nothing is dropped of up to three runs.
    """
    ordered = np.sort(np.asarray(scores, np.float64), axis=-1)
    runs = ordered.shape[-1]
    cut = runs // 4
    middle: FloatArray = ordered[..., cut : runs - cut].mean(axis=-1)
    return middle


def interval(
    scores: Sequence[float] | Sequence[Sequence[float]],
    statistic: Statistic = iqm,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """A statistic with its stratified bootstrap interval (percentiles).

    Args:
        scores: Returns of the runs of one task, or one such list per task (a stratum). Runs are drawn anew
            within each task, then pooled.
        statistic: The statistic, which is applied to the pooled scores.
        level: Confidence level.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling; the same seed gives the same interval.

    Raises:
        ValueError: If there are no scores, one is not finite, or ``level`` is not within (0, 1).
    """
    strata = [np.atleast_1d(np.asarray(s, np.float64)) for s in _by_task(scores)]
    if not strata or any(s.size == 0 for s in strata):
        raise WrongValueError("there are no scores; expected at least one run of every task")
    pooled = np.concatenate(strata)
    if not np.isfinite(pooled).all():
        raise WrongValueError(f"scores hold {pooled[~np.isfinite(pooled)][0]}; expected finite returns")
    if not 0.0 < level < 1.0 or resamples < 1:
        raise WrongValueError(
            f"level {level}, resamples {resamples}; expected 0 < level < 1 and resamples >= 1"
        )
    rng = np.random.default_rng(seed)
    drawn = [s[rng.integers(s.size, size=(resamples, s.size))] for s in strata]
    replicates = statistic(np.concatenate(drawn, axis=1))  # [resamples]
    tail = 0.5 * (1.0 - level)
    low, high = np.quantile(replicates, [tail, 1.0 - tail])
    return Interval(float(statistic(pooled)), float(low), float(high), level)


def share(successes: Sequence[float], *, level: float = 0.95) -> Interval:
    """The share of successes with Wilson's score interval (Wilson 1927).

    Args:
        successes: 0 or 1 per run.
        level: Confidence level.

    Raises:
        ValueError: If there is no run, one is neither 0 nor 1, or ``level`` is not within (0, 1).
    """
    runs = len(successes)
    if not runs or not set(successes) <= {0.0, 1.0}:
        raise WrongValueError(f"successes are {list(successes)}; expected at least one, each 0 or 1")
    if not 0.0 < level < 1.0:
        raise WrongValueError(f"level is {level}; expected 0 < level < 1")
    found = sum(successes) / runs
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    middle = (found + z * z / (2 * runs)) / (1 + z * z / runs)
    half = z / (1 + z * z / runs) * math.sqrt(found * (1 - found) / runs + z * z / (4 * runs * runs))
    return Interval(found, max(0.0, middle - half), min(1.0, middle + half), level)


def _by_task(scores: Sequence[float] | Sequence[Sequence[float]]) -> list[Sequence[float]]:
    if len(scores) and all(np.ndim(s) == 0 for s in scores):
        return [scores]  # type: ignore[list-item]
    return list(scores)  # type: ignore[arg-type]
