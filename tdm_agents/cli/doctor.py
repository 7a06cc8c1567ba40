"""``tdm doctor``: what is installed here, what is missing, and what helps."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tdm_agents.cli.health import Finding, examine
from tdm_agents.remarks import remarks


@dataclass(frozen=True)
class Doctor:
    """Look at Python, packages, devices, renderer, ffmpeg, plug-ins and folders, and say what helps.

    The exit status is 0 where planning works, whatever else is missing, and 1 where it does not.
    """

    json: bool = False
    """Print JSON instead of a table."""


def run(arguments: Doctor) -> None:
    """Examine, and print what was found.

    Raises:
        SystemExit: With code 1 where planning does not work.
    """
    console = remarks()
    findings: list[Finding] = []
    with console.status("looking") as status:
        for finding in examine():
            findings.append(finding)
            status.update(f"{finding.what}: {finding.state}")
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.what == "planning" and finding.state != "ok" for finding in findings):
        raise SystemExit(1)


def _print(findings: list[Finding]) -> None:
    console = Console()
    table = Table("", "what", "found")
    colours = {"ok": "green", "note": "yellow", "problem": "red"}
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        table.add_row(state, escape(finding.what), escape(finding.found))
    console.print(table)
    for finding in findings:
        if finding.state != "ok" and finding.remedy:
            console.print(f"{finding.what}: {finding.remedy}", soft_wrap=True, markup=False)
    works = any(finding.what == "planning" and finding.state == "ok" for finding in findings)
    console.print("Planning works." if works else "Planning does not work.")
