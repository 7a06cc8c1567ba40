"""Files of benchmarks: results with settings and provenance, and the parts of long measurements."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json


def result(out: Path, settings: object, *, weights: Path | None = None, **found: Any) -> None:
    """Write a result to a file, atomically, and print its path.

    Layout (schema 1)::

        {"schema": 1, "settings": {...}, **found, "provenance": {...}}

    Args:
        out: The file.
        settings: The benchmark's settings, a dataclass.
        weights: The weights file of the model that was measured, whose hash is kept.
        found: JSON values by name.
    """
    value = {"schema": 1, "settings": plain(settings), **found, "provenance": provenance(weights)}
    write_json(out, value)
    print(f"kept in {out}")


def part(path: Path, settings: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A part of a long measurement, read if it exists and made otherwise, so that an interrupted run goes on.

    A part with other settings is replaced, so that no result mixes two.

    Args:
        path: The file of this part.
        settings: Everything that its result depends on.
        make: Measures it.
    """
    asked = json.loads(json.dumps(settings))  # as in the file, where tuples are lists
    if path.exists():
        there = json.loads(path.read_text())
        if there.get("settings") == asked:
            found: dict[str, Any] = there["result"]
            return found
    made = make()
    write_json(path, {"settings": asked, "result": made})
    return made
