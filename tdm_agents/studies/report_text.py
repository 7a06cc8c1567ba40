"""A report as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tdm_agents.studies.panels import Row, panels_of


def text(report: Mapping[str, Any]) -> str:
    """The report as a page of Markdown."""
    rows: Sequence[Row] = report["contestants"]
    gaps = any(row["gap"] is not None for row in rows)
    lines = [
        f"# {report['title']} ({report['study']}, size {report['size']})",
        "",
        *_about(report, gaps=gaps),
        "",
    ]
    successes = report["average"] == "mean"  # they have a scale already
    scaled = [row for row in rows if row["normalised"] is not None and row["x"] is None]
    if scaled and not successes:
        shown = ["normalised", "gap"] if gaps else ["normalised"]
        lines += [
            f"| contestant | normalised return |{' planning gap |' * gaps}",
            "|---|" + "---:|" * len(shown),
        ]
        lines += [f"| {row['label']} | {' | '.join(_cell(row[what]) for what in shown)} |" for row in scaled]
        lines.append("")
    scaled_roles = ("planned", "other")
    bare = [row["label"] for row in rows if row["normalised"] is None and row["role"] in scaled_roles]
    if bare and not successes:
        lines += [
            f"Not normalised: {', '.join(dict.fromkeys(bare))}. Nothing is the 1 of their scale, it is no "
            "better than random actions in one of their tasks, or something is still to be played.",
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


def _about(report: Mapping[str, Any], *, gaps: bool) -> list[str]:
    """What the numbers are, and what is missing."""
    lines = []
    if report["average"] == "mean":
        lines.append("Shares of successes with 95 % intervals (Wilson's).")
    else:
        lines.append("Interquartile means with 95 % intervals (bootstrap, stratified by task).")
        lines.append(f"Normalised return: 0 is random actions, 1 is {report['one']}.")
        if gaps:
            lines.append("Planning gap: what is missing to that, seed by seed, on the same scale.")
    if missing := report["missing"]:
        lines.append(f"{len(missing)} evaluations are still to be played: {', '.join(missing)}.")
        if report["average"] != "mean":
            lines.append("Their tasks are left out of normalised returns.")
    if len(report["origins"]) > 1:
        lines.append(
            "Not everything was made by one version, machine or device; `origins` in results.json says what."
        )
    return lines


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
