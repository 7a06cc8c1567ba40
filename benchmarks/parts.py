"""Parts of a long measurement, each in a file, so that an interrupted run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tdm_agents.storage import write_json


def kept(path: Path, settings: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured with ``settings`` and is kept in ``path``; measured now where nothing is.

    A part of other settings is replaced, so that no result mixes two.
    """
    asked = json.loads(json.dumps(settings))  # as the file has them: tuples are lists
    if path.exists():
        part = json.loads(path.read_text())
        if part.get("settings") == asked:
            found: dict[str, Any] = part["result"]
            return found
    result = make()
    write_json(path, {"settings": asked, "result": result})
    return result
