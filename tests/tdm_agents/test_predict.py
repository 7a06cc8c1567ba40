"""``predict`` as Stable-Baselines3 calls it: everything it remembers is in the state."""

import copy
import pickle
from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from tdm_agents import TDMAgent, make_planner
from tdm_agents.agent.predict import for_determinism, for_exploration
from tdm_agents.protocols import ModelSpec, Plan, Step
from tdm_agents.testing import LinearQuadraticModel

pytestmark = pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped")


class Point(gym.Env):
    """The linear-quadratic model as an environment; episodes of 3 and 4 steps in turns."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self):
        self.episodes = 0
        self.taken = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=2).astype(np.float32)
        self.left = 3 + self.episodes % 2
        self.episodes += 1
        return self.x.copy(), {}

    def step(self, action):
        assert action in self.action_space
        self.taken.append(float(action[0]))
        v = self.x[1] + 0.5 * action[0]
        self.x = np.float32([self.x[0] + 0.5 * v, v])
        self.left -= 1
        return self.x.copy(), -float(self.x @ self.x), False, self.left == 0, {}


class Model(LinearQuadraticModel):
    def __init__(self, **spec):
        super().__init__()
        self._spec = replace(self._spec, **spec)


@dataclass(frozen=True)
class Count:
    plans: Tensor  # [B], plans since the episode began


@dataclass(frozen=True)
class Counting:
    """Acts as a function of one environment's observation and memory alone."""

    horizon: int = 2

    def init(self, spec, batch):
        return Count(torch.zeros(batch, dtype=torch.int64))

    def plan(self, model, state, carry, *, elapsed, generator):
        plans = torch.where(elapsed == 0, 0, carry.plans) + 1
        action = torch.sin(state.read()[:, :1] + plans[:, None])
        return Plan(action, action[:, None], plans.float(), Count(plans))


def cem(**changes):
    return make_planner(
        "cem", **{"horizon": 4, "num_samples": 12, "iterations": 2, "num_elites": 4, **changes}
    )


def observations(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, 2)).astype(np.float32)


def plain_loop(agent, env, episodes):
    """Returns of whole episodes, as a reader would write the loop."""
    returns = []
    obs, _ = env.reset()
    for _ in range(episodes):
        agent.reset() if returns else agent.reset(seed=0)
        done, total = False, 0.0
        while not done:
            obs, reward, terminated, truncated, _ = env.step(agent.act(obs))
            done, total = terminated or truncated, total + reward
        returns.append(total)
        obs, _ = env.reset()
    return returns


# ---------------------------------------------------------------------- Stable-Baselines3


@pytest.mark.parametrize("repeat", [1, 2])
def test_evaluate_policy_plays_what_a_plain_loop_plays(repeat):
    agent, env = TDMAgent(Model(action_repeat=repeat, history_steps=3), cem()), Point()
    env.reset(seed=4)
    expected = plain_loop(TDMAgent(Model(action_repeat=repeat, history_steps=3), cem()), env, 3)
    vec = DummyVecEnv([Point])
    vec.envs[0].reset(seed=4)
    returns, lengths = evaluate_policy(agent, vec, n_eval_episodes=3, return_episode_rewards=True)
    assert lengths == [4, 3, 4]
    np.testing.assert_allclose(returns, expected, rtol=1e-6)
    n = len(vec.envs[0].taken)
    assert vec.envs[0].taken == env.taken[:n] and n == sum(lengths)


def test_several_environments_are_evaluated_as_each_alone():
    vec = DummyVecEnv([Point] * 3)
    vec.seed(4)
    evaluate_policy(TDMAgent(Model(action_repeat=2), Counting()), vec, n_eval_episodes=7)
    for index, env in enumerate(vec.envs):
        alone = DummyVecEnv([Point])
        alone.seed(4 + index)
        evaluate_policy(TDMAgent(Model(action_repeat=2), Counting()), alone, n_eval_episodes=2)
        # past its quota an environment is told that every step begins an episode
        assert env.taken[:7] == alone.envs[0].taken[:7]


def test_evaluating_twice_gives_the_same_and_leaves_the_agents_own_episode_alone():
    agent, untouched = (TDMAgent(Model(action_repeat=2), cem(), seed=3) for _ in range(2))
    agent.reset()
    untouched.reset()
    found = []
    for obs in observations(4):
        np.testing.assert_array_equal(agent.act(obs), untouched.act(obs))
        vec = DummyVecEnv([Point, Point])
        vec.seed(1)
        before = agent.generator.get_state()
        found.append(evaluate_policy(agent, vec, n_eval_episodes=2))
        assert torch.equal(agent.generator.get_state(), before)
        again = DummyVecEnv([Point, Point])
        again.seed(1)
        assert evaluate_policy(agent, again, n_eval_episodes=2) == found[-1]
    assert found[0] != found[-1]  # the random numbers go on from where the agent's stand


class Gears(gym.Env):
    """Counts its steps; choice ``step % 3 + 1`` earns 1."""

    observation_space = spaces.Dict(
        {"step": spaces.Box(0, 9, (1,), np.float32), "parity": spaces.Discrete(2)}
    )
    action_space = spaces.Discrete(3, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def observe(self):
        return {"step": np.float32([self.steps]), "parity": np.int64(self.steps % 2)}

    def step(self, action):
        # as environments with a table of actions do; an array of no axes is no key
        reward = {1: 0.0, 2: 1.0, 3: 2.0}[int(action)] == self.steps % 3
        self.steps += 1
        return self.observe(), float(reward), False, self.steps == 6, {}


class GearModel:
    """The dynamics of :class:`Gears`, written for tensors."""

    def __init__(self):
        codec_dims = {"observation_dim": 3, "action_dim": 1}
        self.spec = ModelSpec(
            Gears.observation_space,
            Gears.action_space,
            **codec_dims,
            action_kind="discrete",
            action_choices=(3,),
        )

    def start(self, history, *, horizon):
        keys = list(Gears.observation_space.spaces)
        column = 0 if keys[0] == "step" else 2
        return history.observation[:, -1, column]

    def step(self, state, action, *, generator=None):
        reward = (action[:, 0] == state.long() % 3).float()
        after = state + 1
        return after, Step(after[:, None].repeat(1, 3), reward, torch.ones_like(reward, dtype=torch.bool))

    def take(self, state, rows):
        return state[rows].clone()


@dataclass(frozen=True)
class EveryChoice:
    """Imagines each choice of the single component and takes the best."""

    horizon: int = 1

    def init(self, spec, batch):
        return None

    def plan(self, model, state, carry, *, elapsed, generator):
        (choices,) = model.spec.action_choices
        batch = len(elapsed)
        rows = torch.arange(batch).repeat_interleave(choices)
        tried = torch.arange(choices).repeat(batch)[:, None]
        _, step = model.step(model.take(state, rows), tried)
        value, best = step.reward.view(batch, choices).max(dim=1)
        return Plan(best[:, None], best[:, None, None], value, None)


def test_discrete_actions_and_dict_observations_are_evaluated():
    agent = TDMAgent(GearModel(), EveryChoice())
    vec = DummyVecEnv([Gears] * 2)
    mean, spread = evaluate_policy(agent, vec, n_eval_episodes=4)
    assert (mean, spread) == (6.0, 0.0)
    actions, _ = agent.predict(vec.reset())
    assert actions.dtype == np.int64 and actions.tolist() == [1, 1]
    single, _ = agent.predict(vec.envs[0].reset()[0])
    assert isinstance(single, np.ndarray) and single.shape == () and single in Gears.action_space


# ---------------------------------------------------------------------- memory


def test_two_interleaved_evaluations_do_not_notice_each_other():
    seen = observations(8, 2), observations(8, 2, seed=1)
    starts = np.zeros((8, 2), bool)
    starts[0], starts[3, 1], starts[5] = True, True, True

    def play(order):
        agent = TDMAgent(Model(action_repeat=2, history_steps=3), cem(), seed=5)
        states, at, actions = [None, None], [0, 0], ([], [])
        for which in order:
            t = at[which]
            action, states[which] = agent.predict(seen[which][t], states[which], starts[t], True)
            actions[which].append(action)
            at[which] += 1
        return actions

    together, apart = play([0, 1] * 8), play([0] * 8 + [1] * 8)
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(np.stack(one), np.stack(other))


def test_a_state_is_a_value():
    agent = TDMAgent(Model(history_steps=3), cem())
    _, state = agent.predict(observations(2), None)
    kept = copy.deepcopy(state)
    for given in (state, state, kept, pickle.loads(pickle.dumps(kept))):
        action, after = agent.predict(observations(2, seed=1), given)
        first = action if given is state else first  # noqa: F821
        np.testing.assert_array_equal(action, first)
        assert after is not given


def test_an_episode_start_forgets_its_own_row_alone():
    agent = TDMAgent(Model(), Counting())
    state = None
    for obs in observations(3, 2):
        _, state = agent.predict(obs, state)
    obs = observations(2, seed=9)
    actions, state = agent.predict(obs, state, np.array([False, True]))
    np.testing.assert_allclose(actions[:, 0], np.sin(obs[:, 0] + [4, 1]), atol=1e-6)
    assert state.memory.length.tolist() == [1, 1] and state.memory.carry.plans.tolist() == [4, 1]


def test_episode_start_is_neither_kept_nor_changed():
    agent, starts = TDMAgent(Model(history_steps=2), Counting()), np.array([True, False])
    obs = observations(3, 2)
    _, state = agent.predict(obs[0], None, starts)
    _, state = agent.predict(obs[1], state, starts)
    assert starts.tolist() == [True, False]
    starts[:] = True  # as evaluate_policy does
    assert state.memory.length.tolist() == [1, 2]


# ---------------------------------------------------------------------- shapes and choice


def test_a_single_observation_gets_a_single_action():
    agent, space = TDMAgent(Model(action_space=spaces.Box(-2.0, 0.5, (1, 1), np.float64)), cem()), None
    space = agent.model.spec.action_space
    obs = observations(1)
    single, _ = agent.predict(obs[0], None, True, True)
    batched, _ = agent.predict(obs, None, np.array([True]), True)
    assert single in space and single.dtype == np.float64 and isinstance(single, np.ndarray)
    assert batched.shape == (1, 1, 1)
    np.testing.assert_array_equal(batched[0], single)


@pytest.mark.parametrize("execute", ["best", "mean", "sample"])
def test_deterministic_executes_what_the_planner_believes_in_and_else_a_sample(execute):
    planner = cem(execute=execute)
    kept = "best" if execute == "sample" else execute
    assert for_determinism(planner, True) == replace(planner, execute=kept)
    assert for_determinism(planner, False) == replace(planner, execute="sample")
    agent, obs = TDMAgent(Model(), planner), observations(2)
    for deterministic, expected in ((True, kept), (False, "sample")):
        acting = TDMAgent(Model(), cem(execute=expected))
        acting.reset()
        np.testing.assert_array_equal(agent.predict(obs, deterministic=deterministic)[0], acting.act(obs))
    assert agent.planner is planner


def test_planners_without_the_choice_do_the_same_in_both():
    @dataclass(frozen=True)
    class Other(Counting):
        execute: str = "orders"  # a setting of the same name and another meaning

    for planner in (Counting(), Other(), make_planner("random_shooting", horizon=3, num_samples=8)):
        agent = TDMAgent(Model(), planner)
        both = [agent.predict(observations(2), deterministic=d)[0] for d in (True, False)]
        np.testing.assert_array_equal(*both)


def test_planners_explore_if_they_can():
    assert for_exploration(cem()) == cem(execute="sample", explore=True)
    policy = make_planner("policy")
    assert for_exploration(policy) == replace(policy, execute="sample")
    assert for_exploration(Counting()) == Counting()


def test_a_planner_that_calls_the_choice_by_its_former_name_is_understood_and_told():
    @dataclass(frozen=True)
    class Former(Counting):
        returns: str = "best"

    with pytest.warns(DeprecationWarning, match="setting 'returns' of Former to 'execute'"):
        assert for_determinism(Former(), False) == Former(returns="sample")


@pytest.mark.parametrize(
    ("state", "starts", "kind", "message"),
    [
        ("other", None, ValueError, "state is of 3 environments and the observation of 2; pass state=None"),
        ((np.zeros(2),), None, TypeError, "state is a tuple; expected what the last predict"),
        (None, np.zeros(3, bool), ValueError, r"episode_start has shape \(3,\).*expected \(2,\)"),
    ],
)
def test_what_is_not_of_this_evaluation_is_refused(state, starts, kind, message):
    agent = TDMAgent(Model(), Counting())
    if state == "other":
        _, state = agent.predict(observations(3))
    with pytest.raises(kind, match=message):
        agent.predict(observations(2), state, starts)


def test_an_observation_that_is_not_finite_names_its_environment():
    obs = observations(2)
    obs[1, 0] = np.nan
    with pytest.raises(ValueError, match="observation scalar 0 of environment 1 is nan"):
        TDMAgent(Model(), Counting()).predict(obs)
