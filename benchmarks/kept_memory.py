"""Are decisions and updates of training faster in a process that keeps freed memory?

Two processes, one of which calls `keep_freed_memory()`, take turns: a decision after something else that
needs memory, one straight after another one, an update of training. Then two new ones, because a process is
lucky or not with where its pages are. Medians; the pages that the system had to clear are counted. Linux
with glibc.

    python benchmarks/kept_memory.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import torch
import tyro

from tdm_agents.benchmark.allocation import keep_freed_memory
from tdm_agents.benchmark.contestants import Decide, decide_as
from tdm_agents.benchmark.models import random_model
from tdm_agents.benchmark.scenarios import chosen
from tdm_agents.benchmark.training import TrainingShape, update_as
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json
from tdm_agents.world_models.transformer.presets import CONFIGS

KINDS = ("decision after other work", "decision after decision", "update after update")


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    out: Path = Path("benchmarks/results/kept_memory.json")
    """Where to write the result."""
    scenario: str = "table/history-10"
    """Decision, of ``tdm benchmark speed --list``; an update is of 24 windows of 12 steps, preset small."""
    pairs: int = 6
    """Of processes, one pair after the other."""
    repeats: int = 3
    """Of each in a pair, in turn."""
    threads: int = 1
    """PyTorch's threads."""
    serve: bool | None = None
    """For the processes: whether this one keeps memory."""


def serve(settings: Settings) -> None:
    """Do what each line of standard input names; answer with seconds and pages."""
    torch.set_num_threads(settings.threads)
    if settings.serve and not keep_freed_memory():
        raise SystemExit("this system's C library cannot keep freed memory")
    (scenario,) = chosen([settings.scenario])
    model, rows = random_model(scenario.shape), scenario.shape.rows
    config = replace(CONFIGS["small"], context=96)
    shape = TrainingShape(config=config, observation_dim=5, action_dim=1, windows=24, bf16=False)
    decision, other = (
        whole(decide_as(name, model, scenario.shape, max_rows=rows))
        for name in ("sequential", "copied cache")
    )
    update = update_as("tdm", shape, torch.device("cpu"))
    for work in (decision, update):
        work()
    for line in sys.stdin:
        kind = line.strip()
        if kind == KINDS[0]:
            other()
        elif kind == KINDS[1]:
            decision()
        elif kind == KINDS[2]:
            update()
        pages, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        (update if kind == KINDS[2] else decision)()
        seconds = time.perf_counter() - began
        answer = [seconds, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - pages]
        print(json.dumps(answer), flush=True)


def whole(decide: Decide) -> Callable[[], None]:
    """A decision to its end."""

    def work() -> None:
        for _ in decide():
            pass

    return work


def main(settings: Settings) -> None:
    """Measure, print, and keep."""
    if settings.serve is not None:
        serve(settings)
        return
    rows: dict[str, dict[str, list[list[float]]]] = {kind: {"kept": [], "given back": []} for kind in KINDS}
    for _ in range(settings.pairs):
        measure_pair(settings, rows)
    found = {}
    for kind, answers in rows.items():
        seconds = {name: median(answer[0] for answer in taken) for name, taken in answers.items()}
        found[kind] = {
            "seconds": {name: [answer[0] for answer in taken] for name, taken in answers.items()},
            "pages": {name: median(answer[1] for answer in taken) for name, taken in answers.items()},
            "times_as_fast": seconds["given back"] / seconds["kept"],
        }
        print(f"{kind}: {seconds}, pages {found[kind]['pages']}", flush=True)
    value = {"schema": 1, "settings": plain(asdict(settings)), "rows": found, "provenance": provenance()}
    write_json(settings.out, value)
    print(f"kept in {settings.out}")


def measure_pair(settings: Settings, rows: dict[str, dict[str, list[list[float]]]]) -> None:
    """Let two new processes take turns; add what they answer."""
    command = [sys.executable, __file__, "--scenario", settings.scenario, "--threads", str(settings.threads)]
    processes = {
        name: subprocess.Popen(
            [*command, "--serve", flag], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name, flag in (("kept", "True"), ("given back", "False"))
    }
    for _ in range(settings.repeats):
        for kind in KINDS:
            for name, process in processes.items():
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(f"{kind}\n")
                process.stdin.flush()
                rows[kind][name].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.communicate()


if __name__ == "__main__":
    main(tyro.cli(Settings))
