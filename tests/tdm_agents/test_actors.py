"""Actors: random and disturbed actions of every kind of space, and what an agent is told of them."""

from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from tdm_agents import TDMAgent
from tdm_agents.actors.agents import AgentActor
from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.actors.contestant import actor_of
from tdm_agents.actors.disturbed import Disturbance, Disturbed, Drawn
from tdm_agents.actors.functions import FunctionActor
from tdm_agents.environments import EnvRef
from tdm_agents.protocols import ModelSpec, Plan, Step

SPACES = [
    spaces.Box(-2.0, 4.0, (2,), np.float32),
    spaces.Discrete(3, start=5),
    spaces.MultiDiscrete([3, 2]),
]
OBSERVATION = np.zeros(2, np.float32)


class Anywhere(gym.Env):
    """An environment with any action space."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, action_space):
        self.action_space = action_space


@dataclass
class Listening:
    """A model that notes the histories it is given, of four environment steps per decision."""

    histories: list = field(default_factory=list)
    spec: ModelSpec = ModelSpec(  # noqa: RUF009
        Anywhere.observation_space, spaces.Box(-1.0, 1.0, (1,), np.float32), 2, 1,
        action_repeat=4, history_steps=20,
    )  # fmt: skip

    def start(self, history, *, horizon):
        self.histories.append(history)
        return torch.zeros(history.batch)

    def step(self, state, action, *, generator=None):
        count = len(state)
        return state, Step(torch.zeros(count, 2), torch.zeros(count), torch.ones(count, dtype=torch.bool))

    def take(self, state, rows):
        return state[rows]


@dataclass(frozen=True)
class Steady:
    """Plans 0.25 for ever, and notes how many decisions have passed since its last plan."""

    horizon: int = 3
    elapsed: list = field(default_factory=list)

    def init(self, spec, batch):
        return None

    def plan(self, model, state, carry, *, elapsed, generator):
        self.elapsed.append(int(elapsed))
        sequence = torch.full((len(elapsed), self.horizon, 1), 0.25)
        return Plan(sequence[:, 0], sequence, torch.zeros(len(elapsed)), None)


def moves(actor, count):
    return [actor.act([OBSERVATION], [0.0], [True]) for _ in range(count)]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_random_actions_are_of_the_space_and_repeat_themselves(space):
    def played():
        started = RandomPolicy().start(
            Anywhere(space), np.random.default_rng(3), ref=EnvRef("Any-v0"), action_repeat=1
        )
        return [move.actions[0] for move in moves(started.actor, 50)]

    first, again = played(), played()
    assert all(space.contains(action) for action in first)
    np.testing.assert_array_equal(first, again)
    assert len({str(action) for action in first}) > 1


@pytest.mark.parametrize("space", SPACES[1:], ids=lambda space: type(space).__name__)
def test_discrete_choices_are_held_for_a_random_while(space):
    drawn, changed = [], []
    for index in range(40):
        started = RandomPolicy().start(
            Anywhere(space), np.random.default_rng(index), ref=EnvRef("Any-v0"), action_repeat=1
        )
        codes = np.stack([move.codes[0] for move in moves(started.actor, 200)])
        assert codes.dtype == np.int64
        drawn.append(started.drawn["correlation"])
        changed.append((codes[1:, 0] != codes[:-1, 0]).mean())
    # a component that is not held becomes any of 3 choices, itself among them
    assert np.array(changed) == pytest.approx((1 - np.array(drawn)) * 2 / 3, abs=0.12)
    assert min(changed) < 0.1 and max(changed) > 0.5


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_noise_is_of_the_strength_that_was_drawn(space):
    constant = space.start if isinstance(space, spaces.Discrete) else space.sample() * 0
    disturbed = Disturbed(
        FunctionActor(lambda observation: constant), space, Drawn(0.3, 0.0, 1), np.random.default_rng(0)
    )
    played = [move.actions[0] for move in moves(disturbed, 2000)]
    assert all(space.contains(action) for action in played)
    if isinstance(space, spaces.Box):
        assert disturbed.drawn == {"noise_sd": 0.3, "burst_rate": 0.0}
        assert np.std(played, axis=0) == pytest.approx(0.3 * 3.0, rel=0.1)  # half of the range is 3
    else:
        assert disturbed.drawn == {"random_choices": 0.3, "burst_rate": 0.0}
        changed = np.mean(np.reshape(played, (2000, -1))[:, 0] != np.ravel(constant)[0])
        assert changed == pytest.approx(0.3 * 2 / 3, abs=0.04)


def test_an_actor_without_disturbance_is_left_alone():
    odd = np.array([0.1, np.pi], np.float32)  # would be rounded on its way to [-1, 1] and back
    disturbed = Disturbed(
        FunctionActor(lambda _: odd), SPACES[0], Drawn(0.0, 0.0, 1), np.random.default_rng(0)
    )
    assert all(move.actions[0] is odd for move in moves(disturbed, 3))


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_bursts_are_uniform_and_nobody_is_asked_meanwhile(space):
    asked = []
    actor = FunctionActor(lambda observation: asked.append(0) or space.sample())
    disturbed = Disturbed(actor, space, Drawn(0.0, 0.1, 12), np.random.default_rng(0))
    played = [move.actions[0] for move in moves(disturbed, 1000)]
    assert all(space.contains(action) for action in played)
    share = 1 - len(asked) / 1000
    assert share == pytest.approx(0.1 * 6.5 / (1 + 0.1 * 6.5 - 0.1), abs=0.12)


def test_an_agent_reads_what_was_executed_whoever_decided_it():
    model, planner = Listening(), Steady()
    actor = AgentActor(TDMAgent(model, planner), 1)
    rng = np.random.default_rng(1)
    disturbed = Disturbed(actor, model.spec.action_space, Drawn(0.3, 0.4, 3), rng)
    executed, since, expected = [], 0, []
    rewards = [float("nan"), *np.arange(1.0, 12.0)]
    for step, reward in enumerate(rewards):
        plans = len(planner.elapsed)
        move = disturbed.act([np.full(2, step, np.float32)], [reward], [True])
        executed.append(move.codes[0])
        if len(planner.elapsed) > plans:  # it was asked
            expected.append(since)
            since = 1
        elif since:
            since += 1
    assert planner.elapsed == expected and 2 < len(expected) < len(rewards)
    last = model.histories[-1]
    length = int(last.length)
    steps = torch.arange(12.0)[:length]
    np.testing.assert_array_equal(last.observation[0, :, 0], steps)
    np.testing.assert_array_equal(last.reward[0, 1:], steps[1:])
    np.testing.assert_array_equal(last.action[0], np.stack(executed)[: length - 1])
    assert len({float(a) for a in last.action[0, :, 0]}) > 2, "nothing was disturbed"


@pytest.mark.parametrize("replan_every", [2, 3])
def test_a_plan_that_a_burst_has_outlasted_is_not_followed(replan_every):
    planner = Steady()
    actor = AgentActor(TDMAgent(Listening(), planner, replan_every=replan_every), 1)
    disturbed = Disturbed(actor, Listening().spec.action_space, Drawn(0.0, 0.5, 9), np.random.default_rng(2))
    moves(disturbed, 60)
    assert max(planner.elapsed) > replan_every


def test_the_planner_policy_is_an_agent_that_is_disturbed():
    env = EnvRef("dm_control/cartpole-swingup-v0").make()
    observation, _ = env.reset(seed=0)
    policy = PlannerPolicy(settings={"horizon": 3, "num_samples": 4}, noise_sds=(0.0,), burst_episodes=0.0)
    rng = np.random.default_rng(5)
    started = policy.start(env, rng, ref=EnvRef("dm_control/cartpole-swingup-v0"), action_repeat=4)
    rng = np.random.default_rng(5)
    rng.random(), rng.choice(policy.noise_sds)
    agent = started.actor._actor.agent
    alone = actor_of(agent, [env], seed=int(rng.integers(2**63)))
    agent.generator.manual_seed(0)
    first = started.actor.act([observation], [float("nan")], [True])
    agent.generator.manual_seed(0)
    np.testing.assert_array_equal(alone.act([observation], [float("nan")], [True]).codes, first.codes)


@pytest.mark.parametrize("wrong", [{"noise_sds": ()}, {"noise_sds": (-0.1,)}, {"burst_max": 0}])
def test_a_disturbance_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="expected noise_sds of at least 0 and burst_max of at least 1"):
        Disturbance(**wrong)
