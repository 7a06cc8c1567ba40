"""The walker environment: its start, reward, observation, failures and what it needs to run."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import tdm_envs  # noqa: F401  (registers the walkers)
from tdm_envs.walkers import FAMILIES, PhysicsDivergedError
from tdm_envs.walkers.env import RESET_ANGLE, RESET_CLEARANCE
from tdm_envs.walkers.observation import observation_scalars, observe


def make(family="tree", dof=9, body=2, **kwargs):
    return gym.make(f"tdm/Walker{family.capitalize()}-v0", dof=dof, body=body, **kwargs)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_episode_begins_just_above_the_floor_heading_along_x_and_near_rest(family):
    env = make(family, 14)
    observation, info = env.reset(seed=3)
    walker = env.unwrapped
    mujoco.mj_forward(walker.model, walker.data)
    assert walker.data.ncon == 0
    walker.data.qpos[2] -= 2 * RESET_CLEARANCE
    mujoco.mj_forward(walker.model, walker.data)
    assert walker.data.ncon > 0
    assert observation[1:7].tolist() == [1, 0, 0, 0, 0, 1]  # upright, x ahead
    assert np.abs(observation[13 : 13 + 14]).max() <= RESET_ANGLE
    assert info == {
        "family": family,
        "dof": 14,
        "body": 2,
        "structure": walker.body.structure_hash(),
    }


def test_the_reward_is_one_at_one_metre_a_second_and_falls_linearly():
    env = make().unwrapped
    env.reset(seed=0)
    for speed, expected in [(1.0, 1.0), (0.4, 0.4), (1.7, 0.3), (-0.5, 0.0), (2.5, 0.0)]:
        env.reset(seed=0)
        env.model.opt.gravity[:] = 0
        env.data.qpos[2], env.data.qvel[:], env.data.qvel[0] = 9.0, 0.0, speed
        held = env.data.qpos[7:] / np.pi * 3
        _, reward, _, _, info = env.step(held.astype(np.float32))  # in free flight, at rest in itself
        assert info["velocity"] == pytest.approx(speed, abs=1e-3)
        assert reward == pytest.approx(expected, abs=1e-3)


def test_the_velocity_is_that_of_the_whole_bodys_centre_of_mass():
    env = make(dof=12).unwrapped
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        *_, info = env.step(rng.uniform(-1, 1, 12).astype(np.float32))
    before = env.data.subtree_com[0, 0]
    env.data.time, step = 0.0, env.model.opt.timestep
    env.model.opt.timestep = 1e-6
    mujoco.mj_step(env.model, env.data)
    mujoco.mj_kinematics(env.model, env.data)
    mujoco.mj_comPos(env.model, env.data)
    env.model.opt.timestep = step
    assert (env.data.subtree_com[0, 0] - before) / 1e-6 == pytest.approx(info["velocity"], abs=1e-3)


def test_observations_are_described_scalar_by_scalar_and_equal_mujocos_own_quantities():
    env = make(dof=9).unwrapped
    env.reset(seed=1)
    rng = np.random.default_rng(1)
    for _ in range(30):
        observation = env.step(rng.uniform(-1, 1, 9).astype(np.float32))[0]
    scalars = observation_scalars(9)
    assert env.observation_names == tuple(s.name for s in scalars)
    assert len(set(env.observation_names)) == len(observation) == 13 + 18
    assert all(s.unit and s.frame for s in scalars)
    value = dict(zip(env.observation_names, observation, strict=True))
    body, rotation = env.data.body("limb0"), env.data.body("limb0").xmat.reshape(3, 3)
    velocity = np.empty(6)
    root = env.model.body("limb0").id
    # local frame of the body's centre; shift to its start, whose velocity is observed
    mujoco.mj_objectVelocity(env.model, env.data, mujoco.mjtObj.mjOBJ_XBODY, root, velocity, 1)
    assert value["root_height"] == pytest.approx(body.xpos[2], abs=1e-6)
    for i, axis in enumerate("xyz"):
        assert value[f"root_{axis}_axis_x"] == pytest.approx(rotation[0, i], abs=1e-6)
        assert value[f"root_{axis}_axis_z"] == pytest.approx(rotation[2, i], abs=1e-6)
        assert value[f"root_angular_velocity_{axis}"] == pytest.approx(velocity[i], abs=1e-5)
        assert value[f"root_velocity_{axis}"] == pytest.approx(velocity[3 + i], abs=1e-5)
    for i in range(1, 10):
        assert value[f"hinge{i}_angle"] == pytest.approx(env.data.joint(f"hinge{i}").qpos[0], abs=1e-6)
        assert value[f"hinge{i}_velocity"] == pytest.approx(env.data.joint(f"hinge{i}").qvel[0], abs=1e-5)


def test_a_state_is_observed_the_same_to_the_last_bit_alone_and_in_a_batch():
    rng = np.random.default_rng(0)
    qpos, qvel = rng.normal(size=(3, 5, 15)), rng.normal(size=(3, 5, 14))
    batch = observe(qpos, qvel)
    assert batch.shape == (3, 5, 13 + 16)
    assert all(np.array_equal(batch[i], observe(qpos[i], qvel[i])) for i in np.ndindex(3, 5))


def test_an_episode_lasts_1000_steps_and_a_step_a_fortieth_of_a_second():
    env = make(dof=4)
    assert env.spec.max_episode_steps == 1000
    assert env.unwrapped.dt == pytest.approx(0.025)
    assert env.metadata["render_fps"] == 40


def test_physics_that_diverge_raise_and_a_reset_mends_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT where it is
    env = make().unwrapped
    env.reset(seed=0)
    env.data.qvel[:] = 1e12
    with pytest.raises(PhysicsDivergedError, match=r"tree walker with 9 degrees of freedom, body 2.*BADQVEL"):
        env.step(np.zeros(9, np.float32))
    env.reset(seed=0)
    assert np.isfinite(env.step(np.zeros(9, np.float32))[0]).all()


def test_a_copy_notices_when_its_own_physics_diverge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = make().unwrapped
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    twin.data.qvel[:] = 1e12
    with pytest.raises(PhysicsDivergedError):
        twin.step(np.zeros(9, np.float32))
    assert np.isfinite(env.step(np.zeros(9, np.float32))[0]).all()


def test_the_model_of_a_copy_is_the_one_that_its_data_are_of():
    env = make().unwrapped
    twin = copy.deepcopy(env)
    assert twin.model is twin.data.model
    assert twin.model is not env.model


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(8), r"action has shape \(8,\); expected \(9,\)"),
        (np.full(9, np.nan), "expected finite numbers"),
    ],
)
def test_a_wrong_action_is_refused(action, message):
    env = make().unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_a_state_of_another_body_is_refused():
    state = make(dof=8).unwrapped.state()
    with pytest.raises(ValueError, match=r"state has shape .* body 2 has states of shape"):
        make(dof=9).unwrapped.restore(state)


def test_a_state_that_is_not_finite_is_refused_and_the_episode_goes_on():
    env = make(dof=9).unwrapped
    env.reset(seed=0)
    state = env.state()
    broken = state.copy()
    broken[5] = np.nan
    with pytest.raises(ValueError, match=r"state\[5\] is nan; expected finite numbers: restore a state from"):
        env.restore(broken)
    assert np.array_equal(env.state(), state)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dof": 21}, "dof is 21; expected an integer from 4 to 20"),
        ({"body": -3}, "body is -3"),
        ({"width": 0}, "width is 0; expected an integer of at least 1"),
        ({"height": -240}, "height is -240; expected an integer of at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_an_id_makes_its_own_family_only():
    message = r"family is 'line'; expected 'tree', which the id says already: .*tdm/WalkerLine-v0"
    with pytest.raises(ValueError, match=message):
        gym.make("tdm/WalkerTree-v0", family="line")
    assert gym.make("tdm/WalkerTree-v0", family="tree").unwrapped.body.key.family == "tree"


def test_an_unknown_render_mode_is_refused():
    with pytest.raises(ValueError, match="render_mode is 'ascii'"):
        tdm_envs_walker(render_mode="ascii")


def tdm_envs_walker(**kwargs):
    from tdm_envs.walkers import WalkerEnv

    return WalkerEnv("line", **kwargs)


def test_walkers_run_where_dm_control_shimmy_and_torch_are_not_installed():
    script = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('dm_control', 'shimmy', 'torch', 'tdm_agents'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import gymnasium as gym\n"
        "env = gym.make('tdm_envs:tdm/WalkerChain-v0', dof=5, body=1)\n"
        "env.reset(seed=0)\n"
        "env.step(env.action_space.sample())\n"
        "foreign = ('dm_control', 'shimmy', 'torch', 'tdm_agents')\n"
        "assert not [name for name in foreign if name in sys.modules]\n"
        "print('walked')\n"
    )
    environment = {**os.environ, "MUJOCO_GL": "disable"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout == "walked\n", done.stderr


def test_the_body_is_in_the_middle_of_the_first_frame_and_of_a_later_one():
    script = (
        "import gymnasium as gym, numpy as np\n"
        "size = {'render_mode': 'rgb_array', 'width': 160, 'height': 120}\n"
        "env = gym.make('tdm_envs:tdm/WalkerTree-v0', dof=8, **size)\n"
        "env.reset(seed=0)\n"
        "for _ in range(2):\n"
        "    frame = env.render().astype(int)\n"
        "    blue = frame[..., 2] - frame[..., 0] > 60\n"
        "    rows, columns = np.nonzero(blue)\n"
        "    print(frame.shape, blue.mean() > 0.01, *np.abs([rows.mean() - 60, columns.mean() - 80]) < 25)\n"
        "    for _ in range(100):\n"
        "        env.step(env.action_space.high)\n"
        "env.close()\n"
    )
    environment = {**os.environ, "MUJOCO_GL": "egl"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120
    )
    if "OpenGL" in done.stderr or "GLContext" in done.stderr:
        pytest.skip("no EGL on this machine")
    assert done.stdout.splitlines() == ["(120, 160, 3) True True True"] * 2, done.stderr
