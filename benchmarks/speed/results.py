"""Results that grow row by row in one JSON file; rows in it are not measured again.

Layout (schema 1)::

    {"schema": 1, "kind": "speed", "settings": {...}, "rows": {"SCENARIO/DTYPE": {...}, ...}}

Each row has the machine, versions, commit and load of its own measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tdm_agents.storage import read_json, write_json

SCHEMA = 1
Rows = dict[str, dict[str, Any]]


def read_rows(path: Path, settings: Mapping[str, Any]) -> Rows:
    """The rows measured so far; none if there is no file.

    Args:
        path: The file.
        settings: Everything that rows of one file have in common, as JSON values.

    Raises:
        CheckpointError: If it is not such a file.
        ValueError: If it was measured with other settings; the message names the first that differs.
    """
    if not path.exists():
        return {}
    value = read_json(path, schema=SCHEMA)
    kept = value["settings"]
    for name in {**settings, **kept}:
        there, asked = kept.get(name), settings.get(name)
        if there != asked:
            raise ValueError(
                f"{path} was measured with {name} {there!r}, not {asked!r}; repeat that setting, or choose "
                "another --out"
            )
    rows: Rows = value["rows"]
    return rows


def write_rows(path: Path, settings: Mapping[str, Any], rows: Rows) -> None:
    """Keep all rows, atomically."""
    write_json(path, {"schema": SCHEMA, "kind": "speed", "settings": dict(settings), "rows": rows})
