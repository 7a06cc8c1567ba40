"""An episode as a picture: what the model imagined beside what happened, and return over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from tdm_agents.errors import WrongValueError
from tdm_agents.evaluation.records import FloatArray, Recording
from tdm_agents.plot_style import IMAGINED, PLANNED, PLAYERS, REAL, STYLE, clean, save


@dataclass(frozen=True, slots=True)
class Moment:
    """What was imagined at one decision, to be compared with a :class:`Recording`.

    Attributes:
        step: Environment step of the decision.
        planned: ``[h, n]``, observations expected after 1 to ``h`` decisions of the plan that was made there.
        predicted: ``[h', n]``, observations expected of the actions that were really taken from there on,
            which later plans changed. Their difference from reality is the model's error alone. ``h'`` is 0
            where nobody asked.
    """

    step: int
    planned: FloatArray
    predicted: FloatArray


class Clock(NamedTuple):
    """The length of an environment step, in a unit."""

    per_step: float
    unit: str


def plot_episode(
    path: Path,
    recording: Recording,
    moments: Sequence[Moment],
    rewards: Mapping[str, npt.NDArray[np.floating[Any]]],
    *,
    scalars: Mapping[str, int],
    seconds_per_step: float | None,
    action_repeat: int,
    title: str = "",
    unseen: str = "",
) -> None:
    """Write the picture of an episode as PNG (or whatever the path's suffix says).

    Above are the first of ``scalars`` over the episode, with the moments shaded, and the return so far of
    every player. Below are one column per moment and one row per scalar, with reality, the prediction and the
    plan; or the reason why there is nothing imagined to draw.

    Args:
        path: The file to write.
        recording: The episode of ``L`` environment steps that the moments belong to.
        moments: At least one moment, or none and ``unseen``.
        rewards: ``[L]``, the reward of each environment step, by player; the first is drawn in the agent's
            colour.
        scalars: Indices of observation scalars by their labels, with units; at least one.
        seconds_per_step: Control step of the environment; None = unknown: time is in environment steps.
        action_repeat: Environment steps per decision.
        title: The title above everything.
        unseen: The reason why there are no moments.

    Raises:
        ValueError: If there is no scalar, a scalar does not exist, or there is neither a moment nor a reason.
    """
    if not (moments or unseen) or not scalars:
        raise WrongValueError(
            f"{len(moments)} moments, {len(scalars)} scalars; expected at least one of each, or unseen= to "
            "say why there are no moments"
        )
    n = recording.observation.shape[1]
    for name, index in scalars.items():
        if not 0 <= index < n:
            raise WrongValueError(
                f"scalar {name!r} is {index}; expected an index into the {n} of the observation"
            )
    lower = 0.7 + 1.7 * len(scalars) if moments else 0.5
    figure = Figure(figsize=(10.0, 2.3 + lower), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, color=REAL, fontweight="bold")
    halves = figure.subfigures(2, 1, height_ratios=(2.3, lower), squeeze=False)
    above, below = halves[0, 0], halves[1, 0]
    left, right = above.subplots(1, 2, width_ratios=(3, 2))
    name, index = next(iter(scalars.items()))
    clock = Clock(1.0, "steps") if seconds_per_step is None else Clock(seconds_per_step, "s")
    _whole(left, recording, moments, name, index, clock, action_repeat)
    _returns(right, rewards, clock)
    if moments:
        _moments(below, recording, moments, scalars, clock, action_repeat)
    else:
        below.suptitle(f"Nothing imagined is drawn: {unseen}", **STYLE)
    save(path, figure)


def _moments(
    below: SubFigure,
    recording: Recording,
    moments: Sequence[Moment],
    scalars: Mapping[str, int],
    clock: Clock,
    action_repeat: int,
) -> None:
    below.suptitle(
        f"Imagined at {_and([f'{m.step * clock.per_step:.1f}' for m in moments])} {clock.unit}, and what "
        "happened",
        **STYLE,
    )
    axes = below.subplots(len(scalars), len(moments), squeeze=False, sharex="col", sharey="row")
    for row, (name, index) in zip(axes, scalars.items(), strict=True):
        for column, (axis, moment) in enumerate(zip(row, moments, strict=True)):
            _moment(axis, recording, moment, index, clock.per_step, action_repeat)
            axis.set_ylabel(name if column == 0 else "", **STYLE)
    for axis in axes[-1]:
        axis.set_xlabel(f"time, {clock.unit}", **STYLE)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    below.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def _whole(
    axis: Axes,
    recording: Recording,
    moments: Sequence[Moment],
    name: str,
    index: int,
    clock: Clock,
    repeat: int,
) -> None:
    seconds = clock.per_step
    time = np.arange(len(recording.observation)) * seconds
    axis.plot(time, recording.observation[:, index], color=REAL, linewidth=1.4)
    for moment in moments:
        end = moment.step + repeat * (len(moment.predicted) or len(moment.planned))
        axis.axvspan(moment.step * seconds, end * seconds, color=IMAGINED, alpha=0.12, linewidth=0)
        axis.axvline(moment.step * seconds, color=IMAGINED, alpha=0.5, linewidth=0.8)
    title = "The episode; shaded: the moments below" if moments else "The episode"
    axis.set_title(title, loc="left", **STYLE)
    axis.set_xlabel(f"time, {clock.unit}", **STYLE)
    axis.set_ylabel(name, **STYLE)
    axis.set_xlim(0, float(time[-1]))
    clean(axis)


def _returns(axis: Axes, rewards: Mapping[str, npt.NDArray[np.floating[Any]]], clock: Clock) -> None:
    for i, (player, earned) in enumerate(rewards.items()):
        time = np.arange(len(earned) + 1) * clock.per_step
        total = np.concatenate([[0.0], np.cumsum(earned, dtype=np.float64)])
        axis.plot(
            time,
            total,
            color=PLAYERS[i % len(PLAYERS)],
            linewidth=2.0 if i == 0 else 1.4,
            zorder=3 - 0.1 * i,
            label=f"{player}: {total[-1]:.0f}",
        )
    axis.set_title("Return so far", loc="left", **STYLE)
    axis.set_xlabel(f"time, {clock.unit}", **STYLE)
    axis.set_xlim(left=0)
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    clean(axis)


def _moment(
    axis: Axes, recording: Recording, moment: Moment, index: int, seconds: float, repeat: int
) -> None:
    last = min(moment.step + repeat * len(moment.planned), len(recording.observation) - 1)
    steps = np.arange(moment.step, last + 1)
    now = recording.observation[moment.step, index]
    axis.plot(steps * seconds, recording.observation[steps, index], color=REAL, linewidth=3.5, alpha=0.35,
              solid_capstyle="round", label="what happened")  # fmt: skip
    for imagined, colour, line, label in (
        (moment.planned, PLANNED, ":", "imagined: the plan as made there"),
        (moment.predicted, IMAGINED, "-", "imagined: the actions then taken"),
    ):
        if not len(imagined):
            continue
        time = (moment.step + repeat * np.arange(len(imagined) + 1)) * seconds
        axis.plot(time, np.concatenate([[now], imagined[:, index]]), line, color=colour, linewidth=1.5,
                  label=label)  # fmt: skip
    axis.plot(moment.step * seconds, now, "o", color=REAL, markersize=4)
    clean(axis)


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
