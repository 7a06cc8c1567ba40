"""The report of a study: what was reached, as JSON, as a page of text, and as a figure.

Everything but ``"provenance"``, ``"origins"`` and ``"costs"`` is a function of the products alone, however
often their making was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tdm_agents.evaluation.report import provenance, write_report
from tdm_agents.storage import CheckpointError, read_json, write_bytes
from tdm_agents.studies.figures import draw
from tdm_agents.studies.report_rows import rows_of
from tdm_agents.studies.report_text import text
from tdm_agents.studies.stage_products import SCHEMA as PRODUCTS_SCHEMA
from tdm_agents.studies.stage_products import Product, plain
from tdm_agents.studies.stages import Evaluate, Plan, Train

SCHEMA = 3
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


def write(
    folder: Path,
    name: str,
    size: str,
    plan: Plan,
    products: Mapping[str, Product],
    *,
    missing: Sequence[Evaluate] = (),
) -> dict[str, Any]:
    """Write the report of a study, the JSON last, and return it.

    Args:
        folder: Of the report.
        name: Of the study.
        size: Its size.
        plan: Stages whose products are complete.
        products: Their products.
        missing: Evaluations that are still to be played.

    Raises:
        CheckpointError: If a product was altered.
    """
    evaluations = [stage for stage in plan.stages if isinstance(stage, Evaluate)]
    played = {stage.name: products[stage.name].result() for stage in evaluations}
    returns = {name: {env: one["returns"] for env, one in found.items()} for name, found in played.items()}
    rows = rows_of(evaluations, returns, successes=plan.figure.kind == "successes", missing=missing)
    report = {
        "schema": SCHEMA,
        "kind": "study",
        "study": name,
        "size": size,
        "key": report_key(plan, products),
        "title": plan.figure.title,
        "one": plan.figure.one,
        "missing": [stage.name for stage in missing],
        "average": "mean" if plan.figure.kind == "successes" else "iqm",
        "level": 0.95,
        "protocols": {stage.name: plain(stage.protocol) for stage in evaluations},
        "contestants": rows,
        "returns": returns,
        "non_finite": {
            name: {env: one["non_finite"] for env, one in found.items()} for name, found in played.items()
        },
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
        "origins": _origins(products),
        "provenance": provenance(),
    }
    draw(folder / FIGURE_FILE, plan.figure, rows)
    write_bytes(folder / TEXT_FILE, text(report).encode())
    write_report(folder / RESULTS_FILE, report)
    return report


def _origins(products: Mapping[str, Product]) -> list[dict[str, Any]]:
    """By which versions and machines products were made, each with the names of what it worked on."""
    found: list[dict[str, Any]] = []
    for name, product in products.items():
        for origin in product.makers() or [{"unknown": True}]:
            known = next((one for one in found if one["by"] == origin), None)
            if known is None:
                found.append(known := {"by": origin, "products": []})
            known["products"].append(name)
    return found


def _identity(product: Product) -> list[Any]:
    stage = product.stage
    if isinstance(stage, Evaluate):
        return [stage.name, product.key, stage.label, stage.role, stage.reference, stage.x, stage.panel]
    return [stage.name, product.key]
