"""Planning in the background: for the state that will be there, without touching what it should not."""

import threading
from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from tdm_agents import SimulatorModel, TDMAgent, make_planner
from tdm_agents.protocols import Deadline, Pace, Plan
from tdm_agents.testing import LinearQuadraticModel

PATIENCE = 60.0  # seconds, after which a test fails instead of hanging


class Masses(gym.Env):
    """The linear-quadratic model as an environment; an episode has 7 steps."""

    def __init__(self):
        self.model = LinearQuadraticModel()
        self.observation_space = self.model.spec.observation_space
        self.action_space = self.model.spec.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = self.np_random.normal(size=2).astype(np.float32), 0
        return self.at, {}

    def step(self, action):
        at, push = torch.from_numpy(self.at), torch.from_numpy(np.asarray(action, np.float32))
        self.at = (self.model.transition @ at + self.model.control @ push).numpy()
        self.steps += 1
        return self.at, -float(np.abs(self.at).sum()), False, self.steps == 7, {}


@dataclass(frozen=True)
class Where:
    at: Tensor  # [B, n], where the last plan began


@dataclass(frozen=True)
class Pushing:
    """Pushes towards 0 from where a plan begins, and keeps that place and ``elapsed`` in its statistics."""

    horizon: int = 4

    def init(self, spec, batch):
        return Where(torch.zeros(batch, spec.observation_dim))

    def plan(self, model, state, carry, *, elapsed, generator):
        at = state.read()
        sequence = (-at[:, :1]).clamp(-1, 1)[:, None] * torch.linspace(1.0, 0.4, self.horizon)[:, None]
        stats = {"position": float(at[0, 0]), "velocity": float(at[0, 1]), "elapsed": float(elapsed[0])}
        return Plan(sequence[:, 0], sequence, torch.zeros(len(at)), Where(at), stats)


class Gate:
    """A planner that is held back until it may make another plan, and can be told to fail."""

    def __init__(self, planner, plans=1000):
        self.inner, self.horizon, self.init = planner, planner.horizon, planner.init
        self.plans, self.error, self.threads = threading.Semaphore(plans), None, []

    def plan(self, model, state, carry, **given):
        self.threads.append(threading.current_thread().name)
        assert self.plans.acquire(timeout=PATIENCE)
        if self.error is not None:
            raise self.error
        return self.inner.plan(model, state, carry, **given)


@pytest.fixture
def attached():
    """Builder of agents that plan in the background, which are closed in the end."""
    made = []

    def build(model=None, planner=None, **changes):
        agent = TDMAgent(model or LinearQuadraticModel(), planner or Pushing(), **changes)
        made.append(agent)
        return agent, agent.attach(Masses(), background=True)

    yield build
    for agent in made:
        if isinstance(agent.planner, Gate):
            agent.planner.plans.release(1000)
        agent.close()


def planning_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tdm-plan")]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_plan_begins_where_the_loop_will_be(attached, every):
    agent, env = attached(replan_every=every)
    obs, _ = env.reset(seed=0)
    for step in range(7):
        there = obs
        obs, *_ = env.step(agent.act(obs))
        if step % every == 0:
            stats = agent.last_plan.plan.stats
            assert [stats["position"], stats["velocity"]] == pytest.approx(there.tolist(), abs=1e-5)
            assert stats["elapsed"] == (0 if step == 0 else every)


@pytest.mark.parametrize("every", [1, 2])
def test_with_exact_dynamics_it_acts_as_in_the_foreground(attached, every):
    agent, env = attached(replan_every=every)
    plain = TDMAgent(LinearQuadraticModel(), Pushing(), replan_every=every)
    other = plain.attach(Masses())
    for seed in (0, 1):
        (obs, _), (same, _) = env.reset(seed=seed), other.reset(seed=seed)
        over = False
        while not over:
            action = agent.act(obs)
            np.testing.assert_allclose(action, plain.act(same), atol=1e-5)
            obs, _, _, over, _ = env.step(action)
            same, *_ = other.step(action)


def test_the_same_seed_gives_the_same_actions(attached):
    planner = make_planner("cem", horizon=5, num_samples=16, iterations=2)
    found = []
    for _ in range(2):
        agent, env = attached(planner=planner, seed=3)
        obs, _ = env.reset(seed=0)
        actions = []
        for _ in range(6):
            actions.append(agent.act(obs))
            obs, *_ = env.step(actions[-1])
        found.append(np.stack(actions))
    np.testing.assert_array_equal(*found)


def test_the_loop_goes_on_while_it_plans_and_waits_where_it_has_to(attached):
    gate = Gate(Pushing(), plans=1)
    agent, env = attached(planner=gate)
    obs, _ = env.reset(seed=0)
    obs, *_ = env.step(agent.act(obs))  # the next plan is held back, and nobody waits
    acted = threading.Event()
    loop = threading.Thread(target=lambda: (agent.act(obs), acted.set()), daemon=True)
    loop.start()
    assert not acted.wait(0.05)
    gate.plans.release()
    assert acted.wait(PATIENCE)
    assert agent.last_plan.waited > 0.04
    assert gate.threads[0] == threading.main_thread().name
    assert all(name.startswith("tdm-plan") for name in gate.threads[1:])


def test_what_planning_raises_is_raised_by_the_loop(attached):
    gate = Gate(Pushing(), plans=1)
    agent, env = attached(planner=gate)
    obs, _ = env.reset(seed=0)
    action = agent.act(obs)
    gate.error = ValueError("no finite candidate")
    gate.plans.release()
    obs, *_ = env.step(action)
    with pytest.raises(ValueError, match="no finite candidate"):
        agent.act(obs)
    gate.error = None
    gate.plans.release(1000)
    agent.act(obs)  # the same decision, made in the foreground
    assert gate.threads[-2:].count(threading.main_thread().name) == 1


def test_a_plan_for_an_episode_that_is_over_is_given_up(attached):
    gate = Gate(Pushing())
    agent, env = attached(planner=gate)
    obs, _ = env.reset(seed=0)
    env.step(agent.act(obs))
    obs, _ = env.reset(seed=1)
    agent.act(obs)
    stats = agent.last_plan.plan.stats
    assert (stats["position"], stats["velocity"]) == (float(obs[0]), float(obs[1]))
    assert stats["elapsed"] == 0


@pytest.mark.parametrize("close", [lambda agent, env: env.close(), lambda agent, env: agent.close()])
def test_closing_ends_the_thread(attached, close):
    agent, env = attached()
    obs, _ = env.reset(seed=0)
    agent.act(obs)
    assert len(planning_threads()) == 1
    close(agent, env)
    assert planning_threads() == []
    agent.close()  # once more does no harm
    agent.reset()
    agent.act(obs)  # without an environment, in the foreground
    assert planning_threads() == []


def test_attaching_anew_ends_the_thread(attached):
    agent, env = attached()
    obs, _ = env.reset(seed=0)
    agent.act(obs)
    agent.attach(Masses())
    assert planning_threads() == []


def test_a_held_action_is_executed_as_often_as_the_model_says(attached):
    model = LinearQuadraticModel()
    model._spec = replace(model.spec, action_repeat=3)
    gate = Gate(Pushing())
    agent, env = attached(model=model, planner=gate)
    obs, _ = env.reset(seed=0)
    actions = []
    for _ in range(6):
        actions.append(float(agent.act(obs)[0]))
        obs, *_ = env.step(np.array([actions[-1]], np.float32))
    assert actions[0] == actions[1] == actions[2] != actions[3] == actions[4] == actions[5]
    assert len(gate.threads) <= 3  # of both decisions, and of the next one if it has begun


def test_a_deadline_holds_in_the_background(attached):
    now = [0.0]
    agent, env = attached(planner=make_planner("mppi", horizon=6, num_samples=16, iterations=3), deadline=0.5)
    from tdm_agents.agent import background

    made = background.make_plan(
        agent.model,
        agent.planner,
        agent.initial_memory(1).append(torch.ones(1, 2)).history(),
        agent.planner.init(agent.model.spec, 1),
        elapsed=torch.zeros(1, dtype=torch.int64),
        generator=torch.Generator().manual_seed(0),
        deadline=Deadline(0.5, Pace(), clock=lambda: now[0]),
        meanwhile=torch.zeros(1, 2, 1),
    )
    assert made.late == -0.5 and made.plan.stats["iterations"] == 3
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        obs, *_ = env.step(agent.act(obs))
    assert agent.last_plan.late < 0.5


def test_the_simulator_is_refused():
    env = gym.make("InvertedPendulum-v5")
    agent = TDMAgent(SimulatorModel(env), make_planner("cem"))
    with pytest.raises(TypeError, match="SimulatorModel, which reads the environment itself"):
        agent.attach(env, background=True)
    env.close()


def test_several_environments_are_refused():
    envs = gym.vector.SyncVectorEnv([Masses, Masses])
    agent = TDMAgent(LinearQuadraticModel(), Pushing())
    with pytest.raises(ValueError, match="2 environments; expected one: attach an agent of its own"):
        agent.attach(envs, background=True)
    agent.attach(envs).close()
