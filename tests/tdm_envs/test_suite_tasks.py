"""The 28 tasks of a generalist: what is in the list, and that each can be played."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from dm_control import suite

import tdm_envs  # noqa: F401  (registers the environments)
from tdm_envs.suite_tasks import (
    GENERALIST,
    GENERALIST_WITH_POLES,
    TARGETS,
    TaskName,
    left_out_because,
    task_id,
)


def test_there_are_28_and_cartpole_is_not_among_them():
    assert len(set(GENERALIST)) == len(GENERALIST) == 28
    assert not [name for name in GENERALIST if name.domain == "cartpole"]
    poles = set(GENERALIST_WITH_POLES) - set(GENERALIST)
    assert poles == {("cartpole", "two_poles"), ("cartpole", "three_poles")}
    assert len(GENERALIST_WITH_POLES) == 30


def test_the_benchmark_tasks_of_dm_control_are_all_in_it_but_cartpoles():
    assert set(suite.BENCHMARKING) - set(GENERALIST) == set(TARGETS)


def test_every_task_of_the_suite_is_in_it_or_left_out_for_a_reason():
    chosen = set(GENERALIST_WITH_POLES) | set(TARGETS)
    for name in map(TaskName._make, suite.ALL_TASKS):
        assert (name in chosen) == (left_out_because(name) is None), name
    assert chosen <= set(suite.ALL_TASKS)


@pytest.mark.parametrize("name", [*GENERALIST_WITH_POLES, *TARGETS], ids="-".join)
def test_it_can_be_played(name):
    env = gym.make("tdm/Suite-v0", **name._asdict())
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert (info["domain"], info["task"]) == name
    assert env.spec.max_episode_steps == 1000
    for action in (env.action_space.low, env.action_space.high):
        observation, reward, terminated, truncated, _ = env.step(action)
        assert observation in env.observation_space
        assert 0 <= reward <= 1 and type(reward) is float
        assert not terminated and not truncated
    assert np.isfinite(env.action_space.low).all() and np.abs(env.action_space.high).max() <= np.float32(1.1)


def test_a_live_environment_tells_its_task():
    assert task_id(gym.make("tdm/Suite-v0", domain="walker", task="walk", variant=1)) == (
        "dm_control/walker-walk-v0"
    )
    assert task_id(gym.make("dm_control/walker-walk-v0")) == "dm_control/walker-walk-v0"
