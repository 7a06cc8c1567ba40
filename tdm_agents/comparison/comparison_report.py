"""A comparison as JSON, which says how to repeat it, as tables, and as a page of Markdown.

Layout of the JSON (schema 1)::

    {"schema": 1, "kind": "comparison", "env_ids": [...], "seeds": [...], "settings": {...},
     "contestants": [{"contestant", "summary",
                      "environments": [{"env_id", "settings", "summary", "episodes": [...]}]}],
     "provenance": {...}}

A contestant's ``settings`` hold the sha256 of the files that were read. Its ``summary`` pools the returns of
all environments, which is meaningful only where they have one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tdm_agents.comparison.matches import Match, Rules
from tdm_agents.evaluation.as_json import episode_to_json, plain
from tdm_agents.evaluation.records import Evaluation
from tdm_agents.evaluation.report import columns, provenance, rows, summary

SCHEMA = 1


def comparison_report(played: Sequence[tuple[Match, Evaluation]], rules: Rules) -> dict[str, Any]:
    """The comparison as a JSON value.

    Args:
        played: Every match with its evaluation, in order.
        rules: The settings that were the same for everybody.
    """
    by_label: dict[str, list[tuple[Match, Evaluation]]] = {}
    for match, evaluation in played:
        by_label.setdefault(match.label, []).append((match, evaluation))
    settings = plain(rules)
    return {
        "schema": SCHEMA,
        "kind": "comparison",
        "env_ids": list(dict.fromkeys(str(match.env) for match, _ in played)),
        "seeds": settings.pop("seeds"),
        "settings": settings,
        "contestants": [
            {
                "contestant": label,
                "summary": plain(summary(*(e for _, e in own))),
                "environments": [_environment(match, evaluation) for match, evaluation in own],
            }
            for label, own in by_label.items()
        ],
        "provenance": provenance(),
    }


def sections(report: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The tables by title: one of all environments together, where there are several, and one of each.

    Returns:
        Lists of objects with a ``"contestant"`` and a ``"summary"``, as
        :func:`tdm_agents.evaluation.report.rows` takes them.
    """
    env_ids, contestants = report["env_ids"], report["contestants"]
    found = {f"all {len(env_ids)} environments": list(contestants)} if len(env_ids) > 1 else {}
    for i, env_id in enumerate(env_ids):
        found[env_id] = [
            {"contestant": c["contestant"], "summary": c["environments"][i]["summary"]} for c in contestants
        ]
    return found


def markdown(report: Mapping[str, Any]) -> str:
    """The tables as a page of Markdown."""
    by = f" by {score_by}" if (score_by := report["settings"].get("score_by")) else ""
    lines = [
        f"Returns{by} of {len(report['seeds'])} episodes, the same seeds for everybody: interquartile mean "
        "with its stratified bootstrap interval, and mean. Wall-clock time and imagined transitions per "
        "decision.",
        "",
    ]
    for title, reports in sections(report).items():
        header = columns(reports)
        lines += [f"## {title}", "", _line(header), _line(["---"] + ["---:"] * (len(header) - 1))]
        lines += [*map(_line, rows(reports)), ""]
    return "\n".join(lines)


def _environment(match: Match, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "env_id": evaluation.env_id,
        "settings": match.settings,
        "summary": plain(summary(evaluation)),
        "episodes": [episode_to_json(e) for e in evaluation.episodes],
    }


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
