"""The agent where ``policy(obs)`` stood: the loop is Gymnasium's own, and one line of it is ours.

python examples/drop_in.py                   # a whole episode: about a minute on an idle core
python examples/drop_in.py --max-steps 100   # its beginning
"""

import gymnasium as gym
import tyro

from tdm_agents import TDMAgent


def main(max_steps: int = 1000, num_samples: int = 32, horizon: int = 25, seed: int = 0) -> float:
    """Swing up a pole with the shipped checkpoint, and return the sum of the rewards.

    Args:
        max_steps: Environment steps after which the episode is cut.
        num_samples: Candidates per iteration of the planner.
        horizon: Decisions that it imagines ahead.
        seed: Of the episode and of the agent.
    """
    env = gym.make("tdm_envs:dm_control/cartpole-swingup-v0", max_episode_steps=max_steps)
    agent = TDMAgent.load("cartpole-swingup", seed=seed, num_samples=num_samples, horizon=horizon)

    (obs, _), done, total = env.reset(seed=seed), False, 0.0
    agent.reset()
    while not done:
        obs, reward, terminated, truncated, _ = env.step(agent.act(obs))
        total += float(reward)
        done = terminated or truncated
    env.close()
    print(f"return {total:.1f} within {max_steps} environment steps")
    return total


if __name__ == "__main__":
    tyro.cli(main)
