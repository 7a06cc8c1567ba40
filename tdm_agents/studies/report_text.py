"""A report as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tdm_agents.studies.panels import Row, panels_of


def text(report: Mapping[str, Any]) -> str:
    """The report as a page of Markdown."""
    rows: Sequence[Row] = report["contestants"]
    lines = [
        f"# {report['title']} ({report['study']}, size {report['size']})",
        "",
        *_ABOUT[report["average"]],
        "",
    ]
    successes = report["average"] == "mean"  # they have a scale already
    scaled = [row for row in rows if row["normalised"] is not None and row["x"] is None]
    if scaled and not successes:
        lines += ["| contestant | normalised return | planning gap |", "|---|---:|---:|"]
        lines += [f"| {row['label']} | {_cell(row['normalised'])} | {_cell(row['gap'])} |" for row in scaled]
        lines.append("")
    scaled_roles = ("planned", "other")
    bare = [row["label"] for row in rows if row["normalised"] is None and row["role"] in scaled_roles]
    if bare and not successes:
        lines += [
            f"Not normalised: {', '.join(dict.fromkeys(bare))}. No planner on the true dynamics is beside "
            "them, or it is no better than random actions in one of their tasks.",
            "",
        ]
    for name, own in panels_of(rows).items():
        lines += [
            f"## {name}",
            "",
            *_table("return", own, [row["here"] for row in own], 2 if successes else 1),
        ]
        if any(row["gap"] is not None and row["x"] is not None for row in own):
            lines += _table("planning gap", own, [row["gap"] for row in own], digits=2)
    return "\n".join([*lines, *_errors(report["models"])])


_ABOUT = {
    "iqm": (
        "Interquartile means with 95 % intervals (bootstrap, stratified by task). Normalised return: 0 is",
        "random actions, 1 the same planner on the true dynamics. Planning gap: what that planner reaches",
        "more on the true dynamics, seed by seed, on the same scale.",
    ),
    "mean": ("Shares of successes with 95 % intervals (Wilson's).",),
}


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


def _cell(found: Mapping[str, float] | None, digits: int = 2) -> str:
    if found is None:
        return "-"
    low, high = f"{found['low']:.{digits}f}", f"{found['high']:.{digits}f}"
    return f"{found['value']:.{digits}f} ({low} to {high})"
