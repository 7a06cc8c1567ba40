"""Episodes that begin with somebody else's: ``agent.reset(history=...)``."""

import math
from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents import TDMAgent, TransformerWorldModel, make_planner
from tdm_agents.agent.prompt import of_episode
from tdm_agents.data.decisions import Decisions
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.protocols import History, ModelSpec, Plan
from tdm_agents.testing import LinearQuadraticModel
from tdm_agents.world_models.transformer.config import TransformerConfig


class Model(LinearQuadraticModel):
    """The linear-quadratic model, with any spec, that keeps the histories it was given."""

    def __init__(self, **spec):
        super().__init__()
        self._spec = replace(self._spec, **spec)
        self.histories = []

    def start(self, history, *, horizon):
        self.histories.append(history)
        return super().start(history, horizon=horizon)


@dataclass(frozen=True)
class Idle:
    """Plans nothing, and keeps the elapsed that it was told."""

    horizon: int = 1
    told: tuple = ()

    def init(self, spec, batch):
        return None

    def plan(self, model, state, carry, *, elapsed, generator):
        for listener in self.told:
            listener.append(elapsed.tolist())
        sequence = torch.zeros(len(elapsed), 1, model.spec.action_dim)
        return Plan(sequence[:, 0], sequence, torch.zeros(len(elapsed)), None)


class Point(gym.Env):
    """Two steps an episode."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 2
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action):
        self.left -= 1
        return self.np_random.normal(size=2).astype(np.float32), 0.0, False, self.left == 0, {}


def history(steps=4, batch=1, seed=0, length=None):
    generator = torch.Generator().manual_seed(seed)
    return History(
        observation=torch.randn((batch, steps, 2), generator=generator),
        reward=torch.randn((batch, steps), generator=generator),
        action=torch.rand((batch, steps - 1, 1), generator=generator) * 2 - 1,
        length=torch.tensor(length or [steps] * batch),
    )


def observations(*shape, seed=5):
    return np.random.default_rng(seed).normal(size=(*shape, 2)).astype(np.float32)


def test_the_model_reads_the_prompt_as_what_went_before():
    model, past, obs, told = Model(history_steps=8), history(), observations(2), []
    agent = TDMAgent(model, Idle(told=(told,)))
    agent.reset(history=past)
    for o in obs:
        agent.act(o, reward=1.0)
    first, second = model.histories
    assert torch.equal(first.observation[0, :3], past.observation[0, :3])
    np.testing.assert_array_equal(first.observation[0, 3], obs[0])
    assert torch.equal(first.action, past.action) and first.length.tolist() == [4]
    assert torch.equal(first.reward[0, :3], past.reward[0, :3]) and first.reward[0, 3].isnan()
    assert second.length.tolist() == [5] and second.action[0, -1].item() == 0.0
    assert told == [[0], [1]]  # to the planner it is a new episode


@settings(max_examples=30, deadline=None)
@given(held=st.integers(1, 6), lengths=st.lists(st.integers(2, 5), min_size=2, max_size=2))
def test_of_a_long_prompt_the_last_steps_are_kept_and_of_a_short_one_all(held, lengths):
    model, past = Model(history_steps=held), history(5, 2, length=lengths)
    agent = TDMAgent(model, Idle())
    agent.reset(history=past)
    agent.act(observations(2))
    (seen,) = model.histories
    for row, length in enumerate(lengths):
        kept = min(length, held)
        assert seen.length[row] == kept
        assert torch.equal(seen.observation[row, -kept:-1], past.observation[row, -kept:-1])
        assert torch.equal(
            seen.action[row, seen.action.shape[1] - (kept - 1) :], past.action[row, 5 - kept :]
        )


def test_an_agent_goes_on_where_another_stood():
    models = [Model(history_steps=5) for _ in range(2)]
    first, second = (TDMAgent(m, make_planner("cem", horizon=3, num_samples=8, num_elites=2)) for m in models)
    first.reset()
    for o in observations(4):
        first.act(o, reward=0.5)
    second.reset(history=first.last_plan.history)
    second.act(observations(4)[-1])
    ours, theirs = models[0].histories[-1], models[1].histories[-1]
    torch.testing.assert_close(theirs.observation, ours.observation)
    torch.testing.assert_close(theirs.action, ours.action)


def lengths(model):
    return [h.length.tolist() for h in model.histories]


def test_every_later_episode_begins_with_it_until_it_is_taken_back():
    model = Model(history_steps=9)
    agent = TDMAgent(model, Idle())
    agent.reset(history=history())
    agent.act(observations(2))
    agent.act(observations(2), episode_start=[True, False])
    agent.reset(mask=[False, True])
    agent.act(observations(2))
    assert lengths(model) == [[4, 4], [4, 5], [5, 4]]
    agent.reset()
    agent.act(observations(2))
    assert model.histories[-1].length.tolist() == [1, 1]


def test_attached_environments_evaluations_and_predict_begin_with_it_too():
    model = Model(history_steps=9)
    agent = TDMAgent(model, Idle())
    agent.reset(history=history())
    envs = agent.attach(SyncVectorEnv([Point] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    obs, _ = envs.reset(seed=0)
    for _ in range(3):
        obs, *_ = envs.step(agent.act(obs))
    assert lengths(model) == [[4, 4], [5, 5], [4, 4]]
    envs.close()
    model.histories.clear()
    evaluate(agent, Point, [0, 1])
    assert lengths(model) == [[4, 4], [5, 5]]
    model.histories.clear()
    _, state = agent.predict(observations())
    agent.predict(observations(), state, [True])
    assert lengths(model) == [[4], [4]]


def test_a_prompted_policy_proposes_what_its_model_does_after_the_prompt():
    torch.manual_seed(0)
    spec = ModelSpec(Point.observation_space, Point.action_space, observation_dim=2, action_dim=1)
    model = TransformerWorldModel(spec, TransformerConfig(layers=1, width=16, heads=2, feedforward=16))
    data = torch.randn(64, 2)
    model.tokenizer.fit(data, 0.1 * data, data[:, 0])
    agent = TDMAgent(model.eval(), make_planner("policy"))
    past, obs = history(), observations()
    actions = []
    for prompt in (None, past, history(seed=1)):
        agent.reset(history=prompt)
        actions.append(agent.act(obs))
    now = replace(past, observation=past.observation.clone(), reward=past.reward.clone())
    now.observation[0, -1], now.reward[0, -1] = torch.from_numpy(obs), math.nan
    proposed = model.propose(model.start(now, horizon=1), 1, deterministic=True).actions[0, 0]
    np.testing.assert_array_equal(actions[1], proposed.numpy())
    assert len({float(a[0]) for a in actions}) > 1


def test_a_recorded_episode_is_a_prompt():
    past = history(4)
    reward = past.reward[0].numpy()
    action = np.concatenate([past.action[0].numpy(), np.zeros((1, 1), np.float32)])
    found = of_episode(Decisions(past.observation[0].numpy(), reward, action, np.ones(4, bool)))
    for name in ("observation", "reward", "action", "length"):
        assert torch.equal(getattr(found, name), getattr(past, name))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (replace(history(), observation=torch.zeros(1, 4, 3)), r"history.observation .*expected \(1, 4, 2\)"),
        (replace(history(), action=torch.zeros(1, 4, 1)), r"history.action has shape .*\(1, 3, 1\)"),
        (replace(history(), action=torch.zeros(1, 3, 1).long()), "int64; expected numbers in"),
        (replace(history(), action=torch.full((1, 3, 1), math.nan)), "history holds NaN or inf"),
        (history(length=[1]), r"history.length is \[1\] of 4 observations; expected at least 2"),
        (history(length=[5]), r"history.length is \[5\] of 4"),
    ],
)
def test_what_no_model_could_read_is_refused(prompt, message):
    with pytest.raises(ValueError, match=message):
        TDMAgent(Model(), Idle()).reset(history=prompt)


def test_other_numbers_of_environments_and_a_mask_are_refused():
    agent = TDMAgent(Model(), Idle())
    agent.reset(history=history(batch=2))
    with pytest.raises(ValueError, match="history is of 2 environments, but observations are of 3"):
        agent.act(observations(3))
    agent.act(observations(2))
    with pytest.raises(ValueError, match="mask and history"):
        agent.reset(mask=[True, False], history=history())
