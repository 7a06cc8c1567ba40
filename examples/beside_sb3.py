"""Beside Stable-Baselines3: the same environment, the same ``evaluate_policy``, a policy and an agent.

python examples/beside_sb3.py    # a minute or two on an idle core

SB3's policies want observations as one vector, so the environment is wrapped in Gymnasium's
``FlattenObservation``. The agent's model was trained without it, and reads its observations all the same.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import tyro
from gymnasium.wrappers import FlattenObservation
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from tdm_agents import TDMAgent


def main(
    train_steps: int = 4096, max_steps: int = 250, episodes: int = 2, num_samples: int = 32, horizon: int = 25
) -> dict[str, float]:
    """Train PPO for a little while, and evaluate it and the shipped agent alike.

    PPO gets so few steps that it has hardly begun to learn; the agent's model was trained before.

    Args:
        train_steps: Environment steps of PPO.
        max_steps: Environment steps per episode.
        episodes: Episodes of each.
        num_samples: Candidates per iteration of the agent's planner.
        horizon: Decisions that it imagines ahead.

    Returns:
        The mean return of each.
    """

    def make() -> gym.Env[Any, Any]:
        env = gym.make("tdm_envs:dm_control/cartpole-swingup-v0", max_episode_steps=max_steps)
        monitored: gym.Env[Any, Any] = Monitor(FlattenObservation(env))
        return monitored

    n_steps = min(train_steps, 2048)
    ppo = PPO("MlpPolicy", make(), n_steps=n_steps, batch_size=min(n_steps, 64), seed=0, device="cpu")
    ppo.learn(train_steps)
    agent = TDMAgent.load("cartpole-swingup", seed=0, num_samples=num_samples, horizon=horizon)
    returns = {}
    for name, player in (("PPO", ppo), ("agent", agent)):
        mean, deviation = evaluate_policy(player, make(), n_eval_episodes=episodes)
        returns[name] = float(mean)
        print(f"{name:5} mean return {mean:.1f}, standard deviation {deviation:.1f}")
    return returns


if __name__ == "__main__":
    tyro.cli(main)
