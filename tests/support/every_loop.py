"""Loops in which an agent acts, as a reader would write them, and environments that keep their actions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.environments import make_env
from tdm_agents.evaluation.episodes import evaluate

ENV_ID = "dm_control/cartpole-swingup-v0"


class Course(gym.Wrapper):
    """An environment that begins each episode according to its number, and keeps the actions it executes.

    Args:
        row: Index of the environment.
        steps: Environment steps per episode.

    Attributes:
        episodes: The actions of each episode.
        whole: Number of episodes that are over.
    """

    looks_on = True  # the simulator may look through it

    def __init__(self, row, steps):
        super().__init__(gym.wrappers.TimeLimit(make_env(ENV_ID), steps))
        self.row = row
        self.restart()

    def restart(self):
        """Go back to before the first episode, with nothing kept."""
        self.whole = 0
        self.episodes = []

    def reset(self, *, seed=None, options=None):
        """Begin the next episode, whatever ``seed`` is."""
        seed = EVALUATION_FIRST + 100 * self.row + len(self.episodes)
        self.episodes.append([])
        return self.env.reset(seed=seed, options=options)

    def step(self, action):
        """Execute the action and keep it."""
        self.episodes[-1].append(np.array(action))
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.whole += int(terminated or truncated)
        return obs, reward, terminated, truncated, info

    def close(self):
        """Do nothing: other loops play here after one that closes its environments."""


def plain_loop(agent, courses, episodes, *, rewards):
    """A loop over one environment, which tells the agent only where episodes begin, and rewards."""
    (env,) = courses
    for _ in range(episodes):
        obs, _ = env.reset()
        agent.reset()
        done, reward = False, None
        while not done:
            action = agent.act(obs, reward=reward if rewards else None)
            obs, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated


def attached_plain_loop(agent, courses, episodes):
    """A loop over one environment, which tells the agent everything."""
    env = agent.attach(courses[0])
    for _ in range(episodes):
        obs, _ = env.reset()
        done = False
        while not done:
            obs, _, terminated, truncated, _ = env.step(agent.act(obs))
            done = terminated or truncated


def vector_loop(agent, courses, episodes, *, mode, rewards):
    """A loop over a vector environment, whose caller tells the agent what happened."""
    env, count = vector(courses, mode), len(courses)
    obs, _ = env.reset()
    agent.reset()
    reward, before, done = np.full(count, np.nan), np.zeros(count, bool), np.zeros(count, bool)
    while any(course.whole < episodes for course in courses):
        told = {"reward": reward} if rewards else {}
        if mode is AutoresetMode.NEXT_STEP:
            told |= {"episode_start": before, "active": ~done}
        elif mode is AutoresetMode.SAME_STEP:
            told |= {"episode_start": done}
        actions = agent.act(obs, **told)
        obs, reward, terminated, truncated, _ = env.step(actions)
        before, done = done, terminated | truncated
        if mode is AutoresetMode.DISABLED and done.any():
            obs, _ = env.reset(options={"reset_mask": done.copy()})
            agent.reset(mask=done)


def attached_vector_loop(agent, courses, episodes, *, mode):
    """A loop over a vector environment, which tells the agent what happened."""
    env = agent.attach(vector(courses, mode))
    obs, _ = env.reset()
    while any(course.whole < episodes for course in courses):
        obs, _, terminated, truncated, _ = env.step(agent.act(obs))
        done = terminated | truncated
        if mode is AutoresetMode.DISABLED and done.any():
            obs, _ = env.reset(options={"reset_mask": done})


def predict_loop(agent, courses, episodes):
    """A loop over SB3's ``VecEnv``."""
    env = DummyVecEnv([partial(_itself, course) for course in courses])
    obs, state, start = env.reset(), None, np.ones(len(courses), bool)
    while any(course.whole < episodes for course in courses):
        actions, state = agent.predict(obs, state, start, deterministic=True)
        obs, _, start, _ = env.step(actions)


def sb3_evaluation(agent, courses, episodes):
    """SB3's own evaluation."""
    env = DummyVecEnv([partial(_itself, course) for course in courses])
    evaluate_policy(agent, env, n_eval_episodes=episodes * len(courses), warn=False)


def own_evaluation(agent, courses, episodes):
    """``tdm_agents.evaluate``, which plays one episode per environment."""
    rest = iter(courses)
    evaluate(agent, lambda: next(rest), [EVALUATION_FIRST] * len(courses), seed=None)


def vector(courses, mode):
    """The courses as one vector environment."""
    return SyncVectorEnv([partial(_itself, course) for course in courses], autoreset_mode=mode)


def _itself(course):
    return course


@dataclass(frozen=True)
class Loop:
    """A way in which an agent acts.

    Attributes:
        name: Name of the loop.
        mode: Autoreset mode, where there is one.
        rewards: Whether the agent is told rewards.
        play: The function that runs the loop.
        single: Whether it takes only one environment.
    """

    name: str
    mode: str
    rewards: bool
    play: Callable
    single: bool = False


def loops():
    """All ways in which an agent acts."""
    for rewards in (False, True):
        yield Loop("act, plain loop", "", rewards, partial(plain_loop, rewards=rewards), single=True)
        for mode in AutoresetMode:
            by_hand = partial(vector_loop, mode=mode, rewards=rewards)
            yield Loop("act, vector loop", mode.name, rewards, by_hand)
    yield Loop("predict, VecEnv loop", "", False, predict_loop)
    yield Loop("evaluate_policy", "", False, sb3_evaluation)
    yield Loop("attach, plain loop", "", True, attached_plain_loop, single=True)
    for mode in AutoresetMode:
        yield Loop("attach, vector loop", mode.name, True, partial(attached_vector_loop, mode=mode))
    yield Loop("evaluate", "", True, own_evaluation)
