"""Settings, episodes and evaluations as JSON values, and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import UnionType
from typing import Any

import numpy as np

from tdm_agents.evaluation.records import Episode, Evaluation
from tdm_agents.json_text import check_fields

_EPISODE: dict[str, type | UnionType] = {
    "seed": int,
    "return": float,
    "length": int,
    "decisions": int,
    "transitions": float,
    "milliseconds": float,
    "end": str,
}


def plain(value: Any) -> Any:
    """Settings and numbers as JSON values: dataclasses as objects, NaN and inf as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def episode_to_json(episode: Episode) -> dict[str, Any]:
    """An episode as a JSON object, without its recording."""
    return {
        "seed": episode.seed,
        "return": episode.score,
        "length": episode.length,
        "decisions": episode.decisions,
        "transitions": episode.transitions,
        "milliseconds": episode.milliseconds,
        "end": episode.end,
        "late": episode.late,
    }


def episode_from_json(value: Mapping[str, Any]) -> Episode:
    """The inverse of :func:`episode_to_json`."""
    rest = {k: value[k] for k in _EPISODE if k != "return"}
    return Episode(score=value["return"], late=int(value.get("late", 0)), **rest)


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as a JSON object, without recordings."""
    return {
        "env_id": evaluation.env_id,
        "episodes": [episode_to_json(e) for e in evaluation.episodes],
        "plan_calls": evaluation.plan_calls,
        "non_finite": evaluation.non_finite,
    }


def evaluation_from_json(value: Mapping[str, Any]) -> Evaluation:
    """The inverse of :func:`evaluation_to_json`.

    Raises:
        JsonError: If something is missing or of another type.
    """
    check_fields(
        value, "an evaluation", {"env_id": str, "episodes": list, "plan_calls": int, "non_finite": int}
    )
    episodes = tuple(
        episode_from_json(check_fields(e, f"episode {i}", _EPISODE)) for i, e in enumerate(value["episodes"])
    )
    return Evaluation(value["env_id"], episodes, value["plan_calls"], value["non_finite"])
