"""A planner of one's own: it says what its candidates are drawn from, and how much each of them counts.

python examples/own_planner.py    # a minute or two on an idle core

In a package of your own an entry point of the group ``tdm_agents.planners`` takes the place of ``register``,
and ``tdm evaluate --planner halving`` works as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import tyro

from tdm_agents import TDMAgent, evaluate, registry
from tdm_agents.protocols import ModelSpec
from tdm_agents.testing import check_planner
from tdm_planners.distributions import Distribution, around
from tdm_planners.shooting import ShootingPlanner


@dataclass(frozen=True, kw_only=True)
class Halving(ShootingPlanner):
    """Each candidate weighs half as much as the next better one."""

    spread: float = 0.7

    def first(self, memory: Any, spec: ModelSpec) -> Distribution:
        """Candidates around what is left of the last plan."""
        return around(memory, spec, std=self.spread)

    def weigh(self, values: torch.Tensor) -> torch.Tensor:
        """Weights ``[B, K]`` of candidates from their values, which are -inf where one is refused."""
        rank = values.argsort(dim=1, descending=True).argsort(dim=1)
        weight = torch.where(values.isfinite(), 0.5**rank, 0.0)
        return weight / weight.sum(dim=1, keepdim=True)


def main(steps: int = 250, episodes: int = 2, num_samples: int = 32, horizon: int = 25) -> dict[str, float]:
    """Check the planner, then let it plan beside random shooting in the shipped model.

    Args:
        steps: Environment steps of each episode.
        episodes: Episodes of each planner, on the same seeds.
        num_samples: Candidates per iteration.
        horizon: Decisions that are imagined ahead.

    Returns:
        The mean return of each planner.
    """
    if "halving" not in registry.names(registry.PLANNERS):
        registry.register(registry.PLANNERS, "halving", Halving)
    check_planner(Halving, noise="spread", search={"num_samples": 128, "iterations": 5})
    print("halving keeps the contract of planners")
    returns = {}
    for name in ("halving", "random_shooting"):
        agent = TDMAgent.load("cartpole-swingup", name, num_samples=num_samples, horizon=horizon)
        found = evaluate(agent, "dm_control/cartpole-swingup-v0", range(episodes), max_steps=steps)
        returns[name] = sum(found.scores) / episodes
        cost = f"{found.milliseconds_per_decision:.0f} ms per decision"
        print(f"{name:15} mean return {returns[name]:.1f}, {cost}")
    return returns


if __name__ == "__main__":
    tyro.cli(main)
