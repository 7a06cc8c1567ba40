from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tdm_agents import SimulatorModel, TDMAgent, make_planner
from tdm_agents.agent.memory import AgentMemory
from tdm_agents.environments import make_env
from tdm_agents.protocols import History, Plan
from tdm_agents.testing import LinearQuadraticModel


class Model(LinearQuadraticModel):
    """The linear-quadratic model, with any spec, that keeps the histories it was given."""

    def __init__(self, action_dim=1, **spec):
        super().__init__(action_dim)
        self._spec = replace(self._spec, **spec)
        self.histories = []

    def start(self, history, *, horizon):
        self.histories.append(history)
        return super().start(history, horizon=horizon)


@dataclass(frozen=True)
class Count:
    plans: Tensor  # [B], plans since the episode began


@dataclass(frozen=True)
class Counting:
    """Acts as a function of one environment's observation and memory alone, so batches cannot matter."""

    horizon: int = 2

    def init(self, spec, batch):
        return Count(torch.zeros(batch, dtype=torch.int64))

    def plan(self, model, state, carry, *, elapsed, generator):
        plans = torch.where(elapsed == 0, 0, carry.plans) + 1
        m = model.spec.action_dim
        action = torch.sin(state.read()[:, :m] + plans[:, None])
        sequence = action[:, None].repeat(1, self.horizon, 1)
        return Plan(action, sequence, plans.float(), Count(plans), {"transitions": 2.0 * len(plans)})


@dataclass(frozen=True)
class Returning(Counting):
    """Returns whatever action it is told to."""

    action: tuple = ((0.0,),)

    def plan(self, model, state, carry, *, elapsed, generator):
        action = torch.tensor(self.action)
        return Plan(action, action[:, None], torch.zeros(1), carry)


def cem(**changes):
    return make_planner(
        "cem", **{"horizon": 5, "num_samples": 16, "iterations": 2, "num_elites": 4, **changes}
    )


def observations(count, n=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, n)).astype(np.float32)


# ---------------------------------------------------------------------- planning and randomness


def test_acting_equals_planning_by_hand():
    model, planner = Model(), cem()
    agent = TDMAgent(model, planner, seed=3)
    agent.reset()
    generator, carry = torch.Generator().manual_seed(3), planner.init(model.spec, 1)
    for step, obs in enumerate(observations(4)):
        state = model.start(History.of_observation(torch.from_numpy(obs)[None], action_dim=1), horizon=5)
        elapsed = torch.tensor([min(step, 1)])
        plan = planner.plan(model, state, carry, elapsed=elapsed, generator=generator)
        carry = plan.carry
        np.testing.assert_array_equal(agent.act(obs), plan.action[0].numpy())


def test_same_seed_same_actions_and_another_seed_others():
    def play(agent):
        agent.reset()
        return np.stack([agent.act(o) for o in observations(3)])

    first = play(TDMAgent(Model(), cem(), seed=1))
    np.testing.assert_array_equal(first, play(TDMAgent(Model(), cem(), seed=1)))
    assert not np.array_equal(first, play(TDMAgent(Model(), cem(), seed=2)))


def test_reset_with_a_seed_repeats_and_without_goes_on():
    agent, obs = TDMAgent(Model(), cem()), observations(1)[0]
    actions = []
    for seed in (5, None, 5):
        agent.reset(seed)
        actions.append(agent.act(obs))
    assert actions[0] == actions[2] != actions[1]


def test_global_randomness_is_neither_used_nor_changed():
    agent = TDMAgent(Model(), cem())
    before = torch.get_rng_state()
    agent.reset()
    agent.act(observations(1)[0])
    assert torch.equal(before, torch.get_rng_state())


def test_last_plan_shows_what_was_decided():
    agent = TDMAgent(Model(), cem())
    agent.reset()
    assert agent.last_plan is None
    action = agent.act(observations(1)[0])
    assert agent.last_plan.plan.sequence.shape == (1, 5, 1)
    assert agent.last_plan.plan.sequence[0, 0].numpy() == action
    assert agent.last_plan.milliseconds > 0
    agent.reset()
    assert agent.last_plan is None


# ---------------------------------------------------------------------- time step, history, memory


def test_an_action_is_held_for_the_models_time_step():
    model = Model(action_repeat=3)
    agent = TDMAgent(model, Counting())
    agent.reset()
    actions = [float(agent.act(o)[0]) for o in observations(7)]
    assert len(model.histories) == 3
    assert actions[0] == actions[1] == actions[2] != actions[3]
    assert actions[3] == actions[4] == actions[5] != actions[6]


def test_history_holds_decisions_with_their_rewards_summed():
    model = Model(action_repeat=2, history_steps=3)
    agent = TDMAgent(model, Counting())
    agent.reset()
    seen = observations(8)
    actions = [agent.act(seen[0], reward=100.0)]  # a reward at a reset belongs to no transition
    actions += [agent.act(o, reward=float(i)) for i, o in enumerate(seen[1:], start=1)]
    first, last = model.histories[0], model.histories[-1]
    assert first.length.tolist() == [1] and first.observation.shape == (1, 1, 2)
    assert first.action.shape == (1, 0, 1) and first.reward.isnan().all()
    np.testing.assert_array_equal(last.observation[0], seen[[2, 4, 6]])
    np.testing.assert_array_equal(last.action[0], np.stack([actions[2], actions[4]]))
    assert last.reward[0].tolist() == [1 + 2, 3 + 4, 5 + 6] and last.length.tolist() == [3]


def test_a_reward_that_is_partly_unknown_is_unknown():
    model = Model(action_repeat=2, history_steps=3)
    agent = TDMAgent(model, Counting())
    agent.reset()
    for obs, reward in zip(observations(5), [None, 1.0, None, 1.0, 1.0], strict=True):
        agent.act(obs, reward=reward)
    assert model.histories[-1].reward[0].isnan().tolist() == [True, True, False]


@pytest.mark.parametrize("by_flag", [False, True])
def test_a_new_episode_forgets_history_countdown_and_plan(by_flag):
    model = Model(action_repeat=3, history_steps=4)
    agent, fresh = TDMAgent(model, Counting()), TDMAgent(Model(action_repeat=3), Counting())
    agent.reset()
    for obs in observations(5):
        agent.act(obs, reward=1.0)
    obs = observations(1, seed=9)[0]
    fresh.reset()
    if not by_flag:
        agent.reset()
    action = agent.act(obs, reward=1.0, episode_start=by_flag)
    assert action == fresh.act(obs)
    assert model.histories[-1].length.tolist() == [1] and model.histories[-1].reward.isnan().all()


def per_environment(spec, obs, reward, start, active):
    """What one environment's memory must do, written as plain Python."""
    entries, acted, countdown, plans, pending, out = [], [], 0, 0, float("nan"), []
    for o, r, s, on in zip(obs, reward, start, active, strict=True):
        if s:
            entries, acted, countdown, plans, pending = [], [], 0, 0, float("nan")
        if not on:
            out.append(None)
            continue
        pending += r
        if countdown == 0:
            plans += 1
            entries.append((o, pending))
            acted.append(torch.sin(o[:1] + plans))
            countdown, pending = spec.action_repeat, 0.0
        countdown -= 1
        out.append(acted[-1])
    return out, entries[-spec.history_steps :], acted[-spec.history_steps :]


@settings(max_examples=30, deadline=None)
@given(
    repeat=st.integers(1, 3),
    history=st.integers(1, 4),
    steps=st.lists(
        st.lists(st.sampled_from(["go", "start", "off", "unrewarded"]), min_size=3, max_size=3),
        min_size=1,
        max_size=9,
    ),
)
def test_environments_decided_together_do_not_touch_each_other(repeat, history, steps):
    model = Model(action_repeat=repeat, history_steps=history)
    agent = TDMAgent(model, Counting())
    shape = (len(steps), 3)
    obs = torch.from_numpy(observations(len(steps) * 3)).view(*shape, 2)
    reward = torch.arange(float(len(steps) * 3)).view(shape)
    flags = np.array(steps)
    reward[torch.from_numpy(flags == "unrewarded")] = torch.nan
    start, active = torch.from_numpy(flags == "start"), torch.from_numpy(flags != "off")
    memory, actions = agent.initial_memory(3), []
    for t in range(len(steps)):
        memory, action = agent.decide(
            memory, obs[t], reward=reward[t], episode_start=start[t], active=active[t]
        )
        actions.append(action)
    for row in range(3):
        expected, entries, acted = per_environment(
            model.spec, obs[:, row], reward[:, row].tolist(), start[:, row], active[:, row]
        )
        for action, wanted in zip(actions, expected, strict=True):
            assert wanted is None or torch.equal(action[row], wanted)
        length = int(memory.length[row])
        assert length == len(entries)
        for i, (o, r) in enumerate(reversed(entries), start=1):
            assert torch.equal(memory.observation[row, -i], o)
            torch.testing.assert_close(memory.reward[row, -i], torch.tensor(r), equal_nan=True)
            assert torch.equal(memory.action[row, -i], acted[-i])
        assert not memory.observation[row, : history - length].any()


def test_deciding_leaves_the_memory_that_it_was_given():
    agent = TDMAgent(Model(history_steps=3), cem())
    memory, _ = agent.decide(agent.initial_memory(2), torch.ones(2, 2))
    before = AgentMemory(*(getattr(memory, f).clone() for f in AgentMemory.__slots__[:-1]), None)
    agent.decide(memory, torch.zeros(2, 2), episode_start=torch.tensor([True, False]))
    for name in AgentMemory.__slots__[:-1]:
        torch.testing.assert_close(getattr(memory, name), getattr(before, name), equal_nan=True)


def test_planner_memory_of_an_unknown_kind_is_refused_with_its_type():
    @dataclass(frozen=True)
    class Listing(Counting):
        def plan(self, model, state, carry, *, elapsed, generator):
            plan = super().plan(model, state, Count(elapsed), elapsed=elapsed, generator=generator)
            return replace(plan, carry=elapsed.tolist())

    agent = TDMAgent(Model(action_repeat=2), Listing())
    memory, _ = agent.decide(agent.initial_memory(2), torch.zeros(2, 2))
    with pytest.raises(TypeError, match="planner memory holds a list"):
        agent.decide(memory, torch.zeros(2, 2), episode_start=torch.tensor([True, False]))


@pytest.mark.parametrize(
    ("carry", "sentence"),
    [
        ([0], "carry is a list; expected None or a dataclass of tensors"),
        (torch.zeros(1), "carry is a Tensor; expected None or a dataclass"),
        (Count(0), "carry.plans is a int; expected a tensor with a leading B = 1"),
        (Count(torch.tensor(0)), r"carry.plans has shape \(\); expected a leading B = 1"),
        (Count(torch.zeros(3)), r"carry.plans has shape \(3,\); expected a leading B = 1"),
    ],
)
def test_a_planner_whose_first_memory_has_no_rows_is_refused_before_it_plans(carry, sentence):
    @dataclass(frozen=True)
    class Odd(Counting):
        def init(self, spec, batch):
            return carry

    agent = TDMAgent(Model(), Odd())
    with pytest.raises(TypeError, match=rf"Odd\.init: {sentence}.*check_planner"):
        agent.act(np.zeros(2, np.float32), episode_start=True)


def test_the_simulator_plans_for_those_environments_that_decide():
    envs = [make_env("dm_control/cartpole-swingup-v0") for _ in range(2)]
    observed = [env.reset(seed=s)[0] for s, env in enumerate(envs)]
    planner = cem(horizon=2, num_samples=4, num_elites=2, iterations=1)
    agent = TDMAgent(
        SimulatorModel(envs, action_repeat=2), planner, reward_function="dm_control/cartpole-swingup-v0"
    )
    flat = torch.stack([agent.observation(o) for o in observed])
    memory, _ = agent.decide(agent.initial_memory(2), flat)
    memory, _ = agent.decide(memory, flat, episode_start=torch.tensor([False, True]))
    assert agent.last_plan.rows.tolist() == [1]
    assert memory.countdown.tolist() == [0, 1] and memory.length.tolist() == [1, 1]
    for env in envs:
        env.close()


# ---------------------------------------------------------------------- spaces


@settings(max_examples=20, deadline=None)
@given(low=st.floats(-5, 0), width=st.floats(0.5, 5), dtype=st.sampled_from([np.float32, np.float64]))
def test_actions_are_the_environments_own(low, width, dtype):
    space = spaces.Box(low, low + width, (2, 1), dtype)
    agent = TDMAgent(Model(2, action_space=space), cem(horizon=2))
    agent.reset()
    action = agent.act(observations(1, n=4)[0])
    assert action in space and action.dtype == space.dtype and action.shape == (2, 1)


def test_structured_observations_are_flattened():
    space = spaces.Dict(
        velocity=spaces.Box(-9, 9, (1,), np.float64), position=spaces.Box(-9, 9, (1,), np.float64)
    )
    model = Model(observation_space=space)
    agent = TDMAgent(model, Counting())
    agent.reset()
    agent.act({"velocity": np.array([2.0]), "position": np.array([1.0])})
    order = list(space.spaces)
    expected = [{"velocity": 2.0, "position": 1.0}[k] for k in order]
    assert model.histories[0].observation[0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.array([0.0, np.nan]), "observation scalar 1 is nan"),
        (np.array([0.0, np.inf]), "observation scalar 1 is inf"),
        (np.zeros(3), r"shape \(3,\); the space says \(2,\)"),
        ({"x": 1}, "observation"),
    ],
)
def test_an_unfit_observation_is_refused_and_leaves_the_episode_as_it_was(obs, message):
    agent, undisturbed = (TDMAgent(Model(action_repeat=2), Counting()) for _ in range(2))
    good = observations(4)
    agent.reset()
    undisturbed.reset()
    for i, o in enumerate(good):
        with pytest.raises(ValueError, match=message):
            agent.act(obs, episode_start=i == 1)
        assert agent.act(o) == undisturbed.act(o)


def test_acting_before_an_episode_began_says_what_to_call():
    agent = TDMAgent(Model(), Counting())
    with pytest.raises(RuntimeError, match=r"agent\.reset\(\)"):
        agent.act(observations(1)[0])
    agent.act(observations(1)[0], episode_start=True)


def test_an_infinite_reward_is_refused():
    agent = TDMAgent(Model(), Counting())
    agent.reset()
    with pytest.raises(ValueError, match="reward is inf"):
        agent.act(observations(1)[0], reward=float("inf"))


@pytest.mark.parametrize(
    ("action", "message"),
    [(((float("nan"),),), "not finite"), (((0.0, 0.0),), r"\(1, 2\)"), (((1,),), "int64")],
)
def test_a_planners_unfit_action_is_refused_with_its_name(action, message):
    agent = TDMAgent(Model(), Returning(action=action))
    agent.reset()
    with pytest.raises(ValueError, match=f"Returning.*{message}"):
        agent.act(observations(1)[0])


def test_an_action_out_of_bounds_is_remembered_as_it_was_executed():
    model = Model(history_steps=2)
    agent = TDMAgent(model, Returning(action=((7.0,),)))
    agent.reset()
    assert agent.act(observations(1)[0]) == 1.0
    agent.act(observations(1)[0])
    assert model.histories[-1].action.item() == 1.0


def test_a_model_that_contradicts_its_own_space_is_refused():
    with pytest.raises(ValueError, match="observation_dim is 5, but its space has 2"):
        TDMAgent(Model(observation_dim=5), Counting())


class Spaces(gym.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


BOX, UNIT = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32)


def test_an_environment_of_the_models_spaces_passes():
    agent = TDMAgent(Model(), Counting())
    agent.check_env(Spaces(BOX, UNIT))
    agent.check_env(Spaces(spaces.Box(-np.inf, np.inf, (2,), np.float64), UNIT))


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.Box(-np.inf, np.inf, (3,), np.float32), UNIT, "observation_space of the environment is"),
        (spaces.Box(-1, 1, (2,), np.float32), UNIT, "observation_space of the environment is"),
        (spaces.Dict(x=BOX), UNIT, "observation_space of the environment is"),
        (BOX, spaces.Box(-2, 2, (1,), np.float32), "action_space of the environment is"),
        (BOX, spaces.Discrete(2), "action_space of the environment is Discrete"),
    ],
)
def test_an_environment_of_other_spaces_is_refused_with_the_difference(
    observation_space, action_space, message
):
    agent = TDMAgent(Model(), Counting(), env_id="point-v0")
    with pytest.raises(ValueError, match=rf"{message}.*point-v0"):
        agent.check_env(Spaces(observation_space, action_space))


def test_a_difference_inside_a_dict_is_named_by_its_key():
    one = spaces.Box(-9, 9, (1,), np.float32)
    agent = TDMAgent(Model(observation_space=spaces.Dict(a=one, b=one)), Counting())
    with pytest.raises(ValueError, match=r"observation_space\['b'\]"):
        agent.check_env(Spaces(spaces.Dict(a=one, b=BOX), UNIT))
    with pytest.raises(ValueError, match=r"has the keys \['a', 'c'\]"):
        agent.check_env(Spaces(spaces.Dict(a=one, c=one), UNIT))
