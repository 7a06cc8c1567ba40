"""Is it worth while to stop imagining candidates that look bad, or to have fewer of them in later iterations?

Both imagine fewer steps. So does a planner with fewer candidates, which is what they have to beat: MPPI on
cartpole-swingup, all with the same model, seeds and horizon of 25 decisions.

    python benchmarks/reading_less.py --model runs/distill/cartpole
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import keep
from tdm_agents import TDMAgent, evaluate
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.collection.seeds import TUNING_FIRST
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import summary
from tdm_agents.protocols import Deadline, WorldModel, rollout
from tdm_planners.mppi import MPPI
from tdm_planners.scoring import evaluate as score

ENV_ID = "dm_control/cartpole-swingup-v0"


@dataclass(frozen=True, kw_only=True)
class Sparing(MPPI):
    """MPPI that imagines less.

    Attributes:
        stop: Step after which only the better half of an iteration's candidates is imagined on; 0: none.
        later: Share of the candidates in iterations after the first.
    """

    stop: int = 0
    later: float = 1.0

    @property
    def steps(self) -> int:
        """Imagined steps per decision."""
        counts = [self.num_samples, *(self._count(first=False) for _ in range(self.iterations - 1))]
        stopped = self.horizon - self.stop if self.stop else 0
        return sum(count * self.horizon - (count - _half(count)) * stopped for count in counts)

    def _count(self, *, first: bool) -> int:
        return self.num_samples if first else max(2, round(self.num_samples * self.later))

    def _values(
        self,
        model: WorldModel[Any],
        state: Any,
        candidates: Tensor,
        generator: torch.Generator,
        deadline: Deadline | None,
        *,
        first: bool,
    ) -> tuple[Tensor | None, int, Tensor | None]:
        batch, samples = candidates.shape[:2]
        count = self._count(first=first)
        some, rows = candidates[:, :count], torch.arange(batch).repeat_interleave(count)
        values = torch.full((batch, samples), -math.inf)
        until = self.stop or self.horizon
        begun = rollout(model, model.take(state, rows), some[:, :, :until].flatten(0, 1), generator=generator)
        value = score(model, begun, discount=self.discount).view(batch, count)
        if not self.stop:
            values[:, :count] = value
            return values, self.horizon, None
        best = value.topk(_half(count), dim=1).indices  # [B, count / 2]
        going = (best + count * torch.arange(batch)[:, None]).flatten()
        rest = rollout(
            model,
            model.take(begun.state, going),
            some[:, :, until:].flatten(0, 1)[going],
            generator=generator,
        )
        beyond = score(model, rest, discount=self.discount).view(best.shape)
        values.scatter_(1, best, value.gather(1, best) + self.discount**until * beyond)
        return values, self.horizon, None


def _half(count: int) -> int:
    return max(2, round(count / 2))


BASE = Sparing(horizon=25, num_samples=32, iterations=2, noise_beta=2.0, initial_std=0.5)
WAYS = {
    "32 candidates": BASE,
    "24 candidates": replace(BASE, num_samples=24),
    "20 candidates": replace(BASE, num_samples=20),
    "16 candidates": replace(BASE, num_samples=16),
    "half of 32 stop after 12 steps": replace(BASE, stop=12),
    "half of 32 stop after 8 steps": replace(BASE, stop=8),
    "32, then 16": replace(BASE, later=0.5),
    "32, then 8": replace(BASE, later=0.25),
}


@dataclass(frozen=True)
class Settings:
    """The model, episodes and files."""

    model: str = "runs/distill/cartpole"
    """Folder or name of an agent whose model is planned with."""
    episodes: int = 10
    """Episodes of each, on tuning seeds."""
    parts: Path = Path("runs/reading_less")
    """Folder of what was played already."""
    out: Path = Path("benchmarks/results/reading_less.json")
    """The result."""


def played(planner: Sparing, settings: Settings, name: str) -> dict[str, Any]:
    """Returns, and their summary."""
    agent = TDMAgent(
        load_model(resolve(settings.model), "cpu"), planner, env_id=ENV_ID, reward_function=ENV_ID
    )
    seeds = range(TUNING_FIRST, TUNING_FIRST + settings.episodes)
    with ProgressBar(name) as progress:
        found = evaluate(agent, ENV_ID, seeds, seed=0, on_step=progress)
    return {"summary": summary(found), "returns": found.scores, "steps": planner.steps}


def main(settings: Settings) -> None:
    """Play, print and keep."""
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for number, (name, planner) in enumerate(WAYS.items()):
        made = {"model": settings.model, "episodes": settings.episodes, "way": name}
        rows[name] = keep.part(
            settings.parts / f"{number}.json", made, partial(played, planner, settings, name)
        )
    table = Table("", "imagined steps per decision", "IQM of returns", "95 %")
    for name, row in rows.items():
        s = row["summary"]
        table.add_row(
            name, str(row["steps"]), f"{s['iqm']:.0f}", f"{s['iqm_low']:.0f} to {s['iqm_high']:.0f}"
        )
    Console().print(table)
    keep.result(settings.out, settings, weights=resolve(settings.model) / "weights.safetensors", rows=rows)


if __name__ == "__main__":
    main(tyro.cli(Settings))
