"""No body explodes: walkers of every family and size, and the suite's tasks with and without variants.

Each plays 1000 steps of uniform actions and 1000 of bang-bang actions, every motor at either bound and held
for 10 steps. Environments raise :class:`PhysicsDivergedError` where MuJoCo gives up.
"""

import numpy as np
import pytest

from tdm_envs.suite_env import SuiteEnv
from tdm_envs.suite_tasks import GENERALIST_WITH_POLES, TARGETS
from tdm_envs.walkers import FAMILIES, MAX_DOF, MIN_DOF, WalkerEnv

STEPS = 1000
HOLD = 10  # steps
MAX_SPEED = 30.0  # m/s, of the root
MAX_RISE = 4.0  # m, of the root
MAX_HINGE_VELOCITY = 200.0  # rad/s
TASKS = (*GENERALIST_WITH_POLES, *TARGETS)

pytestmark = pytest.mark.slow  # three minutes on one core
each_kind = pytest.mark.parametrize("kind", ["random", "bang-bang"])


def wild_actions(space, kind, seed):
    """``STEPS`` actions of a kind."""
    rng = np.random.default_rng(seed)
    for step in range(STEPS):
        if kind == "random":
            action = rng.uniform(space.low, space.high).astype(np.float32)
        elif step % HOLD == 0:
            action = np.where(rng.integers(0, 2, space.shape) == 1, space.high, space.low)
        yield action


@each_kind
@pytest.mark.parametrize("body", range(3))
@pytest.mark.parametrize("family", FAMILIES)
def test_walkers_of_every_size_keep_within_what_a_body_can_do(family, body, kind):
    for dof in range(MIN_DOF, MAX_DOF + 1):
        env = WalkerEnv(family, dof, body)
        env.reset(seed=body)
        start = env.data.qpos[2]
        for action in wild_actions(env.action_space, kind, [dof, body]):
            env.step(action)
            assert np.linalg.norm(env.data.qvel[:3]) <= MAX_SPEED, dof
            assert env.data.qpos[2] - start <= MAX_RISE, dof
            assert np.abs(env.data.qvel[6:]).max() <= MAX_HINGE_VELOCITY, dof


@each_kind
@pytest.mark.parametrize("name", TASKS, ids=lambda name: f"{name.domain}-{name.task}")
def test_a_task_of_the_suite_and_its_variants_stay_finite(name, kind):
    for variant in (None, 0, 1, 2):
        env = SuiteEnv(*name, variant=variant, scale=None if variant is None else 1.4)
        seed = 0 if variant is None else 1 + variant
        env.reset(seed=seed)
        for action in wild_actions(env.action_space, kind, seed):
            observation, reward, *_ = env.step(action)
            assert np.isfinite(observation).all() and np.isfinite(reward), variant
