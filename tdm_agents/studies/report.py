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

from tdm_agents.evaluation.report import provenance, write_report
from tdm_agents.evaluation.statistics import Interval
from tdm_agents.storage import CheckpointError, read_json, write_bytes
from tdm_agents.studies.figures import draw
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
    rows = [_row(stages, returns, evaluations) for stages in _contestants(evaluations)]
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
    rows: Sequence[Mapping[str, Any]] = report["contestants"]
    scaled = [row for row in rows if row["normalised"] is not None]
    lines = [f"# {report['title']} ({report['study']}, size {report['size']})", ""]
    if scaled:
        lines += [
            "Normalised return: 0 is random actions, 1 the same planner on the true dynamics. Interquartile "
            "mean over all tasks and seeds, with its 95 % interval (bootstrap, stratified by task). The "
            "planning gap is what the same planner reaches more on the true dynamics, seed by seed.",
            "",
            "| contestant | normalised return | 95 % | planning gap | 95 % |",
            "|---|---:|---:|---:|---:|",
        ]
        lines += [f"| {_name(row)} | {_cells(row['normalised'])} | {_cells(row['gap'])} |" for row in scaled]
        lines.append("")
    for task in dict.fromkeys(task for row in rows for task in row["tasks"]):
        lines += [f"## {task}", "", "| contestant | return | 95 % |", "|---|---:|---:|"]
        lines += [
            f"| {_name(row)} | {_cells(row['tasks'][task], digits=1)} |"
            for row in rows
            if task in row["tasks"]
        ]
        lines.append("")
    return "\n".join(lines)


def _contestants(evaluations: Sequence[Evaluate]) -> list[list[Evaluate]]:
    """The evaluations of each contestant at each position."""
    found: dict[tuple[str, float | None], list[Evaluate]] = {}
    for stage in evaluations:
        found.setdefault((stage.label, stage.x), []).append(stage)
    return list(found.values())


def _row(
    stages: Sequence[Evaluate], returns: Mapping[str, Returns], evaluations: Sequence[Evaluate]
) -> dict[str, Any]:
    """One contestant in all tasks that it played."""
    first = stages[0]
    own = {task: scores for stage in stages for task, scores in returns[stage.name].items()}
    random = {
        task: scores
        for other in evaluations
        if other.role == "random"
        for task, scores in returns[other.name].items()
    }
    reference = {
        task: scores
        for stage in stages
        if stage.reference is not None
        for task, scores in returns[stage.reference].items()
    }
    ends = {"random": random, "reference": reference}
    scaled = bool(reference) and has_scale(list(own), **ends)
    gap = scaled and first.role == "planned"
    return {
        "label": first.label,
        "role": first.role,
        "x": first.x,
        "lines": {stage.name: stage.line for stage in stages},
        "tasks": {
            task: {"returns": list(scores), **_interval(middle({task: scores}))}
            for task, scores in own.items()
        },
        "normalised": _interval(middle(normalised(own, **ends))) if scaled else None,
        "gap": _interval(middle(planning_gap(own, **ends))) if gap else None,
    }


def _identity(product: Product) -> list[Any]:
    stage = product.stage
    if isinstance(stage, Evaluate):
        return [stage.name, product.key, stage.label, stage.role, stage.reference, stage.x]
    return [stage.name, product.key]


def _interval(found: Interval) -> dict[str, float]:
    return {"iqm": found.value, "low": found.low, "high": found.high}


def _name(row: Mapping[str, Any]) -> str:
    return str(row["label"]) if row["x"] is None else f"{row['label']}, {row['x']:g}"


def _cells(found: Mapping[str, float] | None, digits: int = 2) -> str:
    if found is None:
        return "- | -"
    return f"{found['iqm']:.{digits}f} | {found['low']:.{digits}f} to {found['high']:.{digits}f}"
