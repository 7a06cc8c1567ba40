"""How many hours does each study take on this machine, alone and where studies share what they make?

The forecasts of `tdm study NAME --dry-run`, from nothing. Expect a factor of two:

    python benchmarks/study_hours.py
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tyro

import keep
from tdm_agents.studies.catalogue import STUDIES
from tdm_agents.studies.forecast import forecast
from tdm_agents.studies.running import opened
from tdm_agents.studies.stages import Size


@dataclass(frozen=True)
class Settings:
    """What is asked."""

    size: Size = "small"
    """Size of the studies."""
    workers: int = 1
    """Processes that play and train side by side."""
    out: Path = Path("benchmarks/results/study_hours.json")
    """What was found."""


def main(settings: Settings) -> None:
    """Ask, print, keep."""
    found: dict[str, Any] = {}
    of_products: dict[str, float] = {}
    for name, study in STUDIES.items():
        hours: defaultdict[str, float] = defaultdict(float)
        with TemporaryDirectory() as folder:
            one = opened(study, settings.size, Path(folder))
            seconds = {}  # by key: what two stages have in common is made once
            for each in forecast(one, device="cpu", workers=settings.workers, threads=1):
                seconds[each.product.key] = each.seconds
                kind = "training" if each.product.kind in ("model", "policy") else each.product.kind
                hours[kind] += each.seconds / 3600.0
        alone = sum(seconds.values()) / 3600.0
        of_products |= seconds
        found[name] = {"hours": alone, **{f"{kind}_hours": value for kind, value in sorted(hours.items())}}
        print(f"{name}: {alone:.1f} h")
    together = sum(of_products.values()) / 3600.0
    print(f"all of them in one folder: {together:.1f} h")
    keep.result(settings.out, settings, studies=found, together_hours=together)


if __name__ == "__main__":
    main(tyro.cli(Settings))
