"""Does a model tell good plans from bad ones, from one and the same state?

A planner needs no more than that, and prediction errors do not say it: most of what they measure is shared by
all plans. On walkers that the generalist was not trained on, random smooth plans are imagined and played for
real from states of an episode. Reported is the correlation of predicted and true returns among the plans of
a state, by the length of the plans, averaged over states; and beside it that over all plans of all states,
which is what a look at recorded data would find.

    python benchmarks/plan_ranking.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import tyro

import keep
from tdm_agents import TDMAgent
from tdm_agents.agent.agent_files import resolve
from tdm_agents.environments import EnvRef
from tdm_agents.protocols import History
from tdm_agents.studies.walker_data import walkers

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Settings:
    """Whose plans, where, and how many."""

    agent: str = "walkers"
    """Name or folder of a generalist of walkers."""
    families: tuple[str, ...] = ("chain", "line", "bush", "tree")
    """Families of the walkers."""
    bodies: int = 2
    """Unseen bodies of each family."""
    dof: tuple[int, int] = (5, 10)
    """Fewest and most hinges."""
    states: int = 8
    """States per body, every twelve decisions of an episode of random smooth actions."""
    plans: int = 32
    """Plans per state."""
    horizons: tuple[int, ...] = (1, 2, 4, 8)
    """Decisions of a plan."""
    seed: int = 0
    """Seed of actions, plans and the model's draws."""
    out: Path = Path("benchmarks/results/plan_ranking.json")
    """Where to keep the result."""


EVERY = 12
"""Decisions between two states."""
REPEAT = 2
"""Environment steps per decision."""


def main(settings: Settings) -> None:
    """Measure, print and keep."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(settings.seed)
    every = [
        one
        for family in settings.families
        for env in walkers((family,), settings.bodies, "test", 1, settings.dof)
        for one in on_body(settings, env, rng)
    ]
    found = {}
    for horizon in settings.horizons:
        sums = [(predicted[:, :horizon].sum(1), true[:, :horizon].sum(1)) for predicted, true in every]
        within = [correlation(*one) for one in sums if np.std(one[1]) > 0]
        together = correlation(*(np.concatenate(each) for each in zip(*sums, strict=True)))
        found[str(horizon)] = {
            "within_states": float(np.mean(within)),
            "over_all": together,
            "states": len(within),
        }
        print(f"{horizon} decisions: {np.mean(within):.2f} within states, {together:.2f} over all")
    weights = resolve(settings.agent) / "weights.safetensors"
    keep.result(settings.out, settings, weights=weights, correlation=found)


def on_body(settings: Settings, ref: EnvRef, rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """Predicted and true rewards ``[K, H]`` of plans from states of an episode."""
    env: Any = ref.make()
    model = TDMAgent.load(settings.agent, env=env).base_model
    walker, horizon = env.unwrapped, max(settings.horizons)
    observation, _ = env.reset(seed=settings.seed)
    observations, rewards, actions = [observation], [np.nan], []
    action, found = np.zeros(env.action_space.shape), []
    for decision in range(1, EVERY * settings.states + 1):
        action = np.clip(0.7 * action + 0.7 * rng.normal(size=action.shape), -1.0, 1.0)
        observation, reward = decide(walker, action)
        observations.append(observation)
        rewards.append(reward)
        actions.append(action)
        if decision % EVERY == 0:
            plans = smooth(rng, settings.plans, horizon, len(action))
            state = walker.state()
            true = np.zeros((settings.plans, horizon))
            for number, plan in enumerate(plans):
                walker.restore(state)
                true[number] = [decide(walker, one)[1] for one in plan]
            walker.restore(state)
            history = recorded(observations, rewards, actions, model.spec.history_steps)
            found.append((imagined(model, history, plans, settings.seed), true))
    env.close()
    return found


def decide(walker: Any, action: Array) -> tuple[Array, float]:
    """Hold an action for a decision; the observation after it, and the sum of rewards."""
    total = 0.0
    for _ in range(REPEAT):
        observation, reward, *_ = walker.step(np.asarray(action, np.float32))
        total += reward
    return observation, total


def smooth(rng: np.random.Generator, plans: int, horizon: int, dof: int) -> Array:
    """Plans ``[K, H, m]`` through three random knots, as the tuned planner of walkers draws them."""
    knots: Array = 0.7 * rng.normal(size=(plans, 3, dof))
    at = np.linspace(0.0, 2.0, horizon)
    low = np.minimum(at.astype(int), 1)
    part = (at - low)[None, :, None]
    plan: Array = np.clip((1 - part) * knots[:, low] + part * knots[:, low + 1], -1.0, 1.0)
    return plan.astype(np.float32)


def recorded(observations: list[Array], rewards: list[float], actions: list[Array], most: int) -> History:
    """The last steps of an episode as a history of one row."""
    steps = min(most, len(observations))
    tensors = [np.array(observations[-steps:]), np.array(rewards[-steps:]), np.array(actions[1 - steps :])]
    observation, reward, action = (torch.tensor(t, dtype=torch.float32, device="cpu")[None] for t in tensors)
    return History(observation, reward, action, torch.tensor([steps], device="cpu"))


@torch.no_grad()
def imagined(model: Any, history: History, plans: Array, seed: int) -> Array:
    """Rewards ``[K, H]`` that the model predicts."""
    rows = torch.zeros(len(plans), dtype=torch.int64, device="cpu")
    state = model.take(model.start(history, horizon=plans.shape[1]), rows)
    generator = torch.Generator("cpu").manual_seed(seed)
    rewards: Array = model.rollout(state, torch.from_numpy(plans), generator=generator).reward.numpy()
    return rewards


def correlation(predicted: Array, true: Array) -> float:
    """Pearson's correlation; 0 where all predictions are the same."""
    return float(np.corrcoef(predicted, true)[0, 1]) if np.std(predicted) > 0 else 0.0


if __name__ == "__main__":
    main(tyro.cli(Settings))
