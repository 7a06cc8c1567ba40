"""The same agent in plain loops, in vector loops of each autoreset mode and behind ``predict``."""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from tdm_agents import SimulatorModel, TDMAgent, make_planner
from tdm_agents.environments import make_env
from tdm_agents.protocols import ModelSpec, Plan, Step, rollout
from tdm_agents.testing import LinearQuadraticModel
from tdm_agents.wrappers import RewardFunction

MODES = list(AutoresetMode)


class Point(gym.Env):
    """The linear-quadratic model as an environment whose episodes have the lengths that it is given."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, lengths, seed=0):
        self.lengths, self.start = lengths, seed
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.steps = 0
        # the beginning is a function of the episode's number, so that every loop sees the same ones
        self.x = np.random.default_rng([self.start, self.episode]).normal(size=2).astype(np.float32)
        return self.x.copy(), {}

    def step(self, action):
        v = self.x[1] + 0.5 * action[0]
        self.x = np.float32([self.x[0] + 0.5 * v, v])
        self.steps += 1
        over = self.steps == self.lengths[self.episode % len(self.lengths)]
        return self.x.copy(), -float(self.x @ self.x), over and self.episode % 2 == 1, over, {}


class Model(LinearQuadraticModel):
    def __init__(self, **spec):
        super().__init__()
        self._spec = replace(self._spec, **spec)


@dataclass(frozen=True)
class Trace:
    seen: Tensor  # [B], of all that the episode brought


@dataclass(frozen=True)
class Tracing:
    """Acts as a function of all that one environment's episode brought, rewards included."""

    horizon: int = 2

    def init(self, spec, batch):
        return Trace(torch.zeros(batch))

    def plan(self, model, state, carry, *, elapsed, generator):
        history = model.history
        reward = history.reward[:, -1].nan_to_num(7.0)
        seen = torch.where(elapsed == 0, 0.0, 0.5 * carry.seen) + state.read()[:, 0] + reward
        action = torch.sin(seen)[:, None]
        return Plan(action, action[:, None], seen, Trace(seen))


class Remembering(Model):
    """Shows the history to the planner above."""

    def start(self, history, *, horizon):
        self.history = history
        return super().start(history, horizon=horizon)


def cem():
    return make_planner("cem", horizon=3, num_samples=8, iterations=2, num_elites=3)


class Diary:
    """The actions that each environment executed in each of its episodes."""

    def __init__(self, count):
        self.episodes = [defaultdict(list) for _ in range(count)]
        self.current = [0] * count

    def write(self, actions, executed, over):
        for env, action in enumerate(actions):
            if executed[env]:
                self.episodes[env][self.current[env]].append(np.asarray(action).tolist())
            self.current[env] += int(over[env])

    def whole(self, count):
        """The first ``count`` episodes of each environment."""
        return [[e[i] for i in range(count)] for e in self.episodes]


def points(lengths):
    return [partial(Point, row, seed) for seed, row in enumerate(lengths)]


def plain_loop(agent, env, episodes):
    diary = Diary(1)
    agent.reset()
    for episode in range(episodes):
        obs, _ = env.reset()
        if episode:
            agent.reset()
        done, reward = False, None
        while not done:
            action = agent.act(obs, reward=reward)
            obs, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            diary.write([action], [True], [done])
    return diary.whole(episodes)[0]


def attached_loop(agent, env, steps):
    """Nothing but what a reader would write; the environment tells the agent the rest."""
    mode, count = env.metadata["autoreset_mode"], env.num_envs
    env, diary = agent.attach(env), Diary(count)
    obs, _ = env.reset()
    over = np.zeros(count, bool)
    for _ in range(steps):
        actions = agent.act(obs)
        before = over
        obs, _, terminated, truncated, _ = env.step(actions)
        over = terminated | truncated
        executed = ~before if mode is AutoresetMode.NEXT_STEP else np.ones(count, bool)
        diary.write(actions, executed, over)
        if mode is AutoresetMode.DISABLED and over.any():
            obs, _ = env.reset(options={"reset_mask": over})
    env.close()
    return diary


def told_loop(agent, env, steps):
    """The same without ``attach``: the caller says what happened."""
    mode, count = env.metadata["autoreset_mode"], env.num_envs
    diary = Diary(count)
    obs, _ = env.reset()
    reward, start, over = np.full(count, np.nan), np.ones(count, bool), np.zeros(count, bool)
    for _ in range(steps):
        ignored = over if mode is AutoresetMode.NEXT_STEP else np.zeros(count, bool)
        actions = agent.act(obs, reward=reward, episode_start=start, active=~ignored)
        obs, reward, terminated, truncated, _ = env.step(actions)
        over = terminated | truncated
        diary.write(actions, ~ignored, over)
        start = ignored if mode is AutoresetMode.NEXT_STEP else over
        if mode is AutoresetMode.DISABLED and over.any():
            obs, _ = env.reset(options={"reset_mask": over})
    env.close()
    return diary


def predict_loop(agent, env, steps):
    diary, obs, state = Diary(env.num_envs), env.reset(), None
    start = np.ones(env.num_envs, bool)
    for _ in range(steps):
        actions, state = agent.predict(obs, state, start, deterministic=True)
        obs, _, start, _ = env.step(actions)
        diary.write(actions, np.ones(env.num_envs, bool), start)
    return diary


def vector(lengths, mode):
    return SyncVectorEnv(points(lengths), autoreset_mode=mode)


# ---------------------------------------------------------------------- every loop gives equal actions


@settings(max_examples=15, deadline=None)
@given(
    repeat=st.integers(1, 3),
    history=st.integers(1, 3),
    lengths=st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=2), min_size=1, max_size=3),
)
def test_each_environment_is_acted_in_as_if_alone_in_every_loop(repeat, history, lengths):
    def agent():
        return TDMAgent(Remembering(action_repeat=repeat, history_steps=history), Tracing())

    expected = [plain_loop(agent(), make(), 2) for make in points(lengths)]
    steps = 2 + max(sum(row) for row in lengths)
    for mode in MODES:
        for loop in (attached_loop, told_loop):
            found = loop(agent(), vector(lengths, mode), steps).whole(2)
            for one, other in zip(found, expected, strict=True):
                for a, b in zip(one, other, strict=True):
                    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(("repeat", "envs"), [(1, 1), (2, 3)])
def test_loops_that_end_together_draw_the_same_random_numbers(repeat, envs):
    def agent():
        return TDMAgent(Model(action_repeat=repeat, history_steps=2), cem(), seed=6)

    lengths = [[3, 4, 2]] * envs
    expected = predict_loop(agent(), DummyVecEnv(points(lengths)), 9).whole(3)
    for mode in MODES:
        for loop in (attached_loop, told_loop):
            assert loop(agent(), vector(lengths, mode), 11).whole(3) == expected
    if envs == 1:
        assert plain_loop(agent(), points(lengths)[0](), 3) == expected[0]
    other = TDMAgent(Model(action_repeat=repeat, history_steps=2), cem(), seed=7)
    assert predict_loop(other, DummyVecEnv(points(lengths)), 9).whole(3) != expected


@dataclass(frozen=True)
class Ladder:
    """Imagines seven constant forces and takes the best: a planner without random numbers."""

    horizon: int = 3

    def init(self, spec, batch):
        return None

    def plan(self, model, state, carry, *, elapsed, generator):
        rungs = torch.linspace(-1.0, 1.0, 7)
        batch = len(elapsed)
        actions = rungs.repeat(batch)[:, None, None].expand(-1, self.horizon, 1).contiguous()
        forked = model.take(state, torch.arange(batch).repeat_interleave(7))
        value = rollout(model, forked, actions, generator=generator).reward.sum(1).view(batch, 7)
        best = rungs[value.argmax(1)][:, None, None].repeat(1, self.horizon, 1)
        return Plan(best[:, 0], best, value.amax(1), None)


def test_with_the_true_simulator_actions_do_not_depend_on_the_batch():
    def cartpole():
        return gym.wrappers.TimeLimit(make_env("dm_control/cartpole-swingup-v0"), 4)

    def agent(env):
        model = SimulatorModel(env, action_repeat=2)
        return TDMAgent(model, Ladder(), reward_function="dm_control/cartpole-swingup-v0")

    def play(env, seed, steps):
        player = agent(env)
        env = player.attach(env)
        obs, _ = env.reset(seed=seed)
        actions = []
        for _ in range(steps):
            actions.append(player.act(obs))
            obs, _, terminated, truncated, _ = env.step(actions[-1])
            over = np.atleast_1d(terminated | truncated)
            if over.any() and not isinstance(env, gym.vector.VectorEnv):
                obs, _ = env.reset()
            elif over.any() and env.metadata["autoreset_mode"] is AutoresetMode.DISABLED:
                obs, _ = env.reset(options={"reset_mask": over})
        env.close()
        return np.stack(actions)

    alone = [play(cartpole(), seed, 6) for seed in (3, 4)]
    assert np.ptp(np.concatenate(alone)) > 0
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
        together = play(SyncVectorEnv([cartpole] * 2, autoreset_mode=mode), 3, 6)
        for row in range(2):
            np.testing.assert_array_equal(together[:, row], alone[row])
    waiting = play(SyncVectorEnv([cartpole] * 2, autoreset_mode=AutoresetMode.NEXT_STEP), 3, 7)
    for row in range(2):  # its fifth action is the one that is ignored
        np.testing.assert_array_equal(np.delete(waiting[:, row], 4, axis=0), alone[row])

    vec = DummyVecEnv([cartpole] * 2)
    player, state, start = agent(vec), None, np.ones(2, bool)
    vec.seed(3)
    obs = vec.reset()
    for t in range(6):
        actions, state = player.predict(obs, state, start, deterministic=True)
        np.testing.assert_array_equal(actions, np.stack([alone[0][t], alone[1][t]]))
        obs, _, start, _ = vec.step(actions)
    vec.close()


# ---------------------------------------------------------------------- what the modes mean


def test_nothing_is_planned_for_an_action_that_is_ignored():
    agent = TDMAgent(Model(), cem())
    env = agent.attach(vector([[2], [3]], AutoresetMode.NEXT_STEP))
    obs, _ = env.reset()
    rows = []
    for _ in range(5):
        actions = agent.act(obs)
        assert actions in env.action_space
        rows.append(agent.last_plan.rows.tolist())
        obs, *_ = env.step(actions)
    assert rows == [[0, 1], [0, 1], [1], [0], [0, 1]]


def test_an_observation_that_nobody_acts_on_is_not_read():
    agent = TDMAgent(Model(), cem())
    agent.reset()
    obs = np.float32([[0.1, 0.2], [np.nan, np.inf]])
    agent.act(obs, active=np.array([True, False]))
    with pytest.raises(ValueError, match="observation scalar 0 of environment 1 is nan"):
        agent.act(obs)


def test_the_options_of_a_masked_reset_stay_the_callers():
    agent = TDMAgent(Model(), cem())
    env = agent.attach(vector([[2], [5]], AutoresetMode.DISABLED))
    obs, _ = env.reset()
    options = {"reset_mask": np.array([True, False])}
    for _ in range(2):
        for _ in range(2):
            obs, *_ = env.step(agent.act(obs))
        obs, _ = env.reset(options=options)
        assert list(options) == ["reset_mask"]
    assert [e.episode for e in env.unwrapped.envs] == [2, 0]


def test_a_masked_reset_by_hand_says_the_same_as_episode_start():
    agents = [TDMAgent(Remembering(), Tracing()) for _ in range(2)]
    obs = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
    mask = np.array([False, True])
    for agent in agents:
        agent.reset()
        agent.act(obs[0])
        agent.act(obs[1], reward=[1.0, 2.0])
    agents[0].reset(mask=mask)
    first = agents[0].act(obs[2], reward=[1.0, 2.0])
    np.testing.assert_array_equal(first, agents[1].act(obs[2], reward=[1.0, 2.0], episode_start=mask))
    assert agents[0].model.history.length.tolist() == [1, 1]
    fresh = TDMAgent(Remembering(), Tracing())
    fresh.reset()
    np.testing.assert_allclose(fresh.act(obs[2])[1], first[1], rtol=1e-6)


@pytest.mark.parametrize("itself", [False, True])
def test_a_plain_environment_is_attached_too(itself):
    env = Point([3, 2])
    expected = plain_loop(TDMAgent(Remembering(), Tracing()), Point([3, 2]), 2)
    agent, diary, over = TDMAgent(Remembering(), Tracing()), Diary(1), False
    env = agent.attach(gym.wrappers.Autoreset(env) if itself else env)
    obs, _ = env.reset()
    for _ in range(6 if itself else 5):
        action = agent.act(obs)
        assert action in env.action_space
        ignored = itself and over
        obs, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
        diary.write([action], [not ignored], [over])
        if over and not itself:
            obs, _ = env.reset()
    assert diary.whole(2)[0] == expected


# ---------------------------------------------------------------------- discrete actions


class Count(gym.Env):
    """Choice ``(count % 2, count % 3)`` earns 1; the observation is the count, as a category."""

    observation_space = spaces.Discrete(8)
    action_space = spaces.MultiDiscrete([2, 3], start=[0, -1])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.count, {}

    def step(self, action):
        assert action in self.action_space
        reward = float(action[0] == self.count % 2 and action[1] == self.count % 3 - 1)
        self.count += 1
        return self.count, reward, False, self.count == 5, {}


class CountModel:
    spec = ModelSpec(
        Count.observation_space,
        Count.action_space,
        observation_dim=8,
        action_dim=2,
        action_kind="discrete",
        action_choices=(2, 3),
    )

    def start(self, history, *, horizon):
        return history.observation[:, -1].argmax(dim=1)

    def step(self, state, action, *, generator=None):
        good = (action[:, 0] == state % 2) & (action[:, 1] == state % 3)
        after = torch.nn.functional.one_hot((state + 1).clamp(max=7), 8).float()
        return state + 1, Step(after, good.float(), torch.ones_like(good))

    def take(self, state, rows):
        return state[rows]


@dataclass(frozen=True)
class EveryChoice:
    """Imagines every combination of choices and takes the best."""

    horizon: int = 1
    beyond: int = 0

    def init(self, spec, batch):
        return None

    def plan(self, model, state, carry, *, elapsed, generator):
        tried = torch.cartesian_prod(*map(torch.arange, model.spec.action_choices)).view(
            -1, model.spec.action_dim
        )
        batch, count = len(elapsed), len(tried)
        forked = model.take(state, torch.arange(batch).repeat_interleave(count))
        _, step = model.step(forked, tried.repeat(batch, 1))
        value, row = step.reward.view(batch, count).max(dim=1)
        best = tried[row] + self.beyond
        return Plan(best, best[:, None], value, None)


@pytest.mark.parametrize("mode", MODES)
def test_discrete_actions_and_observations_in_vector_loops(mode):
    agent = TDMAgent(CountModel(), EveryChoice())
    env = agent.attach(SyncVectorEnv([Count] * 2, autoreset_mode=mode))
    obs, _ = env.reset()
    earned = []
    for _ in range(9):
        actions = agent.act(obs)
        assert actions.dtype == np.int64 and actions in env.action_space
        obs, reward, _, truncated, _ = env.step(actions)
        earned.append(reward.tolist())
        if mode is AutoresetMode.DISABLED and truncated.any():
            obs, _ = env.reset(options={"reset_mask": truncated})
    lost = [0.0, 0.0] if mode is AutoresetMode.NEXT_STEP else [1.0, 1.0]
    assert earned == [[1.0, 1.0]] * 5 + [lost] + [[1.0, 1.0]] * 3


def test_a_single_discrete_action_is_a_number_that_finds_its_entry_in_a_table():
    class One(CountModel):
        spec = replace(CountModel.spec, action_space=spaces.Discrete(2), action_dim=1, action_choices=(2,))

        def step(self, state, action, *, generator=None):
            return super().step(state, torch.cat([action, state[:, None] % 3], dim=1))

    agent = TDMAgent(One(), EveryChoice())
    agent.reset()
    action = agent.act(1)
    assert {0: "left", 1: "right"}[action] == "right" and action in spaces.Discrete(2)


def test_a_reward_function_sees_discrete_actions_in_the_environments_units():
    seen = []
    model = RewardFunction(CountModel(), lambda o, a, after: seen.append(a.tolist()) or after[:, 0])
    agent = TDMAgent(model, EveryChoice())
    agent.reset()
    agent.act(3)
    assert seen == [[[a, b - 1] for a in range(2) for b in range(3)]]


def test_a_choice_that_does_not_exist_is_refused_with_the_planners_name():
    agent = TDMAgent(CountModel(), EveryChoice(beyond=2))
    agent.reset()
    with pytest.raises(ValueError, match=r"EveryChoice\.plan returned the action.*count from 0, of \[2, 3\]"):
        agent.act(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_choices": (3, 2)}, r"action_choices is \(3, 2\), but its space has \(2, 3\)"),
        ({"action_kind": "continuous"}, "action_kind is 'continuous', but its space has 'discrete'"),
        ({"action_space": spaces.Tuple([spaces.Discrete(2)])}, "cannot be planned over.*merge the parts"),
    ],
)
def test_a_model_that_contradicts_its_action_space_is_refused(changes, message):
    class Wrong(CountModel):
        spec = replace(CountModel.spec, **changes)

    with pytest.raises(ValueError, match=message):
        TDMAgent(Wrong(), EveryChoice())


# ---------------------------------------------------------------------- mistakes


def test_an_environment_of_other_spaces_is_not_attached():
    agent = TDMAgent(Model(action_space=spaces.Box(-2, 2, (1,))), cem())
    for env in (Point([3]), vector([[3]], AutoresetMode.SAME_STEP)):
        with pytest.raises(ValueError, match="action_space of the environment is Box"):
            agent.attach(env)
    agent.reset()
    agent.act(np.zeros(2, np.float32))  # as if nothing had happened


def test_what_cannot_be_attached_to_says_what_to_do():
    agent = TDMAgent(Model(), cem())
    with pytest.raises(TypeError, match=r"DummyVecEnv.*agent\.predict\(obs, state, episode_start\)"):
        agent.attach(DummyVecEnv(points([[3]])))
    silent = vector([[3]], AutoresetMode.SAME_STEP)
    silent.metadata = {"autoreset_mode": "next"}
    with pytest.raises(ValueError, match=r"'next'; expected a gymnasium.vector.AutoresetMode"):
        agent.attach(silent)


def test_acting_without_a_step_between_is_refused():
    agent = TDMAgent(Model(), cem())
    env = agent.attach(Point([2]))
    with pytest.raises(RuntimeError, match=r"call reset\(\) or step\(\) of the environment that attach"):
        agent.act(np.zeros(2, np.float32))
    obs, _ = env.reset()
    action = agent.act(obs)
    with pytest.raises(RuntimeError, match="before the attached environment moved"):
        agent.act(obs)
    obs, *_ = env.step(action)
    with pytest.raises(ValueError, match="reward= is given, but the attached environment tells it"):
        agent.act(obs, reward=1.0)


def test_acting_after_the_end_is_refused():
    agent = TDMAgent(Model(), cem())
    env = agent.attach(Point([1]))
    obs, _ = env.reset()
    obs, *_ = env.step(agent.act(obs))
    with pytest.raises(RuntimeError, match="after the end of the episode"):
        agent.act(obs)
    obs, _ = env.reset()
    agent.act(obs)


def test_after_a_step_that_the_agent_did_not_decide_it_begins_anew():
    agent = TDMAgent(Remembering(history_steps=4), Tracing())
    env = agent.attach(vector([[9], [9]], AutoresetMode.SAME_STEP))
    obs, _ = env.reset()
    for _ in range(2):
        obs, *_ = env.step(agent.act(obs))
    obs, *_ = env.step(np.zeros((2, 1), np.float32))
    agent.act(obs)
    assert agent.model.history.length.tolist() == [1, 1] and agent.model.history.reward.isnan().all()


def test_a_masked_reset_after_acting_begins_anew_because_the_action_was_never_executed():
    agent = TDMAgent(Remembering(history_steps=4), Tracing())
    env = agent.attach(vector([[9], [9]], AutoresetMode.DISABLED))
    obs, _ = env.reset()
    obs, *_ = env.step(agent.act(obs))
    agent.act(obs)
    obs, _ = env.reset(options={"reset_mask": np.array([True, False])})
    agent.act(obs)
    assert agent.model.history.length.tolist() == [1, 1]


def test_a_refused_observation_leaves_what_the_environment_told():
    agent = TDMAgent(Remembering(history_steps=4), Tracing())
    env = agent.attach(Point([9]))
    obs, _ = env.reset()
    obs, *_ = env.step(agent.act(obs))
    with pytest.raises(ValueError, match="cannot read NaN"):
        agent.act(np.float32([np.nan, 0.0]))
    with pytest.raises(ValueError, match="observations are of 3 environments, the attached one has 1"):
        agent.act(np.zeros((3, 2), np.float32))
    agent.act(obs)
    assert agent.model.history.length.tolist() == [2] and not agent.model.history.reward[0, 1].isnan()


def test_an_agent_listens_to_one_environment_at_a_time():
    agent = TDMAgent(Model(), cem())
    first, second = agent.attach(Point([3])), agent.attach(Point([3]))
    with pytest.raises(RuntimeError, match="attached to another environment in the meantime"):
        first.reset()
    first.close()  # of the one that it no longer listens to
    obs, _ = second.reset()
    agent.act(obs)
    second.close()
    with pytest.raises(RuntimeError, match="before an episode began"):
        agent.act(obs)
    agent.reset()
    agent.act(obs)


def test_another_number_of_environments_needs_a_reset():
    agent = TDMAgent(Model(), cem())
    agent.reset()
    agent.act(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="of 3 environments, the episodes under way of 2"):
        agent.act(np.zeros((3, 2), np.float32))
    agent.act(np.zeros((3, 2), np.float32), episode_start=np.ones(3, bool))
    agent.reset()
    assert agent.act(np.zeros(2, np.float32)).shape == (1,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": 1.0}, r"reward has shape \(\) beside observations of 2 environments; expected \(2,\)"),
        ({"reward": [0.0, np.inf]}, "reward in environment 1 is inf"),
        ({"episode_start": True}, r"episode_start has shape \(\)"),
        ({"active": np.ones(3, bool)}, r"active has shape \(3,\)"),
    ],
)
def test_news_of_another_shape_are_refused(arguments, message):
    agent = TDMAgent(Model(), cem())
    agent.reset()
    with pytest.raises(ValueError, match=message):
        agent.act(np.zeros((2, 2), np.float32), **arguments)


def test_a_mask_needs_episodes_and_their_number():
    agent = TDMAgent(Model(), cem())
    with pytest.raises(RuntimeError, match=r"call reset\(\) without it first"):
        agent.reset(mask=np.array([True]))
    agent.reset()
    agent.act(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"mask has shape \(3,\).*2 environments"):
        agent.reset(mask=np.ones(3, bool))
