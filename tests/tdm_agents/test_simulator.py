"""The simulator imagines exactly what the environment then does, and never disturbs it."""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "disable")

import gymnasium as gym
import minari
import mujoco
import numpy as np
import pytest
import torch
from stable_baselines3.common.monitor import Monitor

import tdm_envs  # noqa: F401  (registers dm_control)
from tdm_agents import TDMAgent, make_planner
from tdm_agents.protocols import HasRollout, History, WorldModel, looped_rollout
from tdm_agents.spaces import ActionCodec, ObservationCodec
from tdm_agents.world_models.simulator import SimulatorModel, SimulatorState
from tdm_agents.world_models.simulator_wrappers import _REFUSED, _looks_on
from tdm_envs.suite import SuiteTask, batched_task

CARTPOLE = "dm_control/cartpole-swingup-v0"


def live(env_id=CARTPOLE, *, seed=3, steps=17):
    """An environment in the middle of an episode."""
    env = gym.make(env_id)
    env.reset(seed=seed)
    codec = ActionCodec(env.action_space)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        env.step(codec.decode(rng.uniform(-1, 1, codec.dim)))
    return env


def history(model, batch=1):
    n, m = model.spec.observation_dim, model.spec.action_dim
    return History.of_observation(torch.zeros(batch, n), action_dim=m)


def start(model, batch=1) -> SimulatorState:
    return model.start(history(model, batch), horizon=5)


def actions(model, rows, horizon, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, horizon, model.spec.action_dim, generator=generator) * 2 - 1


def execute(env, sequence, repeat):
    """Flat observations and rewards of what the real environment does."""
    observations, rewards = [], []
    flat, codec = ObservationCodec(env.observation_space), ActionCodec(env.action_space)
    for action in sequence.numpy():
        total = 0.0
        for _ in range(repeat):
            observation, reward, *_ = env.step(codec.decode(action))
            total += float(reward)
        observations.append(flat.flatten(observation))
        rewards.append(total)
    return torch.from_numpy(np.stack(observations)), torch.tensor(rewards, dtype=torch.float64).float()


def physics_of(env):
    return env.unwrapped._env.physics


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize(
    "task", ["cartpole-swingup", "walker-stand", "walker-walk", "cheetah-run", "reacher-easy"]
)
def test_it_foresees_a_live_environment_bit_by_bit(task, repeat):
    env = live(f"dm_control/{task}-v0")
    model = SimulatorModel(env, action_repeat=repeat)
    sequence = actions(model, 1, 6)

    imagined = model.rollout(start(model), sequence)
    observation, reward = execute(env, sequence[0], repeat)

    assert torch.equal(imagined.observation[0], observation)
    assert torch.equal(imagined.reward[0], reward)
    assert imagined.alive.all()
    assert imagined.observation.dtype == imagined.reward.dtype == torch.float32


def test_it_foresees_the_first_step_after_a_reset():
    env = live("dm_control/humanoid-stand-v0", steps=0)
    model = SimulatorModel(env)
    sequence = actions(model, 1, 3)
    imagined = model.rollout(start(model), sequence)
    observation, reward = execute(env, sequence[0], 1)
    assert torch.equal(imagined.observation[0], observation)
    assert torch.equal(imagined.reward[0], reward)


@pytest.mark.parametrize("repeat", [1, 4])
def test_the_batched_task_agrees_with_the_task_itself(repeat):
    env = live()
    exact = SimulatorModel(env, action_repeat=repeat)
    fast = SimulatorModel(env, action_repeat=repeat, fast=batched_task(CARTPOLE))
    rows = torch.zeros(8, dtype=torch.int64)
    sequence = actions(exact, 8, 20)
    truth = exact.rollout(exact.take(start(exact), rows), sequence)
    quick = fast.rollout(fast.take(start(fast), rows), sequence)
    torch.testing.assert_close(quick.observation, truth.observation, rtol=0, atol=1e-6)
    torch.testing.assert_close(quick.reward, truth.reward, rtol=0, atol=1e-6 * repeat)


def test_a_batched_observation_can_go_with_the_tasks_own_reward():
    env = live()
    known = batched_task(CARTPOLE)
    assert known is not None

    class Observing:
        reward = None

        def observe(self, qpos, qvel):
            return known.observe(qpos, qvel)

    exact, mixed = SimulatorModel(env, 2), SimulatorModel(env, 2, fast=Observing())
    sequence = actions(exact, 1, 5)
    truth, seen = exact.rollout(start(exact), sequence), mixed.rollout(start(mixed), sequence)
    assert torch.equal(seen.reward, truth.reward)
    torch.testing.assert_close(seen.observation, truth.observation, rtol=0, atol=1e-6)


@pytest.mark.parametrize("task", ["cartpole-swingup", "walker-stand"])
def test_a_rollout_equals_its_steps_and_can_be_continued(task):
    model = SimulatorModel(live(f"dm_control/{task}-v0"), action_repeat=2)
    rows = torch.zeros(3, dtype=torch.int64)
    sequence = actions(model, 3, 6)
    whole = model.rollout(model.take(start(model), rows), sequence)
    looped = looped_rollout(model, model.take(start(model), rows), sequence)
    first = model.rollout(model.take(start(model), rows), sequence[:, :4])
    second = model.rollout(first.state, sequence[:, 4:])
    assert torch.equal(whole.observation, looped.observation)
    assert torch.equal(whole.reward, looped.reward)
    assert torch.equal(whole.observation[:, 4:], second.observation)


def test_threads_change_nothing():
    env = live("dm_control/walker-stand-v0")
    one, three = SimulatorModel(env, threads=0), SimulatorModel(env, threads=3)
    rows = torch.zeros(7, dtype=torch.int64)
    sequence = actions(one, 7, 4)
    a = one.rollout(one.take(start(one), rows), sequence)
    b = three.rollout(three.take(start(three), rows), sequence)
    assert torch.equal(a.observation, b.observation)
    assert torch.equal(a.reward, b.reward)


@pytest.mark.parametrize("fast", [None, batched_task(CARTPOLE)])
def test_the_live_environment_is_not_disturbed(fast):
    env, twin = live(), live()
    model = SimulatorModel(env, action_repeat=2, fast=fast)
    whole = mujoco.mjtState.mjSTATE_INTEGRATION.value
    before = physics_of(env).get_state(whole)
    model.rollout(model.take(start(model), torch.tensor([0, 0])), actions(model, 2, 5))
    np.testing.assert_array_equal(physics_of(env).get_state(whole), before)
    sequence = actions(model, 1, 5, seed=1)[0]
    for ours, theirs in zip(execute(env, sequence, 1), execute(twin, sequence, 1), strict=True):
        assert torch.equal(ours, theirs)


def test_a_model_written_at_reset_is_read_again():
    env = live("dm_control/reacher-easy-v0", seed=1)
    model = SimulatorModel(env)
    env.reset(seed=2)  # moves the target, a geom of the model
    sequence = actions(model, 1, 3)
    imagined = model.rollout(start(model), sequence)
    observation, _ = execute(env, sequence[0], 1)
    assert torch.equal(imagined.observation[0], observation)


def test_rows_read_their_own_environment_of_a_list():
    envs = [live(seed=s, steps=5 * s) for s in range(1, 4)]
    model = SimulatorModel(envs, action_repeat=2)
    sequence = actions(model, 3, 4)
    imagined = model.rollout(start(model, 3), sequence)
    some = model.only([2, 0])
    part = some.rollout(start(some, 2), sequence[[2, 0]])
    assert torch.equal(part.observation, imagined.observation[[2, 0]])
    # a state belongs to its environments, not to the subset that read it
    again = model.rollout(start(some, 2), sequence[[2, 0]])
    assert torch.equal(again.observation, part.observation)
    for b, env in enumerate(envs):
        observation, reward = execute(env, sequence[b], 2)
        assert torch.equal(imagined.observation[b], observation)
        assert torch.equal(imagined.reward[b], reward)


def test_vector_environments_of_this_process_are_read():
    sync = gym.vector.SyncVectorEnv([lambda: gym.make(CARTPOLE)] * 2)
    sync.reset(seed=4)
    model = SimulatorModel(sync)
    sequence = actions(model, 2, 1)
    imagined = model.rollout(start(model, 2), sequence)
    observation, reward, *_ = sync.step(sequence[:, 0].numpy().astype(np.float64))
    np.testing.assert_array_equal(
        imagined.observation[:, 0, :3].numpy(), observation["position"].astype(np.float32)
    )
    np.testing.assert_array_equal(imagined.reward[:, 0].numpy(), reward.astype(np.float32))


def test_sb3_vector_environments_are_read():
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    vec = DummyVecEnv([lambda: gym.wrappers.FlattenObservation(gym.make(CARTPOLE))] * 2)
    vec.seed(1)
    vec.reset()
    model = SimulatorModel(vec)
    sequence = actions(model, 2, 1)
    imagined = model.rollout(start(model, 2), sequence)
    observation, reward, *_ = vec.step(sequence[:, 0].numpy())
    np.testing.assert_array_equal(imagined.observation[:, 0].numpy(), observation.astype(np.float32))
    np.testing.assert_array_equal(imagined.reward[:, 0].numpy(), reward)
    with pytest.raises(TypeError, match=r"VecNormalize cannot be simulated.*DummyVecEnv.*wrappers"):
        SimulatorModel(VecNormalize(vec))


def test_take_is_a_gather_of_copies_and_states_are_used_once():
    model = SimulatorModel(live())
    state = start(model)
    forked = model.take(state, torch.tensor([0, 0, 0]))
    sequence = actions(model, 3, 1)
    taken = model.take(
        model.step(model.take(forked, torch.arange(3)), sequence[:, 0])[0], torch.tensor([2, 1, 2])
    )
    stepped, _ = model.step(model.take(forked, torch.tensor([2, 1, 2])), sequence[[2, 1, 2], 0])
    np.testing.assert_array_equal(taken.physics, stepped.physics)
    model.rollout(state, sequence[:1])
    for use in (lambda: model.take(state, torch.tensor([0])), lambda: model.rollout(state, sequence[:1])):
        with pytest.raises(RuntimeError, match="consumed"):
            use()
    assert not forked.consumed


def test_a_diverging_row_is_nan_from_there_on_and_stops_no_other():
    for fast in (None, batched_task(CARTPOLE)):
        model = SimulatorModel(live(), action_repeat=2, fast=fast)
        state = model.take(start(model), torch.tensor([0, 0]))
        state.physics[0, 1 + 2] = 1e9  # the cart's velocity: its position leaves MuJoCo's bounds in two steps
        alone = model.take(state, torch.tensor([1]))
        sequence = actions(model, 2, 5)
        imagined = model.rollout(state, sequence)
        sound = model.rollout(alone, sequence[1:])
        assert imagined.observation[0].isnan().all()
        assert imagined.reward[0].isnan().all()
        assert torch.equal(imagined.observation[1], sound.observation[0])
        assert torch.equal(imagined.reward[1], sound.reward[0])
        _, later = model.step(imagined.state, sequence[:, 0])
        assert later.reward[0].isnan()
        assert later.reward[1].isfinite()


def test_divergence_midway_keeps_what_came_before():
    model = SimulatorModel(live(), fast=batched_task(CARTPOLE))
    state = start(model)
    state.physics[0, 1 + 2] = 2e9
    reward = model.rollout(state, actions(model, 1, 8)).reward[0]
    bad = reward.isnan()
    assert bad[-1]
    assert not bad[0]
    assert torch.equal(bad, bad.cummax(0).values)


def test_a_batched_task_takes_the_place_of_stepping():
    env = gym.make("InvertedPendulum-v5")
    env.reset(seed=0)
    task = SuiteTask(lambda qpos, qvel: np.concatenate([qpos, qvel], -1), lambda o, a, o2: torch.ones(len(o)))
    model = SimulatorModel(env, action_repeat=2, fast=task)
    assert not model.spec.terminates
    sequence = actions(model, 1, 2) * 0.01
    imagined = model.rollout(start(model), sequence)
    observation, reward = execute(env, sequence[0], 2)
    assert torch.equal(imagined.observation[0], observation)
    assert torch.equal(imagined.reward[0], reward)


def test_environments_that_are_neither_need_a_batched_task():
    with pytest.raises(ValueError, match=r"no dm_control task.*MujocoEnv.*fast="):
        SimulatorModel(gym.make("tdm/WalkerTree-v0", dof=4, body=0))


def test_it_is_a_world_model_with_rollout():
    model = SimulatorModel(live(), action_repeat=4)
    assert isinstance(model, WorldModel)
    assert isinstance(model, HasRollout)
    spec = model.spec
    assert (spec.observation_dim, spec.action_dim, spec.action_repeat) == (5, 1, 4)
    assert (spec.history_steps, spec.terminates) == (1, False)


@pytest.mark.parametrize(
    ("env", "error", "message"),
    [
        (lambda: gym.make("CartPole-v1"), TypeError, r"no MuJoCo physics.*dm_control.*learned"),
        (lambda: "cartpole", TypeError, r"str cannot be simulated.*SyncVectorEnv"),
        (list, ValueError, "at least one"),
        (
            lambda: gym.wrappers.RescaleAction(gym.make(CARTPOLE), -2.0, 2.0),
            ValueError,
            r"cannot see through RescaleAction .*take it off",
        ),
        (
            lambda: gym.wrappers.TimeAwareObservation(
                gym.wrappers.TimeLimit(gym.wrappers.FlattenObservation(gym.make(CARTPOLE)), 10)
            ),
            ValueError,
            r"cannot see through TimeAwareObservation .*changes observations",
        ),
        (
            lambda: NewSpace(gym.make(CARTPOLE)),
            ValueError,
            r"change its action space.*take the action wrapper off",
        ),
        (lambda: [gym.make(CARTPOLE), gym.make("dm_control/walker-stand-v0")], ValueError, "other spaces"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_the_remedy(env, error, message):
    with pytest.raises(error, match=message):
        SimulatorModel(env())


class NewSpace(gym.Wrapper):
    """Says another action space, and does nothing about it."""

    action_space = gym.spaces.Box(-3.0, 3.0, (1,), np.float64)


class Doubled(gym.Wrapper):
    """A step is two; no space shows it."""

    def step(self, action):
        self.env.step(action)
        return self.env.step(action)


class Looking(gym.Wrapper):
    """Looks on, and says so."""

    looks_on = True

    def step(self, action):
        self.seen = action
        return self.env.step(action)


class Deceiving(gym.wrappers.TimeLimit):
    """A subclass of something harmless that is not."""

    def step(self, action):
        return super().step(-action)


class Heir(Looking):
    """A subclass of what says that it looks on, and does not say so itself."""

    def step(self, action):
        return super().step(0.5 * action)


class OnlyResets(gym.Wrapper):
    """Another beginning, the same steps."""

    def reset(self, *, seed=None, options=None):
        return self.env.reset(seed=1, options=options)


def attached(env):
    agent = TDMAgent(SimulatorModel(env), make_planner("random_shooting", horizon=2, num_samples=2))
    return agent.attach(env)


HARMLESS = {
    "time limit": lambda env: gym.wrappers.TimeLimit(env, 100),
    "order": gym.wrappers.OrderEnforcing,
    "checker": gym.wrappers.PassiveEnvChecker,
    "statistics": gym.wrappers.RecordEpisodeStatistics,
    "autoreset": gym.wrappers.Autoreset,
    "flattened": gym.wrappers.FlattenObservation,
    "monitor": Monitor,
    "attached": attached,
    "only resets": OnlyResets,
    "says so": Looking,
    "three": lambda env: Monitor(gym.wrappers.TimeLimit(gym.wrappers.RecordEpisodeStatistics(env), 9)),
}


@pytest.mark.parametrize("env_id", [CARTPOLE, "InvertedPendulum-v5"])
@pytest.mark.parametrize("wrap", HARMLESS.values(), ids=HARMLESS)
def test_what_wrappers_that_look_on_leave_is_foreseen_bit_by_bit(wrap, env_id):
    env = wrap(gym.make(env_id))
    env.reset(seed=3)
    model = SimulatorModel(env)
    sequence = actions(model, 1, 3) * 0.01
    imagined = model.rollout(start(model), sequence)
    observation, reward = execute(env, sequence[0], 1)
    assert torch.equal(imagined.observation[0], observation)
    assert torch.equal(imagined.reward[0], reward)


HARMFUL = {
    "MaxAndSkipObservation": (lambda env: gym.wrappers.MaxAndSkipObservation(env, 4), "action_repeat="),
    "StickyAction": (lambda env: gym.wrappers.StickyAction(env, 0.5), "random"),
    "RescaleAction": (lambda env: gym.wrappers.RescaleAction(env, -1.0, 1.0), "take it off"),
    "ClipAction": (gym.wrappers.ClipAction, "take it off"),
    "TransformAction": (
        lambda env: gym.wrappers.TransformAction(env, lambda a: -a, env.action_space),
        "take it",
    ),
    "TransformObservation": (
        lambda env: gym.wrappers.TransformObservation(env, lambda o: o, env.observation_space),
        "inside it",
    ),
    "DelayObservation": (lambda env: gym.wrappers.DelayObservation(env, 2), "inside it"),
    "NormalizeObservation": (
        lambda env: gym.wrappers.NormalizeObservation(gym.wrappers.FlattenObservation(env)),
        "inside it",
    ),
    "ClipReward": (lambda env: gym.wrappers.ClipReward(env, -1.0, 1.0), "reward_function="),
    "NormalizeReward": (gym.wrappers.NormalizeReward, "reward_function="),
    "TransformReward": (lambda env: gym.wrappers.TransformReward(env, lambda r: -r), "reward_function="),
    "Doubled": (Doubled, r"looks_on = True"),
    "Deceiving": (lambda env: Deceiving(env, 100), r"looks_on = True"),
    "Heir": (Heir, r"looks_on = True"),
}
if hasattr(gym.wrappers, "RepeatAction"):  # not in Gymnasium 1.1
    HARMFUL["RepeatAction"] = (lambda env: gym.wrappers.RepeatAction(env, 4), "action_repeat=")


@pytest.mark.parametrize("name", HARMFUL)
@pytest.mark.parametrize("inside", ["by itself", "vector", "below a harmless one"])
def test_every_other_wrapper_is_refused_by_name(name, inside):
    wrap, remedy = HARMFUL[name]
    env = wrap(gym.make("InvertedPendulum-v5"))
    if inside == "vector":
        env = gym.vector.SyncVectorEnv([lambda: env])
    elif inside != "by itself":
        env = gym.wrappers.TimeLimit(env, 50)
    with pytest.raises(ValueError, match=rf"cannot see through {name} of .*{remedy}"):
        SimulatorModel(env)


def test_minaris_recorder_is_looked_through():
    env = minari.DataCollector(gym.make("InvertedPendulum-v5"))
    assert SimulatorModel(env).spec.observation_dim == 4


def test_every_wrapper_of_gymnasium_is_decided():
    kinds = [getattr(gym.wrappers, name) for name in dir(gym.wrappers)]
    kinds = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, gym.Wrapper)]
    assert len(kinds) >= 30  # as many has Gymnasium 1.1, the oldest
    for kind in kinds:
        assert _looks_on(kind) != (kind.__name__ in _REFUSED), kind.__name__


def test_settings_that_make_no_sense_are_refused():
    env = live()
    with pytest.raises(ValueError, match="action_repeat is 0"):
        SimulatorModel(env, action_repeat=0)
    with pytest.raises(ValueError, match="threads is -1"):
        SimulatorModel(env, threads=-1)
    with pytest.raises(ValueError, match="another task"):
        SimulatorModel(
            live("dm_control/pendulum-swingup-v0"), fast=SuiteTask(lambda q, v: q, lambda o, a, p: a)
        )


def test_bad_actions_and_histories_are_refused():
    model = SimulatorModel(live())
    for shape in [(2, 3, 1), (1, 3, 2), (1, 3), (1, 0, 1)]:
        with pytest.raises(ValueError, match=r"expected \[1, H, 1\]"):
            model.rollout(start(model), torch.zeros(shape))
    with pytest.raises(ValueError, match="row 0 contain NaN"):
        model.rollout(start(model), torch.full((1, 2, 1), torch.nan))
    with pytest.raises(ValueError, match=r"2 environments, this simulator 1.*only"):
        start(model, 2)


def test_actions_outside_the_bounds_are_clipped_as_the_bounds_are():
    model = SimulatorModel(live())
    far = model.rollout(start(model), torch.full((1, 3, 1), 7.0))
    edge = model.rollout(start(model), torch.ones(1, 3, 1))
    assert torch.equal(far.observation, edge.observation)


def test_applied_forces_are_refused():
    env = live()
    model = SimulatorModel(env)
    physics_of(env).data.qfrc_applied[0] = 1.0
    with pytest.raises(ValueError, match="more than the actuators"):
        start(model)
