"""Environments with goals: a reward function reads the goal, which no model has to predict."""

from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from reach import Reach, away, reached

from tdm_agents import RewardFunction, TDMAgent, evaluate, make_planner, registry
from tdm_agents.agent.own_goal import OwnGoal
from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.protocols import HasRollout, HasTokens, History, Step, looped_rollout
from tdm_agents.spaces.goals import goal_columns
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.testing import LinearQuadraticModel

GOAL = slice(2, 4)  # achieved_goal, desired_goal, observation: keys are sorted


def make():
    return gym.wrappers.TimeLimit(Reach(), 12)


@dataclass(frozen=True)
class State:
    observation: torch.Tensor


class Forgetful:
    """Exact but for the desired goal, which it predicts to fly away."""

    spec = spec_of(Reach.observation_space, Reach.action_space)

    def start(self, history, *, horizon):
        return State(history.observation[:, -1])

    def step(self, state, action, *, generator=None):
        moved = state.observation + 0.2 * torch.cat([action, torch.zeros_like(action), action], dim=1)
        moved[:, GOAL] += 100.0
        rows = len(action)
        step = Step(moved, torch.zeros(rows), torch.ones(rows, dtype=torch.bool))
        return State(moved), step

    def take(self, state, rows):
        return State(state.observation[rows])


class ForgetfulAtOnce(Forgetful):
    def rollout(self, state, actions, *, generator=None):
        return looped_rollout(self, state, actions, generator=generator)


MODELS = {"step by step": Forgetful, "rollout": ForgetfulAtOnce}


def test_the_goal_is_found_in_the_space():
    assert goal_columns(Reach.observation_space) == GOAL
    nested = spaces.Dict({**Reach.observation_space.spaces, "achieved_goal": spaces.Discrete(3)})
    assert goal_columns(nested) == slice(3, 5)
    for other in (spaces.Box(-1, 1, (2,)), spaces.Dict(observation=spaces.Box(-1, 1, (2,)))):
        assert goal_columns(other) is None


@pytest.mark.parametrize("kind", MODELS.values(), ids=MODELS)
def test_an_imagined_goal_is_the_present_one(kind):
    model = RewardFunction(kind(), reached)
    assert isinstance(model, HasRollout) == issubclass(kind, ForgetfulAtOnce)
    first = torch.tensor([[0.0, 0.0, 1.0, 0.5, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0, 0.0, 0.0]])
    state = model.start(History.of_observation(first, action_dim=2), horizon=3)
    state = model.take(state, torch.tensor([1, 0]))
    found = looped_rollout(model, state, torch.ones(2, 3, 2)) if kind is Forgetful else model.rollout(
        state, torch.ones(2, 3, 2)
    )  # fmt: skip
    goal = first[[1, 0], GOAL]
    assert torch.equal(found.observation[..., GOAL], goal[:, None].expand(2, 3, 2))
    place = 0.2 * torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 2)
    assert torch.allclose(found.reward, -(place - goal[:, None]).norm(dim=-1))


LEARNED = {
    "mlp": ("mlp", {}),
    "mlp of tokens": ("mlp", {"outputs": "tokens"}),
    "pets": ("pets", {}),
    "iql": ("iql", {}),
    "transformer": ("transformer", {"layers": 1, "width": 16, "heads": 2, "context": 40}),
    "whole steps": ("step_transformer", {"layers": 1, "width": 16, "heads": 2, "context": 40}),
}


@pytest.fixture
def learned(request):
    """A model before its first update, which imagines anything."""
    name, settings = LEARNED[request.param]
    kind = registry.load(registry.WORLD_MODELS, name)
    spec = spec_of(Reach.observation_space, Reach.action_space)
    config = replace(next(iter(kind.presets().values())).config, **settings)
    model = kind.build({"reach": spec}, config, seed=0).eval()
    rng = np.random.default_rng(0)
    decided = Decisions(
        rng.normal(size=(40, 6)).astype(np.float32),
        rng.normal(size=40).astype(np.float32),
        rng.uniform(-1, 1, (40, 2)).astype(np.float32),
        np.ones(40, bool),
    )
    info = TrajectoryInfo("", spec.observation_space, spec.action_space, 1, ("",))
    model.fit({"reach": Trajectories.from_arrays(decided, offsets=np.array([0, 20, 40]), info=info)})
    return model


@pytest.mark.parametrize("learned", LEARNED, indirect=True)
def test_a_learned_model_imagines_no_other_goal(learned):
    first = torch.tensor([[0.0, 0.0, 1.0, 0.5, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0, 0.0, 0.0]])
    history = History.of_observation(first, action_dim=2)
    kept = first[:, None, GOAL].expand(2, 3, 2)
    found = looped_rollout(learned, learned.start(history, horizon=3), torch.ones(2, 3, 2))
    assert torch.equal(found.observation[..., GOAL], kept)
    assert not torch.equal(found.observation[:, -1], first)
    if isinstance(learned, HasRollout):
        found = learned.rollout(learned.start(history, horizon=3), torch.ones(2, 3, 2))
        assert torch.equal(found.observation[..., GOAL], kept)
    if isinstance(learned, HasTokens):
        state = learned.start(history, horizon=1)
        draft = learned.draft(state)
        for _ in range(2 + 6 + 1):  # action, observation, reward
            draft = draft.push(torch.tensor([3, 5]))
        state, _, step = draft.finish()
        assert torch.equal(step.observation[:, GOAL], first[:, GOAL])
        assert torch.equal(state.observation[:, GOAL], first[:, GOAL])


@pytest.mark.parametrize("kind", MODELS.values(), ids=MODELS)
def test_an_agent_reaches_what_is_desired_or_avoids_it(kind):
    planner = make_planner("cem", horizon=4, num_samples=64, iterations=3)
    left = {}
    for reward in (reached, away):
        agent = TDMAgent(kind(), planner, seed=0, reward_function=reward)
        played = evaluate(agent, make, [0, 1, 2], record_horizon=0)
        last = np.stack([e.recording.observation[-1] for e in played.episodes])
        left[reward] = np.linalg.norm(last[:, :2] - last[:, GOAL], axis=1)
    assert (left[reached] < 0.15).all() and (left[away] > 2.0).all()


def test_the_same_function_counts_the_real_return():
    agent = TDMAgent(Forgetful(), make_planner("random_shooting", horizon=2), seed=0, reward_function=reached)
    by_env = evaluate(agent, make, [0, 1])
    by_function = evaluate(agent, make, [0, 1], score_by=reached)
    np.testing.assert_allclose(by_function.scores, by_env.scores, rtol=1e-5)


def test_a_space_without_goals_is_imagined_as_it_is():
    class Plain(Forgetful):
        spec = replace(Forgetful.spec, observation_space=spaces.Box(-np.inf, np.inf, (6,)))

    model = RewardFunction(Plain(), lambda o, a, o2: o2[:, 2])
    state = model.start(History.of_observation(torch.zeros(1, 6), action_dim=2), horizon=1)
    _, step = model.step(state, torch.zeros(1, 2))
    assert step.observation[0, 2] == 100.0


def own_goal_agent(seed=0):
    planner = make_planner("cem", horizon=3, num_samples=64, iterations=3)
    return TDMAgent(Forgetful(), planner, seed=seed, reward_function=reached)


def test_a_goal_of_the_agent_takes_the_place_of_the_environments_until_the_next_reset():
    env, agent, wish = make(), own_goal_agent(), np.array([-0.6, 0.3])
    observation, _ = env.reset(seed=1)
    agent.reset(goal=wish)
    for _ in range(12):
        observation, *_ = env.step(agent.act(observation))
    assert np.abs(observation["achieved_goal"] - wish).max() < 0.1
    assert np.abs(observation["desired_goal"] - wish).max() > 0.2  # the environment has another
    observation, _ = env.reset(seed=1)
    agent.reset()
    for _ in range(12):
        observation, *_ = env.step(agent.act(observation))
    assert np.abs(observation["achieved_goal"] - observation["desired_goal"]).max() < 0.1


def test_who_evaluates_pursues_the_same_goal():
    agent, wish = own_goal_agent(), np.array([-0.6, 0.3])
    observation, _ = make().reset(seed=1)
    agent.reset(goal=wish)
    predicted, _ = agent.predict(observation, deterministic=True)
    agent.reset(goal=wish)
    assert np.array_equal(agent.act(observation), predicted)
    agent.reset()
    assert not np.array_equal(agent.act(observation), predicted)


def test_environments_can_have_goals_of_their_own():
    envs, agent = gym.vector.SyncVectorEnv([make, make]), own_goal_agent()
    wishes = np.array([[0.5, 0.5], [-0.5, 0.0]])
    observation, _ = envs.reset(seed=0)
    agent.reset(goal=wishes)
    for _ in range(11):
        observation, *_ = envs.step(agent.act(observation))
    assert np.abs(observation["achieved_goal"] - wishes).max() < 0.1
    single, _ = make().reset(seed=0)
    agent.reset(goal=wishes)
    with pytest.raises(ValueError, match="goal is of 2 environments, but observations are of 1"):
        agent.act(single)


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ([0.0, 0.0, 0.0], r"goal has shape \(3,\); expected \(2,\), as desired_goal has"),
        (1.0, r"goal has shape \(\); expected \(2,\)"),
        ([np.nan, 0.0], "expected finite numbers"),
        ("there", r"goal is 'there'; expected numbers of shape \(2,\)"),
    ],
)
def test_a_goal_that_is_none_is_refused(goal, message):
    with pytest.raises(ValueError, match=message):
        own_goal_agent().reset(goal=goal)


def test_a_goal_is_for_all_episodes_and_for_observations_that_hold_one():
    agent = own_goal_agent()
    agent.reset()
    with pytest.raises(ValueError, match=r"reset\(\) is given mask and goal; expected one"):
        agent.reset(mask=[True], goal=[0.0, 0.0])
    rooms = spaces.Dict({**Reach.observation_space.spaces, "desired_goal": spaces.Discrete(2)})
    with pytest.raises(ValueError, match=r"desired_goal is of Discrete\(2\); expected a Box"):
        OwnGoal.of(1, replace(Forgetful.spec, observation_space=rooms))
    other = TDMAgent(LinearQuadraticModel(), make_planner("cem", horizon=2))
    with pytest.raises(ValueError, match=r"goal is given, but the observation_space Box.* holds none"):
        other.reset(goal=[0.0])
