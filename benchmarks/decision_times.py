"""Milliseconds per decision of several contestants, which take turns, so that all see the same machine."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from tdm_agents import evaluate
from tdm_agents.actors.contestant import Contestant
from tdm_agents.evaluation.report import summary


def milliseconds(contestants: Mapping[str, Contestant], env_id: str, rounds: int) -> dict[str, float]:
    """Medians over turns of 40 environment steps of one environment; a first turn does not count."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(1 + rounds):
        for name, contestant in contestants.items():
            played = evaluate(contestant, env_id, [turn], max_steps=40)
            if turn:
                found[name].append(summary(played)["milliseconds_per_decision"])
    return {name: statistics.median(times) for name, times in found.items()}
