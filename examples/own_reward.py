"""One model, three behaviours: a reward function is chosen when the agent plans, not when the model learns.

python examples/own_reward.py    # a minute or two on an idle core
"""

import gymnasium as gym
import numpy as np
import tyro
from torch import Tensor

from tdm_agents import TDMAgent

POSITION, UPRIGHT, SPIN = 0, 1, 4  # columns: cart's position (m), cosine and velocity (rad/s) of the pole


def swing_up(observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
    """Reward for an upright pole."""
    return next_observation[:, UPRIGHT]


def wait_on_the_left(observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
    """Reward for a cart one metre to the left, and a pole that hangs."""
    return -(next_observation[:, POSITION] + 1.0).abs() - next_observation[:, UPRIGHT]


def spin(observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
    """Reward for a pole that turns fast, one way."""
    return next_observation[:, SPIN]


def main(steps: int = 250, num_samples: int = 32, horizon: int = 25) -> dict[str, float]:
    """Ask the shipped model for each behaviour, and print what the last second looks like.

    Args:
        steps: Environment steps of each episode, of 0.01 s.
        num_samples: Candidates per iteration of the planner.
        horizon: Decisions that it imagines ahead, of 0.04 s.

    Returns:
        The mean of what each behaviour is about, over the last 100 steps.
    """
    env = gym.make("tdm_envs:dm_control/cartpole-swingup-v0")
    shipped = TDMAgent.load("cartpole-swingup", num_samples=num_samples, horizon=horizon)
    reached = {}
    for reward, column in ((swing_up, UPRIGHT), (wait_on_the_left, POSITION), (spin, SPIN)):
        agent = TDMAgent(shipped.base_model, shipped.planner, seed=0, reward_function=reward)
        obs, _ = env.reset(seed=0)
        agent.reset()
        seen = []
        for _ in range(steps):
            obs, *_ = env.step(agent.act(obs))
            seen.append(agent.observation(obs).tolist())  # flat, as reward functions see it
        last = np.mean(seen[-100:], axis=0)
        reached[reward.__name__] = float(last[column])
        print(
            f"{reward.__name__:16}  cart at {last[POSITION]:5.2f} m, "
            f"cosine of the pole {last[UPRIGHT]:5.2f}, velocity {last[SPIN]:5.1f} rad/s"
        )
    env.close()
    return reached


if __name__ == "__main__":
    tyro.cli(main)
