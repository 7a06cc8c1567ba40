"""What is saved where rows that ended are no longer imagined?

Random weights, cartpole's layout, and ends at a constant rate, so that a row lives for some steps on average;
dropping and not dropping the ended in turn, in one run; medians. The draws, and what the living see, are the
same.

    python benchmarks/ended_rows.py
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro

from tdm_agents.benchmark.allocation import keep_freed_memory
from tdm_agents.benchmark.models import random_actions, random_history, random_model
from tdm_agents.benchmark.scenarios import chosen
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.report import provenance
from tdm_agents.protocols import Rollout, looped_rollout
from tdm_agents.storage import write_json
from tdm_agents.world_models.transformer.model import TransformerWorldModel


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    out: Path = Path("benchmarks/results/ended_rows.json")
    """Where to write the result."""
    scenario: str = "table/history-10"
    """Decision, of ``tdm benchmark speed --list``."""
    lives: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0, 1000.0)
    """Steps that a row lives on average, were there no horizon."""
    repeats: int = 5
    """Decisions of each, in turn."""
    threads: int = 1
    """PyTorch's threads."""


def main(settings: Settings) -> None:
    """Measure, print, and keep."""
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    (scenario,) = chosen([settings.scenario])
    shape = scenario.shape
    plain_model = random_model(shape)
    spec = replace(plain_model.spec, terminates=True)
    model = TransformerWorldModel(spec, plain_model.config, plain_model.network).eval()
    model.tokenizer = plain_model.tokenizer
    history, actions = random_history(shape), random_actions(shape)

    def decide(drop: bool) -> tuple[Rollout, float]:
        began = time.perf_counter()
        state = model.start(history, horizon=shape.horizon)
        state = model.take(state, torch.zeros(shape.rows, dtype=torch.int64))
        imagine = TransformerWorldModel.rollout if drop else looped_rollout
        imagined = imagine(model, state, actions, generator=torch.Generator().manual_seed(0))
        return imagined, time.perf_counter() - began

    rows = []
    for life in settings.lives:
        torch.nn.init.constant_(model.network.alive.bias, torch.tensor(1 - 1 / life).logit().item())
        taken: dict[bool, list[float]] = {True: [], False: []}
        decide(True)
        for _ in range(settings.repeats):
            for drop, seconds in taken.items():
                imagined, passed = decide(drop)
                seconds.append(passed)
        lived = torch.cat([torch.ones_like(imagined.alive[:, :1]), imagined.alive[:, :-1]], dim=1)
        median = {drop: statistics.median(seconds) for drop, seconds in taken.items()}
        rows.append(
            {
                "life": life,
                "lived": lived.float().mean().item(),
                "seconds": taken[False],
                "seconds_dropping": taken[True],
                "times_as_fast": median[False] / median[True],
            }
        )
        print(
            f"{life:g} steps: {rows[-1]['lived']:.0%} of the transitions are of living rows; "
            f"{median[False]:.2f} s, {median[True]:.2f} s where the ended are dropped",
            flush=True,
        )
    value = {
        "schema": 1,
        "settings": plain(asdict(settings)),
        "rows": rows,
        "provenance": provenance(),
    }
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
