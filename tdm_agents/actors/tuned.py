"""Planners on the true dynamics with settings tuned for a task: experts that need no training.

They were tuned on reset seeds from :data:`tdm_agents.collection.seeds.TUNING_FIRST` on and, for walkers, on
bodies of the train split; ``benchmarks/expert_walkers.py`` and ``benchmarks/expert_suite.py`` measure them on
others.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from tdm_agents.actors.behaviour import PlannerPolicy
from tdm_agents.actors.simulators import true_dynamics
from tdm_agents.agent import TDMAgent
from tdm_agents.environments import EnvRef
from tdm_agents.errors import UnknownNameError
from tdm_agents.protocols import Planner
from tdm_agents.registry import make_planner
from tdm_agents.world_models.simulator import SimulatorModel
from tdm_envs.walkers import FAMILIES


class UnknownExpertError(UnknownNameError):
    """There is no expert of that name, or for that environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """A planner on the true dynamics, with settings tuned for one task.

    Attributes:
        name: The expert's name.
        env_id: Gymnasium id of the task; for walkers the family, whatever the body.
        action_repeat: Environment steps per decision.
        settings: Settings of the planner; the others keep their defaults.
        planner: The planner's name.
        guide: Slope of what walkers' planners maximise where the reward is flat, see
            :class:`tdm_envs.walkers.task.WalkerTask`.
        noise_sds: For collection, the standard deviations of the noise on every action, of which each episode
            draws one; see :class:`tdm_agents.actors.behaviour.PlannerPolicy`.
    """

    name: str
    env_id: str
    action_repeat: int
    settings: Mapping[str, Any]
    planner: str = "mppi"
    guide: float = 0.0
    noise_sds: tuple[float, ...] = (0.0, 0.1, 0.3, 0.6)

    def make_planner(self) -> Planner:
        """The planner."""
        return make_planner(self.planner, **self.settings)

    def make_model(self, envs: list[gym.Env[Any, Any]], *, threads: int = 1) -> SimulatorModel:
        """The true dynamics of environments of the task, all of the same body."""
        return true_dynamics(action_repeat=self.action_repeat, threads=threads, guide=self.guide)(envs)

    def make_agent(self, env: gym.Env[Any, Any], *, seed: int = 0, threads: int = 1) -> TDMAgent:
        """An agent for one environment of the task."""
        return TDMAgent(self.make_model([env], threads=threads), self.make_planner(), seed=seed)

    def make_policy(self) -> PlannerPolicy:
        """The expert as a disturbed policy that collects data; its episodes have the expert's name.

        Collect with the expert's own :attr:`action_repeat`: the horizon is counted in decisions.
        """
        return PlannerPolicy(
            planner=self.planner,
            settings=self.settings,
            guide=self.guide,
            noise_sds=self.noise_sds,
            name=self.name,
        )


def expert(name: str) -> Expert:
    """The expert of that name.

    Raises:
        UnknownExpertError: If there is none; the message lists those there are.
    """
    if name not in EXPERTS:
        near = difflib.get_close_matches(name, EXPERTS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownExpertError(f"no expert {name!r}; {hint}there are {', '.join(EXPERTS)}")
    return EXPERTS[name]


def expert_for(env: EnvRef) -> Expert:
    """The expert for an environment, whatever its arguments.

    Raises:
        UnknownExpertError: If there is none; the message lists the environments that have one.
    """
    found = [one for one in EXPERTS.values() if one.env_id == env.id]
    if not found:
        known = ", ".join(one.env_id for one in EXPERTS.values())
        raise UnknownExpertError(f"no expert for {env.made_by!r}; there are some for {known}")
    return found[0]


def _walker(family: str) -> Expert:
    # the physics take the time. For the same time, many plans from few candidates earned more than fewer
    # plans from more candidates, and more than decisions that are held for longer
    settings = {
        "num_samples": 15,
        "horizon": 8,
        "iterations": 1,
        "noise_knots": 3,
        "initial_std": 0.7,
        "temperature": 0.3,
        "execute": "mean",
    }
    env_id = f"tdm/Walker{family.capitalize()}-v0"
    return Expert(name=f"walker-{family}", env_id=env_id, action_repeat=2, settings=settings, guide=0.3)


def _suite(task: str, action_repeat: int, **settings: Any) -> Expert:
    return Expert(name=task, env_id=f"dm_control/{task}-v0", action_repeat=action_repeat, settings=settings)


EXPERTS: Mapping[str, Expert] = {
    one.name: one
    for one in (
        *map(_walker, FAMILIES),
        _suite("cartpole-swingup", 4, horizon=25, num_samples=64, noise_beta=2.0, initial_std=0.5),
        _suite(
            "walker-stand",
            4,
            horizon=10,
            num_samples=24,
            iterations=1,
            noise_knots=4,
            initial_std=0.5,
            temperature=0.3,
            execute="mean",
        ),
        _suite(
            "humanoid-stand",
            2,
            horizon=16,
            num_samples=32,
            iterations=1,
            noise_knots=4,
            initial_std=0.5,
            temperature=0.3,
            execute="mean",
        ),
    )
}
"""By name."""
