"""An agent stays as it was over very many calls: memory is flat, and calls do not become slower.

The linear-quadratic point mass, planned for with a few candidates, in three loops, each in a process of its
own. What is compared are blocks of calls at the beginning and at the end; the very first blocks are left out,
because they fill caches, and the allocator takes its memory in steps of some MB.
"""

import gc
import resource
import statistics
import time
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tdm_agents import TDMAgent, make_planner
from tdm_agents.testing import LinearQuadraticModel

PLANNER = {"horizon": 3, "num_samples": 4, "iterations": 1, "num_elites": 2}
EPISODE_STEPS = (37, 53)  # in turns by environment, so that those of a vector environment end apart
BLOCK, BLOCKS = 1000, 21
EARLY, LATE = slice(5, 10), slice(-5, None)


class Remembering(LinearQuadraticModel):
    """The linear-quadratic model, given a history that is kept, and a time step of four environment steps."""

    @property
    def spec(self):
        return replace(super().spec, history_steps=8, action_repeat=4)


class Point(gym.Env):
    """The point mass as an environment."""

    observation_space = LinearQuadraticModel().spec.observation_space
    action_space = LinearQuadraticModel().spec.action_space

    def __init__(self, steps):
        self.steps = steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=2).astype(np.float32)
        self.left = self.steps
        return self.x.copy(), {}

    def step(self, action):
        speed = self.x[1] + 0.5 * float(action[0])
        self.x = np.array([self.x[0] + 0.5 * speed, speed], np.float32)
        self.left -= 1
        return self.x.copy(), -float(self.x @ self.x), False, self.left == 0, {}


def act(agent):
    """A plain loop with resets."""
    env = Point(EPISODE_STEPS[0])
    env.reset(seed=0)
    while True:
        obs, _ = env.reset()
        agent.reset()
        done, reward = False, None
        while not done:
            obs, reward, terminated, truncated, _ = env.step(agent.act(obs, reward=reward))
            done = terminated or truncated
            yield


def predict(agent):
    """A loop that hands `predict` its state, over all episodes."""
    env = Point(EPISODE_STEPS[0])
    obs, _ = env.reset(seed=0)
    state, start = None, True
    while True:
        action, state = agent.predict(obs, state, start, deterministic=True)
        obs, _, terminated, truncated, _ = env.step(action)
        start = terminated or truncated
        if start:
            obs, _ = env.reset()
        yield


def attached(agent):
    """`act` in an attached vector environment."""
    makers = [partial(Point, steps) for steps in EPISODE_STEPS]
    env = agent.attach(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP))
    obs, _ = env.reset(seed=0)
    while True:
        obs, *_ = env.step(agent.act(obs))
        yield


LOOPS = {loop.__name__: loop for loop in (act, predict, attached)}


def growth_and_slowdown(name):
    """From the early to the late blocks: MB of resident memory, Python objects, and a factor of CPU time."""
    torch.set_num_threads(1)
    calls = LOOPS[name](TDMAgent(Remembering(), make_planner("cem", **PLANNER), seed=0))
    megabytes, objects, seconds = [], [], []
    for _ in range(BLOCKS):
        began = time.process_time()
        for _ in range(BLOCK):
            next(calls)
        seconds.append(time.process_time() - began)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        megabytes.append(pages * resource.getpagesize() / 1e6)
        objects.append(len(gc.get_objects()))
    first, last = (
        [statistics.median(found[part]) for found in (megabytes, objects, seconds)] for part in (EARLY, LATE)
    )
    return last[0] - first[0], last[1] - first[1], last[2] / first[2]


@pytest.mark.slow  # a minute and a half together
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("name", LOOPS)
def test_an_agent_does_not_grow_or_slow_down(name):
    with get_context("spawn").Pool(1) as pool:
        megabytes, objects, slower = pool.apply(growth_and_slowdown, (name,))
    assert megabytes < 8.0  # half a KB per call
    assert objects < 100
    assert slower < 1.5  # processor time, which a busy machine disturbs, if less than the clock
