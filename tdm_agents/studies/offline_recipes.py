"""What the studies of recorded data share: sizes of recipes, how models are judged, and who plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tdm_agents.studies.stages import Evaluate, Recipe
from tdm_agents.training.train_config import TrainConfig

EVALUATED: dict[str, Any] = {"evaluate_batches": 8, "horizons": (1, 5, 10), "evaluate_every": 10_000}
"""Settings of :class:`TrainConfig` by which models are judged while they train."""
UNPLANNED: dict[str, Any] = {"hidden": 32, "layers": 1}
"""Settings of IQL whose dynamics nobody plans with, which would be half of the work of an update."""
IMITATION = 15_000
"""Updates of behaviour cloning, at most."""
_TINY = TrainConfig(
    steps=6, batch_size=4, window_steps=4, evaluate_batches=1, horizons=(1,), starts=2, context_steps=2
)
_SMALLEST: dict[str, Any] = {
    "trajectory_transformer": {"layers": 1, "width": 16, "heads": 2, "feedforward": 16, "context": 60},
    "iql": {"hidden": 8, "iql_hidden": 8},
}


def imitation(iql: Recipe) -> Recipe:
    """IQL whose policy imitates good and bad actions alike: behaviour cloning (2110.06169, equation 7).

    A policy that waits for no value has learned after a part of the updates.
    """
    training = replace(iql.training, steps=min(iql.training.steps, IMITATION))
    return replace(iql, settings={**iql.settings, "beta": 0.0}, training=training)


def smoke(small: Recipe) -> Recipe:
    """A recipe of a few updates of a tiny model, for the size ``smoke``."""
    # a transformer of the size `small` has a preset, whose settings the tiny one does without
    preset = small.preset if small.model == "iql" else None
    return replace(
        small, preset=preset, settings=_SMALLEST[small.model], held_out_fraction=0.3, training=_TINY
    )


def paper(small: Recipe) -> Recipe:
    """The paper's size: of the Trajectory Transformer (2106.02039), or of IQL's training (2110.06169)."""
    if small.model == "iql":
        return replace(small, training=replace(small.training, steps=1_000_000))
    training = TrainConfig(steps=100_000, batch_size=256, window_steps=10, learning_rate=6e-4, **EVALUATED)
    return replace(small, preset="paper", settings={}, training=training)


def played(
    prefix: str, contestants: Mapping[str, tuple[str, str]], *, of: str = "", **everywhere: Any
) -> list[Evaluate]:
    """The evaluations of learned contestants.

    Args:
        prefix: What the names of all products begin with.
        contestants: Label and line of each, by the end of the product's name.
        of: What all labels end with.
        **everywhere: Fields of :class:`Evaluate` that are the same for all.
    """
    return [
        Evaluate(name=f"{prefix}-{name}", label=label + of, line=line, role="other", **everywhere)
        for name, (label, line) in contestants.items()
    ]
