"""Charts beside the body: the return, the time of decisions, candidates' values, and observed scalars."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt
import viser
from viser import uplot

from tdm_agents.view.snapshots import PlanSeen, Setup, Snapshot

Array = npt.NDArray[np.float64]

_PAST = 600
"""Snapshots of an episode that charts remember."""
_BINS = 24
_MOST_ITERATIONS = 6
"""Iterations whose histograms are drawn; of more, as many, evenly spaced."""
_SCALARS = 3
_HEIGHT = 118
_INK, _ACCENT, _PALE = "#334155", "#ff5722", "rgba(33,145,140,0.45)"


class Charts:
    """The charts of a page, in a container of viser's.

    Args:
        gui: The page's controls; charts are added where its caller has opened a container.

    Attributes:
        plan: The newest plan of the episode.
    """

    def __init__(self, gui: viser.GuiApi) -> None:
        self._times: deque[tuple[float, float]] = deque(maxlen=_PAST)
        self._milliseconds: deque[tuple[float, float]] = deque(maxlen=_PAST)
        self._seen: deque[tuple[float, npt.NDArray[np.float32]]] = deque(maxlen=_PAST)
        self._episode = -1
        self.plan: PlanSeen | None = None
        self._planned_at = 0.0
        self._budget = math.nan
        self._seconds = 1.0
        self._names: tuple[str, ...] = ()
        self._score = _chart(gui, "return so far", ("seconds", "return"))
        self._speed = _chart(gui, "milliseconds per plan", ("seconds", "taken", "real time"))
        self._values = _chart(gui, "values of the candidates", ("value", "iteration 1"))
        self._picks = [
            gui.add_dropdown(f"scalar {i + 1}", ("-",), initial_value="-") for i in range(_SCALARS)
        ]
        self._scalars = [
            _chart(gui, "-", ("seconds", "happened", "chosen", "lowest", "highest")) for _ in self._picks
        ]

    def introduce(self, setup: Setup) -> None:
        """Take note of the environment and of the player."""
        known = math.isfinite(setup.seconds_per_step)
        self._seconds = setup.seconds_per_step * setup.action_repeat if known else float(setup.action_repeat)
        self._budget = 1e3 * self._seconds if known else math.nan
        if setup.observation_names != self._names:
            self._names = setup.observation_names
            for index, pick in enumerate(self._picks):
                pick.options = self._names or ("-",)
                pick.value = pick.options[min(index, len(pick.options) - 1)]

    def note(self, snapshot: Snapshot, seconds: float) -> None:
        """Take note of a snapshot, at so many seconds of the episode."""
        if snapshot.episode != self._episode:
            self._episode, self.plan = snapshot.episode, None
            for past in (self._times, self._milliseconds, self._seen):
                past.clear()
        self._times.append((seconds, snapshot.score))
        self._seen.append((seconds, snapshot.observation))
        if snapshot.plan is not None:
            self.plan, self._planned_at = snapshot.plan, seconds
            self._milliseconds.append((seconds, snapshot.plan.milliseconds))

    def draw(self) -> None:
        """Send the charts; a few times per second is enough."""
        if len(self._times) > 1:
            self._score.data = _columns(self._times)
        if len(self._milliseconds) > 1:
            when, taken = _columns(self._milliseconds)
            self._speed.data = (when, taken, np.full_like(when, self._budget))
        if self.plan is not None and self.plan.considered:
            self._draw_values(self.plan.considered)
        for pick, chart in zip(self._picks, self._scalars, strict=True):
            if pick.value in self._names and len(self._seen) > 1:
                chart.title = str(pick.value)
                chart.data = self._scalar(self._names.index(pick.value))

    def _draw_values(self, considered: tuple[npt.NDArray[np.float32], ...]) -> None:
        last = len(considered) - 1
        shown = np.unique(np.linspace(0, last, min(len(considered), _MOST_ITERATIONS)).round().astype(int))
        known = [considered[i][np.isfinite(considered[i])].astype(np.float64) for i in shown]
        every = np.concatenate(known)
        if not len(every):
            return
        low, high = float(every.min()), float(every.max())
        edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
        counts = [np.histogram(values, edges)[0].astype(np.float64) for values in known]
        series = [_series("value")]
        for place, index in enumerate(shown):
            share = (place + 1) / len(shown)
            color = f"rgba(255,87,34,{0.15 + 0.85 * share:.2f})" if index == last else _PALE
            series.append(_series(f"iteration {index + 1}", color, fill="rgba(255,87,34,0.15)" if index == last else None))
        if len(series) != len(self._values.series):
            # data and series have to be of one length at every moment that a page sees
            self._values.data = tuple(np.zeros(2) for _ in series)
        self._values.series = tuple(series)
        self._values.data = (0.5 * (edges[:-1] + edges[1:]), *counts)

    def _scalar(self, index: int) -> tuple[Array, ...]:
        """What happened, and what was imagined at the newest plan, on one axis of seconds."""
        past = np.array([when for when, _ in self._seen])
        happened = np.array([seen[index] for _, seen in self._seen], np.float64)
        if self.plan is None or self.plan.observation is None:
            empty = np.full_like(past, np.nan)
            return past, happened, empty, empty, empty
        imagined = self.plan.observation[:, :, index].astype(np.float64)  # [1 + S, H]
        future = self._planned_at + self._seconds * np.arange(1, imagined.shape[1] + 1)
        when = np.concatenate([past, future])
        order = np.argsort(when, kind="stable")
        none_past, none_future = np.full_like(past, np.nan), np.full_like(future, np.nan)
        others = imagined[1:] if len(imagined) > 1 else imagined
        lines = (
            np.concatenate([happened, none_future]),
            np.concatenate([none_past, imagined[0]]),
            np.concatenate([none_past, np.nanmin(others, axis=0)]),
            np.concatenate([none_past, np.nanmax(others, axis=0)]),
        )
        return when[order], *(line[order] for line in lines)


def _chart(gui: viser.GuiApi, title: str, names: tuple[str, ...]) -> viser.GuiUplotHandle:
    strokes = (_INK, _ACCENT, _PALE, _PALE)
    series = [_series(names[0])] + [_series(n, c) for n, c in zip(names[1:], strokes, strict=False)]
    return gui.add_uplot(
        data=tuple(np.array([0.0, 1e-3]) for _ in names),
        series=tuple(series),
        title=title,
        height=_HEIGHT,
        scales={"x": uplot.Scale(time=False)},
        legend=uplot.Legend(show=False),
        padding=(4, 8, 0, 0),
    )


def _series(label: str, stroke: str | None = None, fill: str | None = None) -> uplot.Series:
    made: uplot.Series = {"label": label}
    if stroke is not None:
        made |= {"stroke": stroke, "width": 1.5, "spanGaps": True, "points": {"show": False}}
    if fill is not None:
        made |= {"fill": fill}
    return made


def _columns(pairs: deque[tuple[float, float]]) -> tuple[Array, Array]:
    left, right = np.array(pairs, np.float64).T
    return left, right
