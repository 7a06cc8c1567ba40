"""Means, interquartile means and stratified bootstrap intervals by rliable, the reference of our statistics.

rliable (Agarwal et al. 2021, https://github.com/google-research/rliable) needs a dozen packages of its own.
So this runs in a separate virtual environment and imports nothing of this project. It prints the JSON
that is kept in ``tests/tdm_agents/rliable_reference.json``; ``tests/tdm_agents/test_statistics.py`` reads it.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0


def cases() -> dict[str, npt.NDArray[np.float64]]:
    """The scores ``[tasks, runs]`` of each case, by name."""
    rng = np.random.default_rng(SEED)
    tasks = rng.normal([[0.1], [0.5], [0.9]], [[0.05], [0.02], [0.1]], size=(3, 10))
    returns = rng.normal(800.0, 40.0, size=(1, 10))
    returns[0, 3] = 60.0  # one episode that failed
    return {"three tasks": tasks, "an episode that failed": returns, "five runs": returns[:, 4:9]}


def main() -> None:
    """Print the results of rliable."""
    from rliable import library, metrics  # type: ignore[import-not-found, unused-ignore]

    found: list[dict[str, Any]] = []
    for name, scores in cases().items():
        case: dict[str, Any] = {"name": name, "scores": scores.tolist()}
        for statistic, aggregate in (("mean", metrics.aggregate_mean), ("iqm", metrics.aggregate_iqm)):
            points, ends = library.get_interval_estimates(
                {"x": scores.T},  # rliable's axes are runs, tasks
                lambda s, aggregate=aggregate: np.array([aggregate(s)]),
                reps=RESAMPLES,
                confidence_interval_size=LEVEL,
                random_state=np.random.RandomState(SEED),
            )
            low, high = ends["x"][:, 0]
            case[statistic] = {"value": float(points["x"][0]), "low": float(low), "high": float(high)}
        found.append(case)
    report = {
        "schema": 1,
        "resamples": RESAMPLES,
        "level": LEVEL,
        "seed": SEED,
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("rliable", "arch", "numpy", "scipy", "pandas")},
        "cases": found,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
