"""What every environment under ``tdm/`` keeps, in the manner of dm_control's tests of its suite."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import tdm_envs  # noqa: F401  (registers the environments)

# tdm/Pixels-v0 is of another environment, which it has to be told; it has tests of its own
IDS = sorted(env_id for env_id in gym.registry if env_id.startswith("tdm/") and "Pixels" not in env_id)
WALKERS = ["tdm/WalkerBush-v0", "tdm/WalkerChain-v0", "tdm/WalkerLine-v0", "tdm/WalkerTree-v0"]
SIZES = [{"dof": dof, "body": body} for dof, body in [(4, 1), (11, 2), (20, 3)]]
SUITE = [
    {"domain": "finger", "task": "turn_hard"},  # observes a goal that never changes
    {"domain": "walker", "task": "walk", "variant": 3},  # another length of each leg
    {"domain": "reacher", "task": "hard", "variant": "redraw"},  # its reset also writes the model
    {"domain": "quadruped", "task": "run", "variant": 2},  # observes forces and accelerations
]
SETTINGS = {"tdm/Suite-v0": SUITE} | dict.fromkeys(WALKERS, SIZES)


def cases(settings):
    return [
        pytest.param(env_id, kwargs, id="-".join([env_id, *map(str, kwargs.values())]))
        for env_id in IDS
        for kwargs in settings.get(env_id, [{}])
    ]


every_environment = pytest.mark.parametrize(("env_id", "kwargs"), cases(SETTINGS))


def random_actions(env, count, seed=0):
    rng = np.random.default_rng(seed)
    space = env.action_space
    return rng.uniform(space.low, space.high, (count, *space.shape)).astype(space.dtype)


def bang_bang(env, count, hold=10):
    """Actions at either bound, each held for a while: the hardest that an agent can drive a body."""
    rng = np.random.default_rng(1)
    space = env.action_space
    high = rng.integers(0, 2, (count // hold, *space.shape)).astype(bool).repeat(hold, axis=0)
    return np.where(high, space.high, space.low)


def play(env, actions, seed=5):
    observation, info = env.reset(seed=seed)
    steps = [env.step(action) for action in actions]
    return [observation, *(step[0] for step in steps)], [step[1:] for step in steps], info


def test_there_is_something_to_test():
    assert set(SETTINGS) <= set(IDS)


@every_environment
def test_gymnasium_and_stable_baselines3_approve(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        # there is no bound for velocities
        warnings.filterwarnings("ignore", message=".*Box observation space (max|min)imum value is")
        # quadruped's servos have other bounds than -1 and 1
        warnings.filterwarnings("ignore", message=".*symmetric and normalized")
        check_env(env.unwrapped, skip_render_check=True)
        sb3_check_env(env, skip_render_check=True)


@every_environment
def test_the_same_seed_is_the_same_episode(env_id, kwargs):
    one, other = gym.make(env_id, **kwargs), gym.make(env_id, **kwargs)
    actions = random_actions(one, 50)
    first = play(one, actions)
    for again in (play(other, actions), play(one, actions)):  # another instance; after an episode
        assert all(np.array_equal(a, b) for a, b in zip(first[0], again[0], strict=True))
        assert first[1:] == again[1:]


@every_environment
def test_another_seed_is_another_start_and_no_seed_goes_on(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    starts = [env.reset(seed=seed)[0] for seed in (0, 1)] + [env.reset()[0], env.reset()[0]]
    assert len({start.tobytes() for start in starts}) == 4


@every_environment
def test_returned_arrays_are_the_callers_own(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    observations, _, _ = play(env, random_actions(env, 5))
    kept = copy.deepcopy(observations)
    for observation in observations:
        assert not any(np.shares_memory(observation, o) for o in observations if o is not observation)
    env.step(env.action_space.high)
    assert all(np.array_equal(a, b) for a, b in zip(kept, observations, strict=True))
    for observation in observations:
        observation[:] = 7  # writing to them changes no episode
    again, _, _ = play(env, random_actions(env, 5))
    assert all(np.array_equal(a, b) for a, b in zip(kept, again, strict=True))


@every_environment
def test_actions_are_not_written_to(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    env.reset(seed=0)
    action = env.action_space.high.copy()
    env.step(action)
    assert np.array_equal(action, env.action_space.high)


# an ant on its back ends the episode, and its rewards are speeds
@pytest.mark.parametrize(
    ("env_id", "kwargs"), [case for case in cases(SETTINGS) if case.values[0] != "tdm/AntPoints-v0"]
)
def test_bang_bang_actions_stay_finite_and_move_every_observation_scalar(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    observations, steps, _ = play(env, bang_bang(env, 1000))
    seen = np.stack(observations)
    assert np.isfinite(seen).all()
    assert all(np.isfinite(reward) and 0 <= reward <= 1 for reward, *_ in steps)
    assert [truncated for _, _, truncated, _ in steps] == [False] * 999 + [True]
    constant = {i for i in range(seen.shape[1]) if np.ptp(seen[:, i]) == 0}
    assert constant == set(getattr(env.unwrapped, "constant_observations", ()))


@every_environment
def test_a_restored_state_continues_to_the_last_bit(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    actions = random_actions(env, 60)
    play(env, actions[:30])
    inner = env.unwrapped
    state = inner.state()
    first = [inner.step(action)[:2] for action in actions[30:]]
    other = gym.make(env_id, **kwargs).unwrapped  # a fresh one that was never reset
    for again in (inner, other):
        again.restore(state)
        second = [again.step(action)[:2] for action in actions[30:]]
        assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(lambda env: pickle.loads(pickle.dumps(env)), id="pickle"),
    ],
)
@every_environment
def test_a_copy_continues_the_episode_apart_from_the_original(env_id, kwargs, copied):
    env = gym.make(env_id, **kwargs)
    actions = random_actions(env, 80)
    play(env, actions[:50])
    twin = copied(env)
    before = twin.unwrapped.state()
    first = [env.step(action) for action in actions[50:]]
    assert np.array_equal(twin.unwrapped.state(), before)  # the original's steps were not its own
    second = [twin.step(action) for action in actions[50:]]
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one[0], other[0])
        assert one[1:] == other[1:]
    assert np.array_equal(env.unwrapped.state(), twin.unwrapped.state())
    assert not np.shares_memory(env.unwrapped.data.qpos, twin.unwrapped.data.qpos)
    assert not np.shares_memory(env.unwrapped.model.body_mass, twin.unwrapped.model.body_mass)
    assert np.array_equal(env.reset()[0], twin.reset()[0])  # their generators went on alike


@pytest.mark.parametrize("vector", [SyncVectorEnv, partial(AsyncVectorEnv, context="fork")])
@pytest.mark.parametrize(("env_id", "kwargs"), cases({"tdm/Suite-v0": SUITE[2:3]}))
def test_vector_environments_equal_single_ones(env_id, kwargs, vector):
    kwargs = {**kwargs, "max_episode_steps": 12}
    singles = [gym.make(env_id, **kwargs) for _ in range(2)]
    batch = vector([partial(gym.make, env_id, **kwargs)] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    try:
        observed, _ = batch.reset(seed=[3, 4])
        alone = [env.reset(seed=seed)[0] for env, seed in zip(singles, (3, 4), strict=True)]
        assert np.array_equal(observed, np.stack(alone))
        actions = np.stack([random_actions(singles[0], 20, seed) for seed in (0, 1)], axis=1)
        for t, action in enumerate(actions):
            observed, rewards, _, truncated, _ = batch.step(action)
            if t == 12:  # the step after the end resets, whatever the action
                expected = [(env.reset()[0], 0.0, False) for env in singles]
            else:
                steps = [env.step(a) for env, a in zip(singles, action, strict=True)]
                expected = [(step[0], step[1], step[3]) for step in steps]
            assert np.array_equal(observed, np.stack([e[0] for e in expected]))
            assert rewards.tolist() == [e[1] for e in expected]
            assert truncated.tolist() == [e[2] for e in expected]
    finally:
        batch.close()
