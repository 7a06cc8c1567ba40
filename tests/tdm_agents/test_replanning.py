"""Plans that are followed for several decisions before the next one is made."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tdm_agents import SimulatorModel, TDMAgent, evaluate, make_planner
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.environments import make_env
from tdm_agents.protocols import History, Plan, rollout
from tdm_agents.storage import CheckpointError
from tdm_agents.testing import LinearQuadraticModel
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

CARTPOLE = "dm_control/cartpole-swingup-v0"


class Model(LinearQuadraticModel):
    """The linear-quadratic model with any spec."""

    def __init__(self, **spec):
        super().__init__()
        self._spec = replace(self._spec, **spec)


@dataclass(frozen=True)
class Count:
    plans: Tensor  # [B], plans since the episode began


@dataclass(frozen=True)
class Counting:
    """Plans a sequence that tells the observation, the number of the plan and the place in it."""

    horizon: int = 4
    told: tuple = ()  # a list of the elapsed that it was told, in the last place

    def init(self, spec, batch):
        return Count(torch.zeros(batch, dtype=torch.int64))

    def plan(self, model, state, carry, *, elapsed, generator):
        for listener in self.told:
            listener.append(elapsed.tolist())
        plans = torch.where(elapsed == 0, 0, carry.plans) + 1
        sequence = planned(state.read()[:, :1], plans[:, None], torch.arange(self.horizon))[..., None]
        return Plan(sequence[:, 0], sequence, plans.float(), Count(plans), {"transitions": 1.0 * len(plans)})


def planned(observation, plans, place):
    return torch.sin(observation + plans + 0.1 * place)


@dataclass(frozen=True)
class Short(Counting):
    """Says that it plans four decisions, and plans two."""

    def plan(self, model, state, carry, *, elapsed, generator):
        plan = super().plan(model, state, carry, elapsed=elapsed, generator=generator)
        return replace(plan, sequence=plan.sequence[:, :2])


def cem(**changes):
    return make_planner(
        "cem", **{"horizon": 6, "num_samples": 16, "iterations": 2, "num_elites": 4, **changes}
    )


def observations(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, 2)).astype(np.float32)


# -- what is executed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cem", "mppi", "random_shooting", "beam_search"])
def test_a_plan_is_followed_in_open_loop_and_with_an_exact_model_what_it_expects_happens(name):
    env = make_env(CARTPOLE)
    model = SimulatorModel(env, action_repeat=2)
    agent = TDMAgent(model, make_planner(name, horizon=5), seed=1, replan_every=3)
    agent.reset()
    obs, _ = env.reset(seed=3)
    plans, taken = [], []
    for step in range(12):  # six decisions
        taken.append(agent.act(obs))
        if step in (0, 6):
            plan = agent.last_plan.plan
            plans.append(plan)
            start = model.start(agent.last_plan.history, horizon=5)
            expected = rollout(model, start, plan.sequence).observation[0]
        assert agent.last_plan.plan is plans[-1]
        obs, *_ = env.step(taken[-1])
        if step % 2 == 1:
            seen = agent.observation(obs)
            torch.testing.assert_close(seen, expected[(step // 2) % 3], rtol=1e-5, atol=1e-6)
    followed = torch.cat([p.sequence[0, :3] for p in plans]).repeat_interleave(2, dim=0)
    np.testing.assert_allclose(np.stack(taken), followed.numpy(), atol=1e-6)
    env.close()


@pytest.mark.parametrize("every", [2, 3, 5])
def test_the_next_plan_goes_on_from_what_is_left_of_the_last(every):
    model = Model()
    agent = TDMAgent(model, cem(num_samples=8, iterations=1), replan_every=every)
    agent.reset()
    x = torch.tensor([[0.5, -0.2]])
    for _ in range(every):
        action = torch.from_numpy(agent.act(x[0].numpy()))
        state = model.start(History.of_observation(x, action_dim=1), horizon=1)
        x = model.step(state, action[None])[1].observation
    first = agent.last_plan.plan
    agent.act(x[0].numpy())
    second = agent.last_plan.plan
    assert second is not first
    left = first.sequence[:, every:]
    left = torch.cat([left, left[:, -1:].expand(-1, every, -1)], dim=1)
    state = model.start(History.of_observation(x, action_dim=1), horizon=6)
    assert second.value >= rollout(model, state, left).reward.sum(dim=1) - 1e-6


def test_planners_are_told_how_many_decisions_were_executed():
    told = []
    agent = TDMAgent(Model(action_repeat=2), Counting(told=(told,)), replan_every=3)
    agent.reset()
    for obs in observations(13, 2):
        agent.act(obs)
    assert told == [[0, 0], [3, 3], [3, 3]]
    agent.reset(mask=[False, True])
    agent.act(observations(2))
    assert told[3:] == [[0]]


def per_environment(spec, every, obs, start, active):
    """What one environment's agent must do, written as plain Python."""
    held, countdown, plans, since, out, seen = None, 0, 0, 0, [], None
    for o, s, on in zip(obs, start, active, strict=True):
        if s:
            countdown, plans, since = 0, 0, 0
        if not on:
            out.append(None)
            continue
        if countdown == 0:
            if since in (0, every):
                plans, since, seen = plans + 1, 0, o[:1]
            held, countdown, since = planned(seen, plans, since), spec.action_repeat, since + 1
        countdown -= 1
        out.append(held)
    return out


@settings(max_examples=30, deadline=None)
@given(
    every=st.integers(1, 4),
    repeat=st.integers(1, 2),
    steps=st.lists(
        st.lists(st.sampled_from(["go", "go", "start", "off"]), min_size=3, max_size=3),
        min_size=1,
        max_size=14,
    ),
)
def test_environments_replan_apart(every, repeat, steps):
    agent = TDMAgent(Model(action_repeat=repeat, history_steps=2), Counting(), replan_every=every)
    obs = torch.from_numpy(observations(len(steps), 3))
    flags = np.array(steps)
    start, active = torch.from_numpy(flags == "start"), torch.from_numpy(flags != "off")
    memory, actions = agent.initial_memory(3), []
    for t in range(len(steps)):
        memory, action = agent.decide(memory, obs[t], episode_start=start[t], active=active[t])
        actions.append(action)
        torch.testing.assert_close(memory.action[:, -1], action)
    for row in range(3):
        expected = per_environment(agent.model.spec, every, obs[:, row], start[:, row], active[:, row])
        for action, wanted in zip(actions, expected, strict=True):
            assert wanted is None or torch.equal(action[row], wanted)


def test_decisions_between_plans_are_history_too():
    agent = TDMAgent(Model(history_steps=4), Counting(), replan_every=3)
    agent.reset()
    seen = observations(4)
    actions = [agent.act(o, reward=float(i)) for i, o in enumerate(seen)]
    history = agent.last_plan.history
    np.testing.assert_array_equal(history.observation[0], seen)
    np.testing.assert_array_equal(history.action[0], np.stack(actions[:3]))
    assert history.reward[0, 1:].tolist() == [1.0, 2.0, 3.0]


def test_planning_at_every_decision_is_the_default():
    def play(agent):
        agent.reset()
        return np.stack([agent.act(o) for o in observations(4)])

    np.testing.assert_array_equal(
        play(TDMAgent(Model(), cem())), play(TDMAgent(Model(), cem(), replan_every=1))
    )


def test_predict_follows_plans_that_are_in_its_state():
    agent, plain = (TDMAgent(Model(), cem(), seed=2, replan_every=3) for _ in range(2))
    plain.reset()
    state = None
    for t, obs in enumerate(observations(7)):
        start = np.array([t == 5])
        action, state = agent.predict(obs[None], state, start, deterministic=True)
        np.testing.assert_array_equal(action[0], plain.act(obs, episode_start=t == 5))


def test_an_evaluation_counts_decisions_and_what_their_plans_cost():
    factory = AgentFactory(
        lambda envs: SimulatorModel(envs, 4), cem(horizon=3, num_samples=6, num_elites=2), None, 2
    )
    found = evaluate(factory, CARTPOLE, [0, 1], max_steps=16)
    assert found.plan_calls == 2 and [e.decisions for e in found.episodes] == [4, 4]
    transitions = 6 * 3 * factory.planner.iterations  # of a plan, in each environment
    assert found.transitions_per_decision == transitions / 2


# -- keeping and refusing ---------------------------------------------------------------------------------


def test_it_is_saved_loaded_and_chosen_when_loading(tmp_path):
    agent = TDMAgent(
        MLPWorldModel(Model().spec, MLPConfig(hidden=8, layers=1), seed=4), cem(), replan_every=2
    )
    agent.save(tmp_path)
    assert TDMAgent.load(tmp_path).replan_every == 2
    assert TDMAgent.load(tmp_path, replan_every=5).replan_every == 5
    with pytest.raises(ValueError, match="replan_every is 2, but CEM plans 1 ahead"):
        TDMAgent.load(tmp_path, horizon=1)
    path = tmp_path / "agent.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in value.items() if k != "replan_every"}))
    assert TDMAgent.load(tmp_path).replan_every == 1  # written before there was the setting
    path.write_text(json.dumps({**value, "replan_every": "often"}))
    with pytest.raises(CheckpointError, match='"replan_every" that is a positive integer'):
        TDMAgent.load(tmp_path)


@pytest.mark.parametrize(
    ("planner", "every", "error", "message"),
    [
        (cem(), 7, ValueError, "CEM plans 6 ahead; .* raise the planner's horizon or lower"),
        (make_planner("policy"), 2, ValueError, "Policy plans 1 ahead"),
        (cem(), 0, ValueError, "replan_every is 0; expected at least 1"),
        (cem(), 2.0, TypeError, "replan_every is 2.0; expected an integer"),
        (cem(), True, TypeError, "replan_every is True; expected an integer"),
    ],
)
def test_what_no_plan_could_do_is_refused(planner, every, error, message):
    with pytest.raises(error, match=message):
        TDMAgent(Model(), planner, replan_every=every)


def test_a_plan_that_is_shorter_than_its_planner_says_is_refused():
    agent = TDMAgent(Model(), Short(), replan_every=3)
    agent.reset()
    with pytest.raises(ValueError, match=r"Short.plan returned a sequence \(1, 2, 1\).*every 3 decisions"):
        agent.act(observations()[...])
