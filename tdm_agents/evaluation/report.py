"""Evaluations as JSON, which says how to repeat them, and as a table.

Layout of a report (schema 1)::

    {"schema": 1, "kind": "evaluation", "contestant", "env_id", "seeds": [...], "settings": {...},
     "summary": {"episodes", "mean", "mean_low", ..., "milliseconds_per_decision", ...},
     "episodes": [{"seed", "return", "length", "decisions", ...}],
     "provenance": {"machine", "versions", "weights_sha256", "git_commit", "command", "created"}}

Unknown values are null, never NaN.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from tdm_agents.evaluation.as_json import episode_to_json, plain
from tdm_agents.evaluation.records import Evaluation
from tdm_agents.evaluation.statistics import interval, iqm, mean
from tdm_agents.json_text import plain_number
from tdm_agents.storage import write_json

SCHEMA = 1
PACKAGES = ("tdm-agents", "torch", "mujoco", "gymnasium", "dm-control", "numpy")


def make_report(
    contestant: str,
    evaluation: Evaluation,
    *,
    settings: Mapping[str, Any],
    weights: Path | None = None,
    level: float = 0.95,
) -> dict[str, Any]:
    """An evaluation as a JSON value.

    Args:
        contestant: Who was evaluated, in words.
        evaluation: The result.
        settings: Everything that was chosen: planner, its settings, seeds of the agent, batch.
        weights: The file of weights, whose sha256 is kept.
        level: Confidence level of the intervals.
    """
    return {
        "schema": SCHEMA,
        "kind": "evaluation",
        "contestant": contestant,
        "env_id": evaluation.env_id,
        "seeds": [e.seed for e in evaluation.episodes],
        "settings": plain(settings),
        "summary": plain(summary(evaluation, level=level)),
        "episodes": [episode_to_json(e) for e in evaluation.episodes],
        "provenance": provenance(weights),
    }


def summary(*evaluations: Evaluation, level: float = 0.95) -> dict[str, float]:
    """Mean and IQM of the returns with bootstrap intervals, and the cost of a decision.

    Args:
        evaluations: Evaluations of one contestant, one per environment. Their returns are pooled, so the
            environments should have one scale; the bootstrap draws within each.
        level: Confidence level of the intervals.
    """
    scores = [e.scores for e in evaluations]
    averaged, middle = (interval(scores, s, level=level) for s in (mean, iqm))
    decisions = sum(e.decisions for e in evaluations)
    played = [episode for e in evaluations for episode in e.episodes]
    return {
        "episodes": len(played),
        "mean": averaged.value,
        "mean_low": averaged.low,
        "mean_high": averaged.high,
        "iqm": middle.value,
        "iqm_low": middle.low,
        "iqm_high": middle.high,
        "level": level,
        "decisions": decisions,
        "plan_calls": sum(e.plan_calls for e in evaluations),
        "milliseconds_per_decision": sum(e.milliseconds for e in played) / max(decisions, 1),
        "transitions_per_decision": sum(e.transitions for e in played) / max(decisions, 1),
        "non_finite": sum(e.non_finite for e in evaluations),
        "late": sum(episode.late for episode in played),
    }


def provenance(weights: Path | None = None) -> dict[str, Any]:
    """Where a result is from: machine, versions, weights, commit and command line; no host or user name."""
    return {
        "machine": {
            "platform": platform.platform(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": versions(),
        "weights_sha256": None if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest(),
        "git_commit": git_commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES}


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report atomically.

    Raises:
        ValueError: If it is not JSON, which has no NaN.
    """
    json.dumps(report, allow_nan=False, default=plain_number)
    write_json(path, report)


# headers on two lines, so that a table fits in a terminal of 80 columns
_HEADERS = {
    "IQM return": "IQM\nreturn",
    "mean return": "mean\nreturn",
    "ms per decision": "ms per\ndecision",
    "imagined per decision": "imagined\nper decision",
}


def columns(reports: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Headers of the columns of :func:`rows`."""
    level = f"{100 * reports[0]['summary']['level']:g} %" if reports else ""
    return ("who", "runs", "IQM return", level, "mean return", "ms per decision", "imagined per decision")


def rows(reports: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row per report (its ``"contestant"`` and ``"summary"``): return with its interval, and cost."""
    return [
        (
            str(report["contestant"]),
            str(s["episodes"]),
            f"{s['iqm']:.1f}",
            _interval(report),
            f"{s['mean']:.1f}",
            f"{s['milliseconds_per_decision']:.1f}",
            f"{s['transitions_per_decision']:.0f}",
        )
        for report in reports
        for s in (report["summary"],)
    ]


def _interval(report: Mapping[str, Any]) -> str:
    """The interval of the IQM; a dash where no environment was played more than once."""
    s = report["summary"]
    if s["episodes"] <= len(report.get("environments", [None])):
        return "-"
    return f"{s['iqm_low']:.1f} to {s['iqm_high']:.1f}"


def table(reports: Sequence[Mapping[str, Any]], title: str | None = None) -> Table:
    """A table of the rows for a terminal, with the plans that came after a deadline below it."""
    late = [
        f"{report['contestant']}: {count} of {report['summary']['decisions']} decisions after the deadline"
        for report in reports
        if (count := report["summary"].get("late", 0))
    ]
    shown = Table(title=title, caption="\n".join(late) or None)
    first, *others = columns(reports)
    shown.add_column(first, overflow="fold")
    for column in others:
        shown.add_column(_HEADERS.get(column, column), justify="right", no_wrap=True)
    for row in rows(reports):
        shown.add_row(*(escape(cell) for cell in row))
    return shown


def titled(env: str, score_by: str | None) -> str:
    """The title of a table: the environment, and the reward of the returns where it is not the own one."""
    return env if score_by is None else f"{env}, returns by {score_by}"


def git_commit() -> str | None:
    """The commit of this package's source, with ``+changes`` where files differ; None outside a clone."""
    here = Path(__file__).resolve()
    try:
        # an installed copy may be inside another repository: only one that tracks this file counts
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        changed = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
        return _git(here.parent, "rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu() -> str | None:
    """The processor's name; ``platform`` does not know it on Linux."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        if names:
            return names[0]
    return platform.processor() or None


@cache  # a comparison asks for every batch that it may have kept, and looking is slow
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
