"""Variants: which constants are drawn, that they take effect, and that planning and rewards stay right."""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "disable")

from functools import cache

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tdm_envs  # noqa: F401  (registers the environments)
from tdm_agents import TDMAgent, make_planner
from tdm_agents.protocols import History
from tdm_agents.spaces import ActionCodec
from tdm_agents.world_models.simulator import SimulatorModel
from tdm_envs.rewards import reward_function, reward_function_of
from tdm_envs.suite_env import SuiteEnv
from tdm_envs.suite_lengths import LENGTH_DOMAINS, lengthened_model
from tdm_envs.suite_variants import GROUPS, MAX_VARIANT, draw_factors, varied_model
from tdm_envs.tasks import batched_task_of

TASK_OF = {
    "acrobot": "swingup",
    "cartpole": "three_poles",
    "cheetah": "run",
    "hopper": "hop",
    "humanoid": "stand",
    "pendulum": "swingup",
    "walker": "walk",
}
IN_PLACE = tuple(group for group in GROUPS if group != "length")


def make(domain, task, **kwargs):
    return gym.make("tdm/Suite-v0", domain=domain, task=task, **kwargs)


@cache
def nominal(domain, task):
    return SuiteEnv(domain, task).model


def arrays(model):
    found = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def flat(factors):
    return {(group, name): value for group, drawn in factors.items() for name, value in drawn.items()}


# ---- what is drawn


def test_a_variant_is_the_same_everywhere_and_for_ever():
    factors = SuiteEnv("walker", "walk", variant=3).factors
    assert list(factors) == ["mass", "inertia", "damping", "armature", "gear", "friction", "length"]
    assert factors["friction"] == {"surfaces": 0.84075}
    assert factors["mass"]["torso"] == 1.004362
    assert factors["length"] == {
        "right_thigh": 0.820659,
        "right_leg": 1.33656,
        "left_thigh": 0.986072,
        "left_leg": 0.911967,
    }


def test_tasks_of_a_domain_share_the_body_and_domains_do_not():
    def drawn(domain, task):
        return draw_factors(nominal(domain, task), domain, task, 3, scale=1.4, groups=IN_PLACE)

    assert drawn("walker", "walk") == drawn("walker", "run")
    turn, spin = drawn("finger", "turn_easy"), drawn("finger", "spin")
    # spin sets the spinner's damping itself, at every reset
    assert set(flat(turn)) - set(flat(spin)) == {("damping", "hinge")}
    assert flat(spin).items() <= flat(turn).items()
    assert turn["mass"]["proximal"] != drawn("walker", "walk")["mass"]["torso"]  # the first of each


@given(st.integers(0, MAX_VARIANT), st.floats(1.0, 5.0), st.sets(st.sampled_from(GROUPS)))
@settings(max_examples=40, deadline=None)
def test_factors_are_in_range_and_leaving_a_group_out_changes_no_other(variant, scale, groups):
    model = nominal("cheetah", "run")
    every = draw_factors(model, "cheetah", "run", variant, scale=scale, groups=GROUPS)
    values = np.array(list(flat(every).values()))
    assert values.min() >= 1 / scale - 1e-6 and values.max() <= scale + 1e-6
    some = draw_factors(model, "cheetah", "run", variant, scale=scale, groups=sorted(groups))
    assert some == {group: every[group] for group in sorted(groups)}


def test_factors_are_log_uniform():
    model = nominal("walker", "walk")
    drawn = [draw_factors(model, "walker", "walk", v, scale=2.0, groups=GROUPS) for v in range(150)]
    exponents = np.log2([list(flat(factors).values()) for factors in drawn])  # uniform in [-1, 1]
    quantiles = np.quantile(exponents, [0.1, 0.25, 0.5, 0.75, 0.9])
    np.testing.assert_allclose(quantiles, [-0.8, -0.5, 0.0, 0.5, 0.8], atol=0.05)
    between = np.corrcoef(exponents.T) - np.eye(exponents.shape[1])
    assert np.abs(between).max() < 0.4  # no two constants go together


def test_what_is_zero_is_not_drawn():
    factors = SuiteEnv("cheetah", "run", variant=0).factors
    assert "rootx" not in factors["stiffness"]  # free to move
    assert "world" not in factors["mass"]


# ---- what it does


@pytest.mark.parametrize(("domain", "task"), [("cheetah", "run"), ("fish", "swim")])
def test_a_scale_of_1_is_dm_controls_own_model_to_the_last_bit(domain, task):
    own, same = arrays(nominal(domain, task)), arrays(SuiteEnv(domain, task, variant=3, scale=1).model)
    different = [name for name in own if not np.array_equal(own[name], same[name], equal_nan=True)]
    assert not different


def test_constants_are_multiplied_by_the_factors_in_info():
    env = make("fish", "swim", variant=2)
    factors = env.reset(seed=0)[1]["factors"]
    old, new = nominal("fish", "swim"), env.unwrapped.model

    def ratio(field, row):
        return np.unique(np.round(getattr(new, field)[row] / getattr(old, field)[row], 9))

    for name, factor in factors["mass"].items():
        assert ratio("body_mass", old.body(name).id) == pytest.approx(factor)
        inertia = factor * factors["inertia"][name]
        assert ratio("body_inertia", old.body(name).id) == pytest.approx(inertia)
    for name, factor in factors["damping"].items():
        assert ratio("dof_damping", old.joint(name).dofadr[0]) == pytest.approx(factor)
    for name, factor in factors["gear"].items():
        row = old.actuator(name).id
        np.testing.assert_allclose(new.actuator_gear[row], factor * old.actuator_gear[row])
    np.testing.assert_allclose(new.geom_friction, factors["friction"]["surfaces"] * old.geom_friction)
    # what the compiler derives follows
    assert new.body_subtreemass[0] == pytest.approx(new.body_mass.sum())
    assert not np.array_equal(new.dof_invweight0, old.dof_invweight0)


@pytest.mark.parametrize("domain", sorted(LENGTH_DOMAINS))
def test_limbs_get_longer_and_joints_stay_on_them(domain):
    """The distance between a limb's own joint and those that it carries is multiplied by its factor."""
    task = TASK_OF[domain]
    rng = np.random.default_rng(0)
    factors = {name: float(rng.uniform(0.6, 1.6)) for name in LENGTH_DOMAINS[domain]}
    old, new = nominal(domain, task), lengthened_model(domain, task, factors)

    def anchors(model):
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        return data.xanchor

    checked = 0
    for child in range(1, old.nbody):
        limb = int(old.body_parentid[child])
        if not (limb and old.body_jntnum[limb] and old.body_jntnum[child]):
            continue
        first, second = old.body_jntadr[limb], old.body_jntadr[child]
        before = anchors(old)[second] - anchors(old)[first]
        after = anchors(new)[second] - anchors(new)[first]
        factor = factors.get(old.body(limb).name, 1.0)
        np.testing.assert_allclose(after, factor * before, atol=1e-9)
        checked += factor != 1.0
    assert checked or domain == "pendulum"
    # as many bodies, joints and observations as before, and the radii
    assert (new.nbody, new.nq, new.nu, new.ngeom) == (old.nbody, old.nq, old.nu, old.ngeom)
    capsules = np.isin(old.geom_type, [mujoco.mjtGeom.mjGEOM_CAPSULE.value])
    np.testing.assert_allclose(new.geom_size[capsules, 0], old.geom_size[capsules, 0])


def test_a_limbs_capsule_mass_and_inertia_follow_its_length():
    old, new = nominal("walker", "walk"), lengthened_model("walker", "walk", {"right_leg": 1.3})
    leg = old.geom("right_leg").id
    assert new.geom_size[leg, 1] == pytest.approx(1.3 * old.geom_size[leg, 1])
    radius, half = new.geom_size[leg, :2]
    volume = np.pi * radius**2 * (2 * half + 4 / 3 * radius)
    assert new.body("right_leg").mass[0] == pytest.approx(1000 * volume)
    assert new.body("right_leg").inertia[0] > 1.5 * old.body("right_leg").inertia[0]
    assert new.body("left_leg").mass[0] == old.body("left_leg").mass[0]
    # fixed masses in the file stay: acrobot's arms weigh 1 kg each, cheetah 14 kg in all
    arms = lengthened_model("acrobot", "swingup", {"upper_arm": 1.3})
    assert arms.body("upper_arm").mass[0] == pytest.approx(1.0)
    assert lengthened_model("cheetah", "run", {"bshin": 1.3}).body_mass.sum() == pytest.approx(14.0)


def test_the_model_it_starts_from_is_not_written_to():
    model = nominal("hopper", "hop")
    before = {name: value.copy() for name, value in arrays(model).items()}
    factors = draw_factors(model, "hopper", "hop", 0, scale=2.0, groups=GROUPS)
    varied_model(model, "hopper", "hop", factors)
    assert all(np.array_equal(before[n], v, equal_nan=True) for n, v in arrays(model).items())


def test_info_is_the_callers_own():
    env = SuiteEnv("cartpole", "swingup", variant=1)
    _, info = env.reset(seed=0)
    info["factors"]["mass"]["cart"] = 7.0
    assert env.reset(seed=0)[1]["factors"]["mass"]["cart"] != 7.0
    assert "variant" not in SuiteEnv("cartpole", "swingup").reset(seed=0)[1]


def test_groups_that_are_not_asked_for_stay():
    env = SuiteEnv("walker", "walk", variant=0, groups=["gear"])
    old, new = arrays(nominal("walker", "walk")), arrays(env.model)
    different = {name for name in old if not np.array_equal(old[name], new[name], equal_nan=True)}
    assert different == {"actuator_gear", "actuator_acc0"}


# ---- another body in each episode


def test_a_redrawn_body_is_the_episodes_own_and_can_be_rebuilt():
    env = make("cartpole", "swingup", variant="redraw")
    variants = [env.reset(seed=seed)[1]["variant"] for seed in (0, 1, 0)] + [env.reset()[1]["variant"]]
    assert variants[0] == variants[2] and len(set(variants)) == 3
    _, info = env.reset(seed=4)
    for _ in range(5):
        env.step(env.action_space.high)
    fixed = SuiteEnv("cartpole", "swingup", variant=info["variant"])
    assert fixed.factors == info["factors"]
    fixed.restore(env.unwrapped.state())
    for _ in range(5):
        assert np.array_equal(fixed.step(env.action_space.low)[0], env.step(env.action_space.low)[0])


# ---- planning


def foresight(env, steps=6, repeat=2):
    """Observations and rewards that the simulator imagines, and those that then come."""
    model = SimulatorModel(env, action_repeat=repeat)
    codec = ActionCodec(env.action_space)
    rng = np.random.default_rng(0)
    for _ in range(10):
        env.step(codec.decode(rng.uniform(-1, 1, codec.dim)))
    actions = torch.from_numpy(rng.uniform(-1, 1, (1, steps, codec.dim))).float()
    history = History.of_observation(torch.zeros(1, model.spec.observation_dim), action_dim=codec.dim)
    imagined = model.rollout(model.start(history, horizon=steps), actions)
    observations, rewards = [], []
    for action in actions[0].numpy():
        total = 0.0
        for _ in range(repeat):
            observation, reward, *_ = env.step(codec.decode(action))
            total += reward
        observations.append(observation)
        rewards.append(total)
    return (imagined.observation[0].numpy(), np.stack(observations)), (
        imagined.reward[0].numpy(),
        np.array(rewards, np.float32),
    )


@pytest.mark.parametrize(
    ("domain", "task", "variant"),
    [
        ("walker", "walk", None),
        ("humanoid", "stand", 0),
        ("cheetah", "run", 2),
        ("reacher", "hard", 1),
    ],
)
def test_the_simulator_foresees_a_variant_bit_by_bit(domain, task, variant):
    env = make(domain, task, variant=variant)
    env.reset(seed=3)
    for imagined, real in foresight(env):
        assert np.array_equal(imagined, real)


def test_the_simulator_follows_a_body_that_is_redrawn():
    env = make("walker", "run", variant="redraw")
    model = SimulatorModel(env)
    history = History.of_observation(torch.zeros(1, 24), action_dim=6)
    for seed in (0, 1):
        env.reset(seed=seed)
        env.step(env.action_space.sample())
        imagined = model.step(model.start(history, horizon=1), torch.ones(1, 6))[1]
        observation, reward, *_ = env.step(env.action_space.high)
        assert np.array_equal(imagined.observation[0].numpy(), observation)
        assert imagined.reward[0] == np.float32(reward)


# ---- rewards


@pytest.mark.parametrize("task", [("cartpole", "swingup"), ("humanoid", "stand"), ("walker", "stand")])
def test_rewards_of_the_state_alone_hold_for_variants(task):
    env = make(*task, variant=1, scale=2.0)
    reward_of = reward_function_of(env)
    before, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        after, reward, *_ = env.step(action)
        transition = (torch.from_numpy(part)[None].double() for part in (before, action, after))
        assert reward_of(*transition).item() == pytest.approx(reward, abs=1e-5)
        before = after


def test_a_reward_that_reads_the_bodys_constants_is_refused_for_variants():
    own = reward_function("dm_control/walker-walk-v0")
    assert reward_function_of(gym.make("dm_control/walker-walk-v0")) is own
    assert reward_function_of(make("walker", "walk")) is own
    for variant in (3, "redraw"):
        with pytest.raises(ValueError, match=r"variant .* leave the reward to the simulator's task"):
            reward_function_of(make("walker", "walk", variant=variant))
    with pytest.raises(LookupError, match="no reward function for 'dm_control/hopper-hop-v0'"):
        reward_function_of(make("hopper", "hop"))


def test_an_agent_that_plans_for_such_a_reward_refuses_a_variant():
    env, other = make("walker", "walk"), make("walker", "walk", variant=3)
    planner = make_planner("random_shooting", horizon=2, num_samples=2)
    agent = TDMAgent(SimulatorModel(env), planner, reward_function="dm_control/walker-walk-v0")
    agent.check_env(env)
    with pytest.raises(ValueError, match=r"masses and lengths of dm_control's own body"):
        agent.attach(other)
    with pytest.raises(ValueError, match=r"masses and lengths of dm_control's own body"):
        agent.attach(gym.vector.SyncVectorEnv([lambda: other]))
    TDMAgent(SimulatorModel(other), planner).check_env(other)  # the task's own reward


def test_the_shipped_checkpoint_plays_variants_of_its_cartpole():
    agent = TDMAgent.load("cartpole-swingup", planner="random_shooting", num_samples=2, horizon=2)
    env = agent.attach(make("cartpole", "swingup", variant=1, flat=False, max_episode_steps=2))
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space and observation["velocity"].dtype == np.float32
    for _ in range(2):
        observation, *_ = env.step(agent.act(observation))
    assert observation in env.observation_space


def test_the_batched_cartpole_task_holds_for_variants():
    env = make("cartpole", "swingup", variant=1)
    env.reset(seed=0)
    exact, fast = SimulatorModel(env), SimulatorModel(env, fast=batched_task_of(env))
    history = History.of_observation(torch.zeros(1, 5), action_dim=1)
    actions = torch.linspace(-1, 1, 12).reshape(1, 12, 1)
    truth = exact.rollout(exact.start(history, horizon=12), actions)
    quick = fast.rollout(fast.start(history, horizon=12), actions)
    torch.testing.assert_close(quick.observation, truth.observation, rtol=0, atol=1e-6)
    torch.testing.assert_close(quick.reward, truth.reward, rtol=0, atol=1e-6)
    assert batched_task_of(make("walker", "walk")) is None
