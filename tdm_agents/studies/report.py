"""The report of a study: what was reached, as JSON, as a page of text, and as a figure.

Everything but ``"provenance"`` and ``"costs"`` is a function of the products alone, however often their
making was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tdm_agents.evaluation.report import provenance, write_report
from tdm_agents.evaluation.statistics import Interval
from tdm_agents.storage import CheckpointError, read_json, write_bytes
from tdm_agents.studies.figures import draw
from tdm_agents.studies.panels import Row, panels_of
from tdm_agents.studies.products import SCHEMA as PRODUCTS_SCHEMA
from tdm_agents.studies.products import Product, plain
from tdm_agents.studies.scores import Returns, has_scale, middle, normalised, planning_gap
from tdm_agents.studies.stages import Evaluate, Plan, Train

SCHEMA = 1
RESULTS_FILE = "results.json"
FIGURE_FILE = "figure.png"
TEXT_FILE = "results.md"


def report_key(plan: Plan, products: Mapping[str, Product]) -> str:
    """The hash of what a report is made of: products, their labels, and how they are drawn."""
    value = [
        SCHEMA,
        PRODUCTS_SCHEMA,
        plain(plan.figure),
        [_identity(product) for product in products.values()],
    ]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def is_reported(folder: Path, key: str) -> bool:
    """Whether a folder has the whole report of that key."""
    if not all((folder / name).exists() for name in (RESULTS_FILE, FIGURE_FILE, TEXT_FILE)):
        return False
    try:
        return bool(read_json(folder / RESULTS_FILE, schema=SCHEMA)["key"] == key)
    except CheckpointError:
        return False


def write(folder: Path, name: str, size: str, plan: Plan, products: Mapping[str, Product]) -> dict[str, Any]:
    """Write the report of a study whose products are complete, the JSON last, and return it.

    Raises:
        CheckpointError: If a product was altered.
    """
    played = {
        stage.name: products[stage.name].result() for stage in plan.stages if isinstance(stage, Evaluate)
    }
    evaluations = [stage for stage in plan.stages if isinstance(stage, Evaluate)]
    returns = {name: {env: one["returns"] for env, one in found.items()} for name, found in played.items()}
    random = {
        task: scores
        for stage in evaluations
        if stage.role == "random"
        for task, scores in returns[stage.name].items()
    }
    rows = [_row(stages, returns, random) for stages in _contestants(evaluations)]
    report = {
        "schema": SCHEMA,
        "kind": "study",
        "study": name,
        "size": size,
        "key": report_key(plan, products),
        "title": plan.figure.title,
        "level": 0.95,
        "protocols": {stage.name: plain(stage.protocol) for stage in evaluations},
        "contestants": rows,
        "models": {
            stage.name: products[stage.name].result()["prediction_errors"]
            for stage in plan.stages
            if isinstance(stage, Train)
        },
        "products": {name: product.folder.name for name, product in products.items()},
        "costs": {
            "seconds": {name: product.seconds() for name, product in products.items()},
            "milliseconds_per_decision": {
                name: {env: one["milliseconds_per_decision"] for env, one in found.items()}
                for name, found in played.items()
            },
        },
        "provenance": provenance(),
    }
    draw(folder / FIGURE_FILE, plan.figure, rows)
    write_bytes(folder / TEXT_FILE, text(report).encode())
    write_report(folder / RESULTS_FILE, report)
    return report


def text(report: Mapping[str, Any]) -> str:
    """The report as a page of Markdown."""
    rows: Sequence[Row] = report["contestants"]
    lines = [f"# {report['title']} ({report['study']}, size {report['size']})", "", *_ABOUT, ""]
    scaled = [row for row in rows if row["normalised"] is not None and row["x"] is None]
    if scaled:
        lines += ["| contestant | normalised return | planning gap |", "|---|---:|---:|"]
        lines += [f"| {row['label']} | {_cell(row['normalised'])} | {_cell(row['gap'])} |" for row in scaled]
        lines.append("")
    for name, own in panels_of(rows).items():
        lines += [f"## {name}", "", *_table("return", own, [row["here"] for row in own], digits=1)]
        if any(row["gap"] is not None and row["x"] is not None for row in own):
            lines += _table("planning gap", own, [row["gap"] for row in own], digits=2)
    return "\n".join([*lines, *_errors(report["models"])])


_ABOUT = (
    "Interquartile means with 95 % intervals (bootstrap, stratified by task). Normalised return: 0 is random",
    "actions, 1 the same planner on the true dynamics. Planning gap: what that planner reaches more on the",
    "true dynamics, seed by seed, on the same scale.",
)


def _table(
    what: str, rows: Sequence[Row], found: Sequence[Mapping[str, float] | None], digits: int
) -> list[str]:
    """Contestants by position; those without a position say the same at each."""
    positions = sorted({row["x"] for row in rows if row["x"] is not None})
    columns = [f"{position:g}" for position in positions] or [what]
    cells: dict[str, list[str]] = {}
    for row, one in zip(rows, found, strict=True):
        if one is None:
            continue
        own = cells.setdefault(str(row["label"]), ["-"] * len(columns))
        for at in range(len(columns)):
            if row["x"] is None or row["x"] == positions[at]:
                own[at] = _cell(one, digits)
    head = f"{what} of" if positions else "contestant"
    lines = [f"| {' | '.join([head, *columns])} |", "|---" + "|---:" * len(columns) + "|"]
    return [*lines, *(f"| {' | '.join([label, *own])} |" for label, own in cells.items()), ""]


def _errors(models: Mapping[str, Any]) -> list[str]:
    """How far off the models of one environment are, as ``tdm train`` found on held-out episodes."""
    single = {name: next(iter(found.values())) for name, found in models.items() if len(found) == 1}
    if not single:
        return []
    lines = [
        "## Prediction errors",
        "",
        "Median over held-out starting points, in standard deviations of the data, after as many decisions.",
        "",
        "| model | decisions: error |",
        "|---|---|",
    ]
    for name, errors in single.items():
        told = (f"{one['horizon']}: {_number(one['median'])}" for one in errors)
        lines.append(f"| {name} | {', '.join(told)} |")
    return [*lines, ""]


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"


def _contestants(evaluations: Sequence[Evaluate]) -> list[list[Evaluate]]:
    """The evaluations of each contestant at each position of each panel."""
    found: dict[tuple[str, str, float | None], list[Evaluate]] = {}
    for stage in evaluations:
        found.setdefault((stage.label, stage.panel, stage.x), []).append(stage)
    return list(found.values())


def _row(
    stages: Sequence[Evaluate], returns: Mapping[str, Returns], random: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """One contestant in all tasks that it played."""
    first = stages[0]
    own = _runs(stages, returns)
    references = [stage.reference for stage in stages]
    scale: dict[str, Any] = {"normalised": None, "gap": None}
    if all(name is not None for name in references):
        paired = {stage.name: returns[str(stage.reference)] for stage in stages}
        ends = {"random": random, "reference": _runs(stages, paired)}
        if has_scale(list(own), **ends):
            scale["normalised"] = _interval(middle(normalised(own, **ends)))
            if first.role == "planned":
                scale["gap"] = _interval(middle(planning_gap(own, **ends)))
    return {
        "label": first.label,
        "role": first.role,
        "panel": first.panel,
        "x": first.x,
        "lines": {stage.name: stage.line for stage in stages},
        "tasks": {
            task: {"returns": list(scores), **_interval(middle({task: scores}))}
            for task, scores in own.items()
        },
        **scale,
    }


def _runs(stages: Sequence[Evaluate], returns: Mapping[str, Returns]) -> dict[str, list[float]]:
    """The runs of each task: its episodes, or the means of several evaluations (of several draws of data).

    Episodes of one draw of the training data say nothing of how much another draw would change.
    """
    several: dict[str, list[Sequence[float]]] = {}
    for stage in stages:
        for env in stage.envs:
            several.setdefault(env.name, []).append(returns[stage.name][env.name])
    return {
        task: list(each[0]) if len(each) == 1 else [float(np.mean(one)) for one in each]
        for task, each in several.items()
    }


def _identity(product: Product) -> list[Any]:
    stage = product.stage
    if isinstance(stage, Evaluate):
        return [stage.name, product.key, stage.label, stage.role, stage.reference, stage.x, stage.panel]
    return [stage.name, product.key]


def _interval(found: Interval) -> dict[str, float]:
    return {"iqm": found.value, "low": found.low, "high": found.high}


def _cell(found: Mapping[str, float] | None, digits: int = 2) -> str:
    if found is None:
        return "-"
    low, high = f"{found['low']:.{digits}f}", f"{found['high']:.{digits}f}"
    return f"{found['iqm']:.{digits}f} ({low} to {high})"
