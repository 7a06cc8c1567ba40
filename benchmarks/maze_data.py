"""How large are the data of mazes, how often do they reach a goal, and how long do they take to make?

It reads the data of the study `offline`, as far as they are made:

    tdm study offline --size small --out runs/studies
    python benchmarks/maze_data.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

import keep
from tdm_agents.data.summary import summarise
from tdm_agents.studies.making import data_path
from tdm_agents.studies.offline import STUDY
from tdm_agents.studies.stage_products import Product, products_of
from tdm_agents.studies.stages import Collect, Size


@dataclass(frozen=True)
class Settings:
    """Where the data are."""

    studies: Path = Path("runs/studies")
    """Folder of the study's products."""
    size: Size = "small"
    """Size of the study."""
    out: Path = Path("benchmarks/results/maze_data.json")
    """What was found."""


def measured(data: Product) -> dict[str, Any]:
    """One maze's data in numbers; the return of an episode is 1 where it reached its goal."""
    summary = summarise(data_path(data))
    return {
        "environment": summary.environment,
        "episodes": {policy: len(returns) for policy, returns in summary.returns.items()},
        "reached": {policy: float(returns.mean()) for policy, returns in summary.returns.items()},
        "environment_steps": summary.transitions,
        "mebibytes": summary.bytes / 2**20,
        # of the process that finished it, beside whatever else the machine did
        "seconds": data.seconds(),
    }


def main(settings: Settings) -> None:
    """Read, print, keep."""
    products = products_of(STUDY.plan(settings.size).stages, settings.studies)
    made = {name: one for name, one in products.items() if isinstance(one.stage, Collect) and one.done}
    if not made:
        raise SystemExit(f"{settings.studies} has no data of the study; make them with `tdm study offline`")
    found = {}
    for name, data in made.items():
        found[name] = measured(data)
        print(name, found[name])
    keep.result(settings.out, settings, data=found)


if __name__ == "__main__":
    main(tyro.cli(Settings))
