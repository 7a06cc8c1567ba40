r"""How much imagination does each planner need? Return against imagined transitions, for built-in planners.

The task is cartpole-swingup as in ``cartpole_returns.py``, with its evaluation seeds, horizon, time step and
reward function, and with its ten episodes where it has measured the same point. Only the number of candidates
changes. Each point is kept as soon as it is played, so an interrupted run goes on.

``proposal_shooting`` and ``policy`` follow the checkpoint's behaviour-cloning policy; on the simulator, it
sees each imagined observation alone. ``beam_search`` grows sequences by uniform actions and has no value of
their last state, so that it is greedy in the rewards so far.

    python benchmarks/planner_returns.py
    python benchmarks/planner_returns.py --plot-only
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cartpole_returns import ACTION_REPEAT, ENV_ID, PLANNERS, learned
from planner_returns_plot import plot_returns
from tdm_agents import SimulatorModel, TDMAgent, make_planner
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import make_report, write_report
from tdm_agents.protocols import History, Planner, WorldModel
from tdm_agents.registry import present_settings
from tdm_agents.storage import read_json
from tdm_agents.wrappers import WithProposal
from tdm_envs.suite import batched_task

SCHEMA = 1
CHECKPOINT = "cartpole-swingup"
HORIZON = 25
FROZEN = Path(__file__).with_name("results") / "cartpole_returns"
EPISODES = {"simulator": 5, "tdm": 3}
FOLLOWERS = ("proposal_shooting", "policy")  # of the checkpoint's proposals
# an episode on the TDM costs about ten times one on the simulator
NUM_SAMPLES: dict[str, dict[str, tuple[int, ...]]] = {
    "simulator": {
        "mppi": (4, 8, 16, 32, 64),
        "cem": (4, 8, 16, 32, 64),
        "random_shooting": (8, 32, 128),
        "proposal_shooting": (4, 16),
        "beam_search": (8, 32),
        "policy": (1,),
    },
    "tdm": {
        "mppi": (8, 32),
        "cem": (8, 32),
        "random_shooting": (8, 128),
        "proposal_shooting": (4, 16),
        "beam_search": (8, 32),
        "policy": (1,),
    },
}


@dataclass(frozen=True)
class Settings:
    """Points, threads and files."""

    only: tuple[str, ...] = ()
    """Points to play, such as ``tdm-mppi-8``; all if empty."""
    threads: int = 1
    """Threads of PyTorch and of the simulator."""
    plot_only: bool = False
    """Play nothing, and draw what is kept."""
    out: Path = Path("benchmarks/results/planner_returns.json")
    """File of all points."""
    plot: Path = Path("docs/planner_returns.png")
    """File of the plot."""


@dataclass(frozen=True)
class Point:
    """A planner with ``num_samples`` candidates (per iteration) on a model."""

    model: str
    planner: str
    num_samples: int

    @property
    def name(self) -> str:
        """The unique name of the point."""
        return f"{self.model}-{self.planner}-{self.num_samples}"

    @property
    def frozen(self) -> Path | None:
        """The file in which ``cartpole_returns.py`` has kept the same point, if it has."""
        same: Any = PLANNERS.get(self.planner)
        if same is None or same.num_samples != self.num_samples:
            return None
        return FROZEN / f"{self.model}-{self.planner}.json"

    @property
    def seeds(self) -> list[int]:
        """The seeds of the episodes that are played here."""
        return list(range(EVALUATION_FIRST, EVALUATION_FIRST + EPISODES[self.model]))

    @property
    def weights(self) -> Path | None:
        """The checkpoint's weights file, where transitions or proposals come from it."""
        asks = self.model == "tdm" or self.planner in FOLLOWERS
        return resolve(CHECKPOINT) / "weights.safetensors" if asks else None

    def build(self) -> Planner:
        """The planner."""
        count = self.num_samples
        if self.planner == "policy":
            return make_planner("policy")
        if self.planner == "proposal_shooting":
            return make_planner("proposal_shooting", horizon=HORIZON, num_samples=count)
        if self.planner == "beam_search":
            # half as many beams as expansions, so that count transitions are imagined at each depth
            return make_planner(
                "beam_search", horizon=HORIZON, beam_width=count // 2, num_expand=2, expand="uniform"
            )
        base: Any = PLANNERS[self.planner]
        changes = {"num_samples": count}
        if self.planner == "cem":  # the same share of elites, but more than one
            changes["num_elites"] = max(2, round(count * base.num_elites / base.num_samples))
        planner: Planner = replace(base, **changes)
        return planner


def points() -> dict[str, Point]:
    """All points by name, those that imagine least first."""
    found = [
        Point(model, planner, count)
        for model, planners in NUM_SAMPLES.items()
        for planner, counts in planners.items()
        for count in counts
    ]
    return {p.name: p for p in sorted(found, key=lambda p: p.num_samples)}


class FirstProposal:
    """A policy of a transformer's proposals, as if an episode began with each observation."""

    def __init__(self) -> None:
        self.model: Any = load_model(resolve(CHECKPOINT), "cpu")

    def __call__(self, observation: Tensor) -> Tensor:
        """The most likely action ``[N, m]`` after each of ``observation[N, n]``."""
        history = History.of_observation(observation, action_dim=self.model.spec.action_dim)
        state = self.model.start(history, horizon=1)
        actions: Tensor = self.model.propose(state, 1, deterministic=True).actions[:, 0]
        return actions


def contestant(point: Point, threads: int) -> TDMAgent | AgentFactory:
    """The contestant of a point."""
    planner = point.build()
    if point.model == "tdm":
        return learned(resolve(CHECKPOINT), planner)
    proposal = FirstProposal() if point.planner in FOLLOWERS else None

    def simulator(envs: Any) -> WorldModel[Any]:
        model = SimulatorModel(envs, ACTION_REPEAT, threads=threads, fast=batched_task(ENV_ID))
        return model if proposal is None else WithProposal(model, proposal)

    return AgentFactory(simulator, planner, ENV_ID)


def play(point: Point, threads: int) -> dict[str, Any]:
    """The report of a point, with the seconds of CPU time that it took."""
    began = time.process_time()
    with ProgressBar(point.name) as progress:
        evaluation = evaluate(contestant(point, threads), ENV_ID, point.seeds, seed=0, on_step=progress)
    chosen = {
        "planner": point.planner,
        "planner_settings": point.build(),
        "action_repeat": ACTION_REPEAT,
        "reward_function": ENV_ID,
        "threads": threads,
        "batch": None,
        "seed": 0,
    }
    report = make_report(point.name, evaluation, settings=chosen, weights=point.weights)
    return report | {"cpu_seconds": time.process_time() - began}


def is_of(report: Mapping[str, Any], point: Point) -> bool:
    """Whether a kept report belongs to the point as it is defined now, with the present weights."""
    weights = point.weights
    sha256 = None if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
    planner = point.build()
    stored = present_settings(type(planner), report["settings"]["planner_settings"])
    played = (stored, report["seeds"], report["provenance"]["weights_sha256"])
    return bool(played == (plain(planner), point.seeds, sha256))


def kept(settings: Settings) -> dict[str, dict[str, Any]]:
    """The measured points by name, whether played here or frozen."""
    reports: dict[str, dict[str, Any]] = {}
    if settings.out.exists():
        reports = read_json(settings.out, schema=SCHEMA)["points"]
    found = {}
    for name, point in points().items():
        if point.frozen is not None:
            frozen = json.loads(point.frozen.read_text())
            found[name] = frozen | {"from": f"{FROZEN.name}/{point.frozen.name}"}
        elif name in reports and is_of(reports[name], point):
            found[name] = reports[name]
    return found


def table(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    """The table of returns and imagined transitions."""
    shown = Table(title="returns, and transitions imagined per decision")
    shown.add_column("point", no_wrap=True)
    for column in ("runs", "mean", "lowest", "highest", "imagined"):
        shown.add_column(column, justify="right")
    for name, report in reports.items():
        s, returns = report["summary"], [e["return"] for e in report["episodes"]]
        cells = (s["mean"], min(returns), max(returns), s["transitions_per_decision"])
        shown.add_row(name, str(s["episodes"]), *(f"{cell:.0f}" for cell in cells))
    return shown


def main(settings: Settings) -> None:
    """Play what has not been played, then print and draw everything."""
    torch.set_num_threads(settings.threads)
    everything = points()
    if unknown := sorted(set(settings.only) - set(everything)):
        raise SystemExit(f"no point {unknown[0]!r}; there are {', '.join(everything)}")
    reports = kept(settings)
    for name in () if settings.plot_only else settings.only or everything:
        if name in reports:
            continue
        played = play(everything[name], settings.threads)
        reports = kept(settings) | {name: played}  # others may have played since
        write_report(settings.out, {"schema": SCHEMA, "points": reports})
    Console().print(table(reports))
    plot_returns(settings.plot, [asdict(everything[name]) | report for name, report in reports.items()])
    print(f"kept in {settings.out}, drawn in {settings.plot}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
