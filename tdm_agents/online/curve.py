"""The curve of an online run: every episode and every evaluation, in ``curve.json``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tdm_agents.storage import CheckpointError, read_json, write_json

CURVE_FILE = "curve.json"
SCHEMA = 1
CLOCKS = ("wall_seconds", "cpu_seconds")
"""Entries of a row that differ from one run to another with the same settings."""


class Curve:
    """Rows of episodes and evaluations, with the environment steps and seconds that led to them.

    Attributes:
        episodes: One row per episode of training.
        evaluations: One row per evaluation, and per environment where there are several.
    """

    def __init__(self) -> None:
        self.episodes: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self._offset = dict.fromkeys(CLOCKS, 0.0)
        self._began = _clocks()

    def seconds(self) -> dict[str, float]:
        """Wall-clock and CPU seconds of all processes that ran it so far."""
        return {name: self._offset[name] + now - self._began[name] for name, now in _clocks().items()}

    def played(self, episodes: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of episodes that have just ended."""
        seconds = self.seconds()
        self.episodes += [{**episode, **seconds} for episode in episodes]

    def evaluated(self, evaluations: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of an evaluation, one per environment."""
        seconds = self.seconds()
        self.evaluations += [{**evaluation, **seconds} for evaluation in evaluations]

    def write(self, folder: Path) -> None:
        """Write ``curve.json``."""
        value = {"schema": SCHEMA, "episodes": self.episodes, "evaluations": self.evaluations}
        write_json(folder / CURVE_FILE, value)

    def record(self) -> dict[str, Any]:
        """How many rows there are, and the seconds so far, as JSON."""
        rows = {"episodes": len(self.episodes), "evaluations": len(self.evaluations)}
        return {**rows, "seconds": self.seconds()}

    def restore(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Go back to the rows that :meth:`record` counted.

        Raises:
            CheckpointError: If ``curve.json`` is missing, altered or shorter.
        """
        value = read_json(folder / CURVE_FILE, schema=SCHEMA, fields={"episodes": list, "evaluations": list})
        for name in ("episodes", "evaluations"):
            if len(value[name]) < record[name]:
                raise CheckpointError(
                    f"{folder / CURVE_FILE} has {len(value[name])} {name}, the checkpoint {record[name]}: it "
                    "was altered; restore the folder, or begin in another one"
                )
        self.episodes = value["episodes"][: record["episodes"]]
        self.evaluations = value["evaluations"][: record["evaluations"]]
        self._offset = {name: float(record["seconds"][name]) for name in CLOCKS}
        self._began = _clocks()


def begun(folder: Path) -> bool:
    """Whether the curve in a folder has an episode."""
    file = folder / CURVE_FILE
    return file.exists() and bool(read_json(file, schema=SCHEMA, fields={"episodes": list})["episodes"])


def _clocks() -> dict[str, float]:
    return {"wall_seconds": time.monotonic(), "cpu_seconds": time.process_time()}
