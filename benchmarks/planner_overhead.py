"""What share of a decision is spent outside the model?

This measures, for every shooting planner at the same K and H with the bundled checkpoint, the wall-clock time
of ``agent.act``, and how much of it passes inside the model's own methods; the parts of the planner and of
the agent (memory, spaces) are separate. Medians are over decisions of one running episode, planners in turn.

    python benchmarks/planner_overhead.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import tyro
from torch import Tensor

import tdm_envs  # noqa: F401  (registers the environments)
from keep import result
from tdm_agents import TDMAgent, make_planner
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.evaluation.as_json import plain
from tdm_agents.protocols import History, Planner, Proposal, Rollout, Step
from tdm_agents.world_models.transformer.model import TransformerWorldModel

SHOOTING = ("random_shooting", "cem", "mppi", "proposal_shooting")


@dataclass(frozen=True)
class Settings:
    """Model, decisions and files."""

    out: Path = Path("benchmarks/results/planner_overhead.json")
    """Where to write the result."""
    checkpoint: str = "cartpole-swingup"
    """Name or folder of a transformer."""
    env_id: str = "dm_control/cartpole-swingup-v0"
    """The environment."""
    num_samples: int = 128
    """K"""
    horizon: int = 20
    """H"""
    decisions: int = 5
    """Timed decisions per planner."""
    device: str = "cpu"
    """Device to compute on."""
    threads: int = 1
    """PyTorch's threads."""


class Timed:
    """A model that adds up the seconds spent in its methods; on a GPU it waits for their work.

    Args:
        model: The transformer.

    Attributes:
        seconds: Seconds spent in them so far.
    """

    def __init__(self, model: TransformerWorldModel) -> None:
        self._model = model
        self.spec = model.spec
        self.seconds = 0.0

    @contextmanager
    def _clock(self) -> Iterator[None]:
        wait(self.spec.device)
        began = time.perf_counter()
        yield
        wait(self.spec.device)
        self.seconds += time.perf_counter() - began

    def start(self, history: History, *, horizon: int) -> Any:
        """The wrapped model's method, timed."""
        with self._clock():
            return self._model.start(history, horizon=horizon)

    def take(self, state: Any, rows: Tensor) -> Any:
        """The wrapped model's method, timed."""
        with self._clock():
            return self._model.take(state, rows)

    def step(
        self, state: Any, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Any, Step]:
        """The wrapped model's method, timed."""
        with self._clock():
            return self._model.step(state, action, generator=generator)

    def rollout(self, state: Any, actions: Tensor, *, generator: torch.Generator | None = None) -> Rollout:
        """The wrapped model's method, timed."""
        with self._clock():
            return self._model.rollout(state, actions, generator=generator)

    def propose(
        self,
        state: Any,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """The wrapped model's method, timed."""
        with self._clock():
            return self._model.propose(state, count, generator=generator, deterministic=deterministic)


def wait(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def planners(settings: Settings) -> dict[str, Planner]:
    """The shooting planners, at the same K and H."""
    sizes = {"num_samples": settings.num_samples, "horizon": settings.horizon}
    return {name: make_planner(name, **sizes) for name in SHOOTING}


class Player:
    """An agent in an episode, timed.

    Args:
        settings: Settings of the measurement.
        planner: Planner of the agent.
    """

    def __init__(self, settings: Settings, planner: Planner) -> None:
        model = load_model(resolve(settings.checkpoint), settings.device)
        assert isinstance(model, TransformerWorldModel)
        self._model = Timed(model)
        self._agent = TDMAgent(self._model, planner, seed=0)
        self._env = gym.make(settings.env_id)
        self._observation, _ = self._env.reset(seed=0)
        self._agent.reset()

    def decide(self) -> dict[str, float]:
        """Seconds of one decision: in all, inside the model, and of ``start`` and ``plan``."""
        before, began = self._model.seconds, time.perf_counter()
        action = self._agent.act(self._observation)
        seconds = time.perf_counter() - began
        view = self._agent.last_plan
        assert view is not None
        found = {
            "decision": seconds,
            "model": self._model.seconds - before,
            "start_and_plan": view.milliseconds / 1e3,
        }
        self._observation, *_ = self._env.step(action)
        for _ in range(self._model.spec.action_repeat - 1):  # the agent holds the action
            self._observation, *_ = self._env.step(self._agent.act(self._observation))
        return found


def shares(timed: list[dict[str, float]]) -> dict[str, float]:
    """Medians over decisions, and shares of a decision."""
    return {
        "seconds": statistics.median(t["decision"] for t in timed),
        "outside_the_model": statistics.median(1 - t["model"] / t["decision"] for t in timed),
        "planner": statistics.median((t["start_and_plan"] - t["model"]) / t["decision"] for t in timed),
        "agent": statistics.median(1 - t["start_and_plan"] / t["decision"] for t in timed),
    }


def main(settings: Settings) -> None:
    """Measure, print and keep."""
    torch.set_num_threads(settings.threads)
    players = {name: Player(settings, planner) for name, planner in planners(settings).items()}
    for player in players.values():
        player.decide()  # the first decision allocates
    timed: dict[str, list[dict[str, float]]] = {name: [] for name in players}
    for _ in range(settings.decisions):
        for name, player in players.items():
            timed[name].append(player.decide())
    found = {name: shares(decisions) for name, decisions in timed.items()}
    for name, share in found.items():
        print(
            f"{name:20} {share['seconds']:.3f} s per decision, {100 * share['outside_the_model']:.2f} % "
            f"outside the model: planner {100 * share['planner']:.2f} %, agent {100 * share['agent']:.2f} %"
        )
    weights = resolve(settings.checkpoint) / "weights.safetensors"
    rows = {name: {"decisions": timed[name], **share} for name, share in found.items()}
    result(settings.out, settings, weights=weights, planners=plain(planners(settings)), rows=rows)


if __name__ == "__main__":
    main(tyro.cli(Settings))
