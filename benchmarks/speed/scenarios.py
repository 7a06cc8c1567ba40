"""Scenarios: the decisions whose time is measured, by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from speed.contestants import CAPTURED, OTHERS, OWN
from speed.roofline import DecisionShape
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.presets import CONFIGS as TRANSFORMERS
from tdm_agents.world_models.transformer.presets import PRESETS as AGENTS
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig


@dataclass(frozen=True)
class Scenario:
    """One decision, and its contestants.

    Attributes:
        name: A name like ``group/...``.
        shape: Sizes of the decision.
        control_seconds: Time between two decisions in the environment.
        contestants: Names in :mod:`speed.contestants`; captured ones take part on a GPU.
    """

    name: str
    shape: DecisionShape
    control_seconds: float
    contestants: tuple[str, ...] = (*OWN, *CAPTURED, *OTHERS)


@dataclass(frozen=True, slots=True)
class _Body:
    """An environment of dm_control in which the paper plans, at every environment step."""

    observation_dim: int
    action_dim: int
    control_seconds: float
    preset: str


_BODIES = {
    "cartpole": _Body(5, 1, 0.01, "paper-cartpole"),
    "walker": _Body(24, 6, 0.025, "paper-walker"),
    "humanoid": _Body(67, 21, 0.025, "paper-humanoid"),
}
_BATCHES = (8, 64)
_TABLE = TransformerConfig(
    tokenizer=TokenizerConfig(observation="mu_law", target="absolute"),
    decoding=DecodingOptions(read="sample"),
)
"""Width 128, 4 blocks of 4 heads, a band of 1,023 tokens."""
_TABLE_HISTORIES = (10, 118)
_SWEEPS = {
    "num_samples": (16, 32, 64, 128, 256, 512),
    "horizon": (5, 10, 20, 50, 100),
    "history_steps": (1, 10, 40, 80, 118),
    "batch": (1, 2, 4, 8, 16),
}


def scenarios() -> dict[str, Scenario]:
    """All scenarios: tables, the paper's three bodies, batches of environments, and sweeps over one size.

    All sample mu-law tokens of absolute targets, so that every contestant does the same.
    """
    found = [*_tables(), *_bodies(), *_sweeps()]
    return {scenario.name: scenario for scenario in found}


def chosen(patterns: Sequence[str] = (), *, without: Sequence[str] = ()) -> list[Scenario]:
    """Scenarios by name or shell pattern, in the order of :func:`scenarios`.

    Args:
        patterns: Patterns such as ``table/*``; empty for all.
        without: Contestants to leave out.

    Raises:
        LookupError: If a pattern matches none, or there is no such contestant.
    """
    every = scenarios()
    for pattern in patterns:
        if not fnmatch.filter(every, pattern):
            raise LookupError(f"no scenario {pattern!r}; there are {', '.join(every)}")
    for name in without:
        if name not in (everybody := (*OWN, *CAPTURED, *OTHERS)):
            raise LookupError(f"no contestant {name!r}; there are {', '.join(everybody)}")
    return [
        replace(scenario, contestants=tuple(c for c in scenario.contestants if c not in without))
        for scenario in every.values()
        if not patterns or any(fnmatch.fnmatch(scenario.name, pattern) for pattern in patterns)
    ]


def _table_shape() -> DecisionShape:
    body = _BODIES["cartpole"]
    return DecisionShape(
        observation_dim=body.observation_dim,
        action_dim=body.action_dim,
        num_samples=128,
        horizon=20,
        config=_TABLE,
        history_steps=_TABLE_HISTORIES[0],
    )


def _tables() -> list[Scenario]:
    seconds = _BODIES["cartpole"].control_seconds
    return [
        Scenario(f"table/history-{steps}", replace(_table_shape(), history_steps=steps), seconds)
        for steps in _TABLE_HISTORIES
    ]


def _bodies() -> list[Scenario]:
    """The bundled checkpoint's network and the paper's, with a history that fills the band."""
    found = []
    for name, body in _BODIES.items():
        planner = AGENTS[body.preset].planner_settings
        step = body.observation_dim + body.action_dim + 2
        small = replace(
            TRANSFORMERS["small-paper-tokens"],
            context=3 * step,  # as many steps as the bundled checkpoint sees of cartpole
        )
        for size, config in (("small", small), ("gato-79m", TRANSFORMERS["gato-79m"])):
            shape = DecisionShape(
                observation_dim=body.observation_dim,
                action_dim=body.action_dim,
                num_samples=planner["num_samples"],
                horizon=planner["horizon"],
                config=config,
                history_steps=config.context // step,
            )
            found.append(Scenario(f"{name}/{size}", shape, body.control_seconds))
            found += [
                Scenario(
                    f"{name}/{size}/batch-{b}",
                    replace(shape, batch=b),
                    body.control_seconds,
                    contestants=(*OWN, *CAPTURED),
                )
                for b in _BATCHES
            ]
    return found


def _sweeps() -> list[Scenario]:
    seconds = _BODIES["cartpole"].control_seconds
    found = []
    for name, values in _SWEEPS.items():
        for value in values:
            size: dict[str, Any] = {name: value}
            shape = replace(_table_shape(), **size)
            found.append(Scenario(f"sweep/{name}-{value}", shape, seconds, contestants=(*OWN, *CAPTURED)))
    return found
