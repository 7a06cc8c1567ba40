"""Charts beside the body: the return, the time of decisions, candidates' values, and observed scalars."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt
import viser

from tdm_agents.view.gui_values import show_value
from tdm_agents.view.snapshots import PlanSeen, Setup, Snapshot
from tdm_agents.view.svg_chart import Line, svg_chart

_PAST = 600
"""Snapshots of an episode that charts remember."""
_BINS = 24
_ITERATIONS = 5
"""Iterations whose histograms are drawn; of more, as many, evenly spaced, the last among them."""
_SCALARS = 3
_INK, _CHOSEN, _OTHERS = "#334155", "#ff5722", "#21918c"


class Charts:
    """The charts of a page, in a container of viser's.

    Args:
        gui: The page's controls; charts are added where its caller has opened a container.

    Attributes:
        plan: The newest plan of the episode.
    """

    def __init__(self, gui: viser.GuiApi) -> None:
        self.plan: PlanSeen | None = None
        self._scores: deque[tuple[float, float]] = deque(maxlen=_PAST)
        self._milliseconds: deque[tuple[float, float]] = deque(maxlen=_PAST)
        self._seen: deque[tuple[float, npt.NDArray[np.float32]]] = deque(maxlen=_PAST)
        self._episode = -1
        self._planned_at = 0.0
        self._budget, self._seconds, self._unit = math.nan, 1.0, "s"
        self._names: tuple[str, ...] = ()
        self._above = gui.add_html("")
        self._picks = [
            gui.add_dropdown(f"scalar {i + 1}", ("-",), initial_value="-") for i in range(_SCALARS)
        ]
        self._below = gui.add_html("")

    def introduce(self, setup: Setup) -> None:
        """Take note of the environment and of the player."""
        known = math.isfinite(setup.seconds_per_step)
        self._unit = "s" if known else "steps"
        self._seconds = setup.seconds_per_step * setup.action_repeat if known else float(setup.action_repeat)
        self._budget = 1e3 * self._seconds if known else math.nan
        if setup.observation_names != self._names:
            self._names = setup.observation_names
            for index, pick in enumerate(self._picks):
                pick.options = self._names or ("-",)
                show_value(pick, pick.options[min(index, len(pick.options) - 1)])

    def note(self, snapshot: Snapshot, seconds: float) -> None:
        """Take note of a snapshot, at so many seconds of the episode."""
        if snapshot.episode != self._episode:
            self._episode, self.plan = snapshot.episode, None
            for past in (self._scores, self._milliseconds, self._seen):
                past.clear()
        self._scores.append((seconds, snapshot.score))
        self._seen.append((seconds, snapshot.observation))
        if snapshot.plan is not None:
            self.plan, self._planned_at = snapshot.plan, seconds
            self._milliseconds.append((seconds, snapshot.plan.milliseconds))

    def draw(self) -> None:
        """Send the charts; a few times per second is enough."""
        charts = [svg_chart("return so far", [_line(self._scores, _INK)], self._unit)]
        if self._milliseconds:
            taken = _line(self._milliseconds, _INK)
            real = Line(taken.x, np.full_like(taken.x, self._budget), _CHOSEN)
            charts.append(svg_chart("milliseconds per plan; orange: real time", [taken, real], self._unit))
        if self.plan is not None and self.plan.considered:
            charts.append(svg_chart("values of the candidates; orange: last iteration", self._values()))
        self._above.content = "".join(charts)
        self._below.content = "".join(
            svg_chart(str(pick.value), self._scalar(self._names.index(pick.value)), self._unit)
            for pick in self._picks
            if pick.value in self._names and self._seen
        )

    def _values(self) -> list[Line]:
        """Histograms of the newest plan, over one set of bins."""
        assert self.plan is not None
        considered = self.plan.considered
        shown = np.linspace(0, len(considered) - 1, min(len(considered), _ITERATIONS)).round().astype(int)
        known = [considered[i].astype(np.float64) for i in shown]
        every = np.concatenate(known)
        if not len(every):
            return []
        low, high = float(every.min()), float(every.max())
        edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
        lines = []
        for place, values in enumerate(known):
            counts, last = np.histogram(values, edges)[0].astype(np.float64), place == len(known) - 1
            color = _CHOSEN if last else f"rgba(33,145,140,{0.3 + 0.5 * place / len(known):.2f})"
            lines.append(
                Line(
                    np.repeat(edges, 2)[1:-1],
                    np.repeat(counts, 2),
                    color,
                    down_to=np.zeros(2 * _BINS) if last else None,
                )
            )
        return lines

    def _scalar(self, index: int) -> list[Line]:
        """What happened, and what was imagined at the newest plan, on one axis of seconds."""
        past = np.array([when for when, _ in self._seen])
        happened = Line(past, np.array([seen[index] for _, seen in self._seen], np.float64), _INK)
        if self.plan is None or self.plan.observation is None:
            return [happened]
        imagined = self.plan.observation[:, :, index].astype(np.float64)  # [1 + S, H]
        future = self._planned_at + self._seconds * np.arange(1, imagined.shape[1] + 1)
        others = [Line(future, row, _OTHERS, width=0.6) for row in imagined[1:]]
        return [*others, happened, Line(future, imagined[0], _CHOSEN, width=2.0)]


def _line(pairs: deque[tuple[float, float]], color: str) -> Line:
    x, y = np.array(pairs, np.float64).reshape(-1, 2).T
    return Line(x, y, color)
