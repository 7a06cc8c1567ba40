"""Who worked on a product: versions and machines, also of processes that did not complete it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import make_folder, read_json, write_json

SCHEMA = 1
MAKERS_FILE = "makers.json"
"""In a product's folder."""

Maker = dict[str, Any]
"""Machine, versions, commit and device."""


def maker(device: str, made: Mapping[str, Any] | None = None) -> Maker:
    """Who computes now, or computed what has a provenance.

    Args:
        device: Where models compute.
        made: From :func:`tdm_agents.evaluation.report.provenance`; None: of this process.
    """
    of = provenance() if made is None else made
    found = {name: of[name] for name in ("machine", "versions", "git_commit")}
    return without_threads(found | {"device": device})


def without_threads(one: Maker) -> Maker:
    """The maker without a number of threads: it differs between processes of one machine."""
    return one | {"machine": {name: value for name, value in one["machine"].items() if name != "threads"}}


def different(makers: Iterable[Maker]) -> list[Maker]:
    """Each of them once, in order."""
    found: list[Maker] = []
    for one in makers:
        if one not in found:
            found.append(one)
    return found


def note(folder: Path, device: str) -> None:
    """Write down who works on a product from now on, beside those who did before."""
    there = noted(folder)
    every = different([*there, maker(device)])
    if len(every) > len(there):
        make_folder(folder)
        write_json(folder / MAKERS_FILE, {"schema": SCHEMA, "makers": every})


def noted(folder: Path) -> list[Maker]:
    """Who worked on a product, as :func:`note` wrote it.

    Raises:
        CheckpointError: If that was altered.
    """
    path = folder / MAKERS_FILE
    if not path.exists():
        return []
    found: list[Maker] = read_json(path, schema=SCHEMA, fields={"makers": list})["makers"]
    return found
