"""What a trained model is good for, in words: how far to plan with it, and how long a decision takes.

Predictions *hold* at a horizon where, over held-out starting points, the median error

- is at most half the data's standard deviation (to say the mean every time has an error of about one), and
- is below that of the prediction that nothing changes, where the model imagines observations, and
- no starting point *exploded*: has an error of more than ten standard deviations, or one that is not finite.

Of a model that imagines no observations the same is asked of its rewards, but for the second. Planners seek
out what a model overrates, so that a few starting points that explode are enough to spoil plans, though a
median does not show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.evaluation.as_json import plain
from tdm_agents.protocols import Planner, WorldModel
from tdm_agents.storage import write_json
from tdm_agents.training.prediction import FloatArray, root_mean_square, start_errors
from tdm_agents.training.train_config import TrainConfig

SCHEMA = 1
VERDICT_FILE = "verdict.json"
HOLDS_BELOW = 0.5
"""Largest median error that holds, in standard deviations of the data."""
EXPLODES_ABOVE = 10.0
"""Error of a single starting point, in standard deviations of the data, above which it has exploded."""


@dataclass(frozen=True, slots=True)
class HorizonError:
    """What was found at one horizon, in standard deviations of the data.

    Attributes:
        horizon: Decisions ahead.
        median: Median error over the starting points; inf where it is not finite.
        rms: Root mean square over them; inf where it is not finite.
        unchanged: Median error of the prediction that nothing changes; None of rewards.
        exploded: Starting points that have exploded until here.
    """

    horizon: int
    median: float
    rms: float
    unchanged: float | None
    exploded: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a model's predictions hold, and what follows for planning.

    Attributes:
        judged: What was compared: ``"observations"``, ``"rewards"``, or ``"nothing"`` where the model
            imagines no observations and the reward never changes.
        starts: Held-out starting points.
        furthest: Horizon up to which was looked.
        holds: Horizon up to which predictions hold, at every one of 1, 2, and so on; 0 = at none.
        exploded_at: First horizon at which a starting point has exploded; None where none has.
        errors: At some horizons.
        planner: Name of the agent's planner.
        horizon: Of that planner.
        advised: Horizon to plan with; None where the model is not fit to plan with.
        milliseconds: Expected per decision, by the agent's own planner and horizon; None = not measured.
    """

    judged: str
    starts: int
    furthest: int
    holds: int
    exploded_at: int | None
    errors: tuple[HorizonError, ...]
    planner: str
    horizon: int
    advised: int | None
    milliseconds: float | None

    def lines(self) -> list[str]:
        """The verdict in words, what is alarming first."""
        return [*self._alarms(), *self._findings(), *self._speed()]

    def _alarms(self) -> list[str]:
        if self.exploded_at is None:
            return []
        worst = self.errors[-1]
        return [
            f"WARNING: imagination explodes: {worst.exploded} of {self.starts} starting points are more than "
            f"{EXPLODES_ABOVE:g} standard deviations off within {worst.horizon} decisions, the first after "
            f"{self.exploded_at} (rms {worst.rms:.2g} beside a median of {worst.median:.2g}); a planner will "
            "find and follow such futures. Train longer, on more varied data, or with a lower learning rate"
        ]

    def _findings(self) -> list[str]:
        if self.judged == "nothing":
            return ["the model imagines no observations and the reward never changes: nothing to judge it by"]
        first = self.errors[0]
        meaning = f"median error of {self.judged} at most {HOLDS_BELOW:g} standard deviations" + (
            ", and below that of 'nothing changes'" if first.unchanged is not None else ""
        )
        if self.advised is None:
            beside = "" if first.unchanged is None else f", 'nothing changes' {first.unchanged:.2g}"
            return [
                f"predictions hold at no horizon ({meaning}): after 1 decision the median error is "
                f"{first.median:.2g}{beside}. Do not plan with this model: train it longer, or on more data"
            ]
        furthest = ", the furthest that was looked at" if self.holds == self.furthest else ""
        found = f"predictions hold up to {self.holds} {_decisions(self.holds)} ahead{furthest} ({meaning})"
        if self.advised < self.horizon:
            return [
                f"{found}; {self.planner} plans {self.horizon} ahead: plan with horizon {self.advised} "
                f"(--planner-settings horizon {self.advised}, or TDMAgent.load(..., horizon={self.advised}))"
            ]
        if self.horizon > self.holds:
            return [
                f"{found}; {self.planner} plans {self.horizon} ahead, as agent.json says. Nothing is "
                f"known beyond {self.holds}: longer held-out episodes, or greater --horizons, would tell"
            ]
        return [f"{found}; plan with {self.planner}, horizon {self.horizon}, as agent.json says"]

    def _speed(self) -> list[str]:
        if self.milliseconds is None:
            return []
        return [
            f"expect {_rounded(self.milliseconds)} milliseconds per decision ({self.planner}, horizon "
            f"{self.horizon}, one environment, on this machine)"
        ]


def judge(
    model: WorldModel[Any],
    held_out: Trajectories,
    config: TrainConfig,
    *,
    planner: Planner,
    name: str,
    milliseconds: float | None = None,
) -> Verdict:
    """The verdict on a world model.

    Args:
        model: Of one environment.
        held_out: Its episodes that it was not trained on.
        config: Of the run: how many starting points, how far ahead, how much history.
        planner: What the agent plans with.
        name: Of the planner.
        milliseconds: Measured per decision.

    Raises:
        ValueError: If the episodes hold fewer starting points.
    """
    furthest = max(config.horizons)
    errors = start_errors(
        model,
        held_out,
        horizon=furthest,
        starts=config.starts,
        context_steps=config.context_steps,
        seed=config.seed,
    )
    if errors.observation is not None:
        judged, found, unchanged = "observations", errors.observation, np.median(errors.unchanged, axis=0)
    elif errors.reward is not None:
        judged, found, unchanged = "rewards", errors.reward, None
    else:
        looked = ("nothing", config.starts, furthest, 0, None, ())
        return Verdict(*looked, name, planner.horizon, planner.horizon, milliseconds)
    found = np.nan_to_num(found, nan=np.inf, posinf=np.inf)
    exploded = np.logical_or.accumulate(found > EXPLODES_ABOVE, axis=1).sum(0)  # [H]
    median = np.median(found, axis=0)
    holding = (median <= HOLDS_BELOW) & (exploded == 0)
    if unchanged is not None:
        holding &= median < unchanged
    holds = furthest if holding.all() else int(holding.argmin())
    return Verdict(
        judged=judged,
        starts=config.starts,
        furthest=furthest,
        holds=holds,
        exploded_at=int((exploded > 0).argmax()) + 1 if exploded.any() else None,
        errors=tuple(_at(h, found, median, unchanged, exploded) for h in sorted({1, *config.horizons})),
        planner=name,
        horizon=planner.horizon,
        # where all that was looked at holds, nothing speaks against looking further
        advised=planner.horizon if holds == furthest else min(planner.horizon, holds) or None,
        milliseconds=milliseconds,
    )


def keep(folder: Path, verdicts: Mapping[str, Verdict]) -> None:
    """Write the verdicts on a model's environments into its folder, with their lines; null = not finite."""
    several = {name: plain(verdict) | {"lines": verdict.lines()} for name, verdict in verdicts.items()}
    write_json(folder / VERDICT_FILE, {"schema": SCHEMA, "environments": several})


def _at(
    horizon: int, found: FloatArray, median: FloatArray, unchanged: FloatArray | None, exploded: Any
) -> HorizonError:
    at = horizon - 1
    return HorizonError(
        horizon=horizon,
        median=float(median[at]),
        rms=root_mean_square(found[:, at]),
        unchanged=None if unchanged is None else float(unchanged[at]),
        exploded=int(exploded[at]),
    )


def _rounded(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def _decisions(count: int) -> str:
    return "decision" if count == 1 else "decisions"
