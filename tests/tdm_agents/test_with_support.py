"""Plans are kept near recorded observations, where a model and a value know what they say."""

import math
import pickle
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents import TDMAgent, make_planner
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.agent.reward_choice import with_reward
from tdm_agents.cli.collect import Collect, run
from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.environments import EnvRef
from tdm_agents.errors import TDMError
from tdm_agents.protocols import HasRollout, HasValue, History, ModelSpec, Step, looped_rollout
from tdm_agents.storage import CheckpointError
from tdm_agents.wrappers import RecordedStates, WithoutAlive, WithSupport, WithValue

CARTPOLE = "dm_control/cartpole-swingup-v0"


class Line:
    """A point on a line that an action moves by at most 1. It believes that all is better on the right."""

    spec = ModelSpec(
        observation_space=spaces.Box(-np.inf, np.inf, (1,)),
        action_space=spaces.Box(-1, 1, (1,)),
        observation_dim=1,
        action_dim=1,
    )

    def start(self, history, *, horizon):
        return history.observation[:, -1].clone()

    def step(self, state, action, *, generator=None):
        after = state + action
        return after, Step(after, torch.zeros(len(after)), torch.ones(len(after), dtype=torch.bool))

    def take(self, state, rows):
        return state[rows]

    def rollout(self, state, actions, *, generator=None):
        return looped_rollout(_Stepping(), state, actions)

    def value(self, state):
        return state[:, 0]


class _Stepping(Line):
    rollout = None


def states(*episodes, **settings):
    """Recorded states of episodes of one number per observation."""
    made = [np.asarray(episode, np.float32)[:, None] for episode in episodes]
    return RecordedStates.of([recorded_data(made)], **settings)


def recorded_data(episodes, space=None):
    """Episodes of these observations, in which nothing is done and earned."""
    observation = np.concatenate(episodes).astype(np.float32)
    steps = len(observation)
    flat = Decisions(
        observation, np.zeros(steps, np.float32), np.zeros((steps, 1), np.float32), np.ones(steps, bool)
    )
    space = space or spaces.Box(-np.inf, np.inf, observation.shape[1:])
    info = TrajectoryInfo("", space, spaces.Box(-1, 1, (1,)), 1, ("",))
    return Trajectories.from_arrays(flat, offsets=np.cumsum([0, *map(len, episodes)]), info=info)


GRID = [np.linspace(-2, 2, 41), np.linspace(-2.05, 2.05, 42)]


def begin(model, at):
    history = History.of_observation(torch.tensor([[float(one)] for one in at]), action_dim=1, discrete=False)
    return model.start(history, horizon=5)


def test_what_is_recorded_costs_nothing_and_what_is_far_costs_its_distance():
    recorded = states(*GRID)
    spread = float(np.concatenate(GRID).std())
    assert recorded.usual * spread == pytest.approx(0.05, abs=1e-3)  # half of a step of the grid
    asked = torch.tensor([[0.0], [1.97], [2.05 + 0.1], [2.05 + 1.0], [math.nan]])
    found = recorded.excess(asked)
    assert found[:2].tolist() == [0.0, 0.0] and found[4].isnan()
    assert found[2:4].tolist() == pytest.approx([1.0, 19.0], rel=0.03)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), rows=st.integers(0, 2_500), most=st.integers(5, 40))
def test_distances_are_those_to_the_nearest_of_all_that_are_kept(seed, rows, most):
    rng = np.random.default_rng(seed)
    episodes = [rng.normal(size=(20, 3)).astype(np.float32) * [1.0, 10.0, 100.0] for _ in range(3)]
    recorded = RecordedStates.of([recorded_data(episodes)], most=most)
    assert len(recorded.observation) == min(most, 60)
    asked = torch.as_tensor(rng.normal(size=(rows, 3)) * 50.0).float()
    away = (asked[:, None] - recorded.observation) / recorded.scale
    near = away.square().sum(-1).sqrt().amin(-1) if rows else torch.zeros(0)
    expected = (near / recorded.usual - 1.0).clamp_min(0.0)
    torch.testing.assert_close(recorded.excess(asked), expected, rtol=1e-3, atol=1e-3)


def test_goals_do_not_count_and_scalars_that_never_change_do():
    rng = np.random.default_rng(0)
    episodes = [np.stack([rng.normal(size=30), np.full(30, i), np.ones(30)], 1) for i in range(2)]
    one = spaces.Box(-np.inf, np.inf, (1,))
    space = spaces.Dict(dict.fromkeys(("achieved_goal", "desired_goal", "observation"), one))
    recorded = RecordedStates.of([recorded_data(episodes, space)])
    here = torch.as_tensor(episodes[0][:1]).float()
    assert recorded.excess(here + torch.tensor([0.0, 99.0, 0.0])).item() == 0.0
    assert recorded.excess(here + torch.tensor([0.0, 0.0, 9.0])).item() > 0.0


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        (([0.0, 1.0],), "1 episode was recorded; expected at least 2"),
        (([1.0, 1.0], [1.0, 1.0]), "are all alike; expected some that differ"),
    ],
)
def test_data_that_say_nothing_of_what_is_far_are_refused(episodes, message):
    with pytest.raises(ValueError, match=message):
        states(*episodes)


def test_what_cannot_be_compared_is_refused():
    other = recorded_data([np.zeros((3, 2)), np.ones((3, 2))])
    with pytest.raises(TDMError, match=r"data set 1 .* has observation_space"):
        RecordedStates.of([recorded_data([np.zeros((3, 1)), np.ones((3, 1))]), other])
    with pytest.raises(ValueError, match="most is 1; expected at least 2 observations"):
        states(*GRID, most=1)


@pytest.mark.parametrize("far", [0.0, 1e3, 1e5])
def test_distances_do_not_depend_on_where_zero_is(far):
    recorded = states(*(far + grid for grid in GRID))
    assert recorded.usual == pytest.approx(states(*GRID).usual, rel=0.2)
    assert recorded.excess(torch.tensor([[far]])).item() == 0.0


def test_a_scalar_that_hardly_changes_is_not_magnified():
    rng = np.random.default_rng(0)
    episodes = [np.stack([rng.normal(size=30), 1e-9 * rng.normal(size=30)], axis=1) for _ in range(2)]
    recorded = RecordedStates.of([recorded_data(episodes)])
    assert recorded.excess(torch.tensor([[episodes[0][0, 0], 1e-4]]).float()).item() == 0.0


@pytest.mark.parametrize("name", ["random_shooting", "cem", "mppi", "beam_search"])
def test_a_planner_follows_a_value_out_of_the_data_and_with_support_to_their_edge(name):
    planner = make_planner(name, horizon=4)

    def reached(model):
        state, generator = begin(model, [0.0]), torch.Generator().manual_seed(0)
        plan = planner.plan(
            model,
            state,
            planner.init(model.spec, 1),
            elapsed=torch.zeros(1, dtype=torch.int64),
            generator=generator,
        )
        return plan.sequence.cumsum(dim=1)[0, -1, 0].item()

    assert reached(Line()) > 2.2
    assert 0.5 < reached(WithSupport(Line(), states(*GRID), penalty=10.0)) < 2.2


def test_rewards_alone_change_and_a_rollout_is_its_steps():
    model = WithSupport(Line(), states(*GRID), penalty=3.0)
    assert isinstance(model, HasRollout) and isinstance(model, HasValue)
    actions = torch.tensor([[[0.5], [1.0], [1.0]], [[1.0], [1.0], [1.0]]])
    at_once = model.rollout(begin(model, [0.0, 1.0]), actions)
    one_by_one = looped_rollout(model, begin(model, [0.0, 1.0]), actions)
    torch.testing.assert_close(at_once.reward, one_by_one.reward)
    torch.testing.assert_close(at_once.observation, one_by_one.observation)
    far = model.recorded.excess(at_once.observation.flatten(0, 1)).view(2, 3)
    torch.testing.assert_close(at_once.reward, -3.0 * far)
    assert model.value(begin(model, [7.0])).item() == 7.0
    again = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(again.rollout(begin(again, [0.0, 1.0]), actions).reward, at_once.reward)


def test_the_penalty_is_by_default_twice_the_spread_of_the_value_over_the_data():
    recorded = states(*GRID)
    assert WithSupport(Line(), recorded).penalty == pytest.approx(2.0 * np.concatenate(GRID).std(), rel=0.02)

    class Valueless(Line):
        value = None

    with pytest.raises(TypeError, match="penalty is None, and Valueless has no value"):
        WithSupport(Valueless(), recorded)
    with pytest.raises(ValueError, match=r"penalty is -1\.0; expected a finite number of at least 0"):
        WithSupport(Line(), recorded, -1.0)
    wide = RecordedStates(torch.zeros(4, 2), torch.ones(2), 1.0)
    with pytest.raises(ValueError, match="observations have 2 scalars, those of the model 1"):
        WithSupport(Line(), wide, 1.0)


def test_another_reward_is_lowered_as_well():
    recorded = states(*GRID)

    def right(observation, action, next_observation):
        return next_observation[:, 0]

    model = with_reward(WithSupport(Line(), recorded, 5.0), right)
    _, step = model.step(begin(model, [1.0, 5.0]), torch.tensor([[0.5], [0.0]]))
    expected = torch.tensor([1.5, 5.0 - 5.0 * recorded.excess(torch.tensor([[5.0]])).item()])
    torch.testing.assert_close(step.reward, expected)


@pytest.mark.parametrize("around", [lambda m: WithValue(m, lambda o: o[:, 0]), WithoutAlive])
def test_another_reward_is_lowered_as_well_where_something_else_was_added_later(around):
    model = around(WithSupport(Line(), states(*GRID), 5.0))
    model = with_reward(model, lambda observation, action, next_observation: 0.0 * next_observation[:, 0])
    _, step = model.step(begin(model, [5.0]), torch.tensor([[0.0]]))
    assert step.reward.item() < -100.0


def test_another_reward_is_lowered_by_the_present_penalty():
    model = WithSupport(Line(), states(*GRID), 5.0)
    model.penalty = 0.0
    model = with_reward(model, lambda observation, action, next_observation: 0.0 * next_observation[:, 0])
    _, step = model.step(begin(model, [5.0]), torch.tensor([[0.0]]))
    assert step.reward.item() == 0.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return recorded_cartpole(tmp_path_factory.mktemp("cartpole"))


@pytest.fixture(scope="module")
def more_data(tmp_path_factory):
    return recorded_cartpole(tmp_path_factory.mktemp("more"), seed=5)


def recorded_cartpole(folder, **settings):
    actor = ("random episodes=3",)
    run(Collect(out=folder, env_id=CARTPOLE, actor=actor, action_repeat=4, max_steps=80, **settings))
    return folder


def test_an_entry_names_its_data(data, more_data):
    line = f"cartpole-swingup-fast support={data},{more_data / 'data'}"
    entered = enter(parse_entry(line), EnvRef(CARTPOLE))
    assert entered.name == "mppi on TransformerWorldModel with a value near recorded data"
    model = entered.contestant.base_model
    assert isinstance(model, WithSupport) and isinstance(model.model, WithValue)
    assert len(entered.settings["support"]) == 2
    assert entered.settings["support_penalty"] == model.penalty > 0.0
    told = enter(parse_entry(f"cartpole-swingup-fast support={data} support_penalty=7"), EnvRef(CARTPOLE))
    assert told.contestant.base_model.penalty == 7.0
    env = gym.make(CARTPOLE)
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(told.contestant.act(observation, episode_start=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("support_penalty=3", "support_penalty is 3, but there is no support="),
        ("support={data} support_penalty=much", "support_penalty is 'much'; expected a number"),
        ("support={data} planner=policy", "the planner policy compares nothing"),
        ("support=nowhere", "no Minari data set 'nowhere'"),
        ("support={data},{data}/data", "hold the same episodes: name each data set once"),
        ("planner=beam_search level=token objective=likelihood discount=1.0 support={data}", "no rewards"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(data, options, message):
    with pytest.raises(TDMError, match=message):
        enter(parse_entry(f"cartpole-swingup-fast {options.format(data=data)}"), EnvRef(CARTPOLE))


def test_it_is_saved_with_its_data_and_checked_when_it_is_read(data, tmp_path):
    fast = TDMAgent.load("cartpole-swingup-fast")
    recorded = RecordedStates.of([Trajectories.from_minari(data, action_repeat=4)])
    model = WithSupport(fast.base_model, recorded, 2.5)
    TDMAgent(model, fast.planner, env_id=CARTPOLE, reward_function=CARTPOLE).save(tmp_path)
    again = TDMAgent.load(tmp_path).base_model
    assert isinstance(again, WithSupport) and again.penalty == 2.5
    critic = WithValue(model, lambda observation: torch.zeros(len(observation)))
    with pytest.raises(TDMError, match="expected a world model with weights"):
        WithSupport(critic, replace(recorded, usual=9.0), 1.0).save(tmp_path)
    TDMAgent.load(tmp_path)  # what was there is whole
    asked = torch.randn(6, 5)
    torch.testing.assert_close(again.recorded.excess(asked), recorded.excess(asked))
    file = tmp_path / "recorded.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"abcd")
    with pytest.raises(CheckpointError, match="truncated or was altered"):
        TDMAgent.load(tmp_path)
