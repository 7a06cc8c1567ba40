"""Ends: learned, foreseen, and planned around."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tdm_agents.data.decisions import Decisions, decisions
from tdm_agents.data.play import play
from tdm_agents.data.policies import PlannerPolicy, RandomPolicy
from tdm_agents.data.portion import Portion
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import HasRollout, History, ModelSpec, Step, looped_rollout, rollout
from tdm_agents.registry import make_planner
from tdm_agents.spaces import ActionCodec
from tdm_agents.training.ends import end_prediction
from tdm_agents.training.held_out import Evaluator
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig
from tdm_agents.wrappers import RewardFunction, WithoutAlive

OBSERVATION = spaces.Box(-np.inf, np.inf, (2,), np.float32)
ACTION = spaces.Box(-1.0, 1.0, (1,), np.float32)
SPEC = ModelSpec(OBSERVATION, ACTION, 2, 1, terminates=True)
STRIDE = 0.5


@dataclass(frozen=True)
class Cliff:
    """A walk ``x' = x + a / 2`` that earns ``x'`` and ends beyond an edge, though more could be imagined.

    Attributes:
        edge: Where it ends.
    """

    edge: float = 1.25

    @property
    def spec(self):
        return SPEC

    def start(self, history, *, horizon):
        return history.observation[:, -1].clone()

    def step(self, state, action, *, generator=None):
        after = torch.stack([state[:, 0] + STRIDE * action[:, 0], state[:, 0]], dim=1)
        return after, Step(after, after[:, 0], after[:, 0] <= self.edge)

    def take(self, state, rows):
        return state[rows]


class RollingCliff(Cliff):
    def rollout(self, state, actions, *, generator=None):
        return looped_rollout(Cliff(self.edge), state, actions)


def walks(episodes=60, steps=12, seed=0, *, edge=1.25):
    """Random walks on multiples of the stride; some are cut off after ``steps``, many end."""
    rng = np.random.default_rng(seed)
    parts, offsets = [], [0]
    for _ in range(episodes):
        x = [STRIDE * rng.integers(-3, 3)]
        actions = []
        while len(actions) < steps and x[-1] <= edge:
            actions.append(rng.integers(-1, 2))
            x.append(x[-1] + STRIDE * actions[-1])
        x = np.array(x, np.float32)
        observation = np.stack([x, np.concatenate([x[:1], x[:-1]])], axis=1)
        reward = np.concatenate([[np.nan], x[1:]]).astype(np.float32)
        action = np.array([*actions, 0.0], np.float32)[:, None]
        parts.append((observation, reward, action, x <= edge))
        offsets.append(offsets[-1] + len(x))
    arrays = Decisions(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    info = TrajectoryInfo("", OBSERVATION, ACTION, 1, ())
    return Trajectories.from_arrays(arrays, offsets=np.array(offsets), info=info)


@pytest.mark.parametrize("policy", [RandomPolicy(), PlannerPolicy(settings={"horizon": 2, "num_samples": 4})])
def test_collected_episodes_end_where_the_environment_ended_them_alone(policy):
    def episode(max_steps, seed):
        portion = Portion(
            env_id="InvertedPendulum-v5", mix=((policy, 1),), action_repeat=3, seed=seed, max_steps=max_steps
        )
        env = portion.make_env()
        played = play(env, portion, policy, 0)
        return played, decisions(played, ActionCodec(env.action_space), action_repeat=3)

    ended = [episode(40, seed) for seed in range(6)]
    assert any(raw.terminated for raw, _ in ended)
    for raw, steps in ended:
        assert steps.alive[:-1].all() and steps.alive[-1] == (not raw.terminated)
        if raw.terminated:  # also where the environment ended in the middle of a decision
            np.testing.assert_array_equal(steps.observation[-1], raw.observation[-1])
            assert np.nansum(steps.reward) == raw.reward.sum()
    cut, steps = episode(3, 0)
    assert not cut.terminated and steps.alive.all()


def small_mlp():
    return MLPWorldModel(SPEC, MLPConfig(hidden=32, layers=2))


def small_transformer():
    config = TransformerConfig(
        layers=1, width=32, heads=2, feedforward=32, context=20, tokenizer=TokenizerConfig(bins=64)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TransformerWorldModel(SPEC, config)


@pytest.mark.parametrize("make", [small_mlp, small_transformer])
def test_ends_are_learned_from_windows_as_they_come(make):
    model, data = make(), walks()
    model.fit({"any": data})
    sampler = WindowSampler(data, steps=6, batch_size=32, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for index in range(200):
        loss, _ = model(sampler.batch(index), generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    found = end_prediction(model, walks(seed=1), horizons=(1, 3), context_steps=3)
    assert found["foreseen@1"] > 0.9
    assert found["false_ends@1"] < 0.05
    assert found["foreseen@3"] > 0.9
    assert found["false_ends@3"] < 0.05


def test_foreseen_and_false_ends_of_models_that_know_or_do_not():
    data = walks()
    perfect = end_prediction(Cliff(), data, horizons=(1, 4), starts=500)
    assert perfect == {"foreseen@1": 1.0, "false_ends@1": 0.0, "foreseen@4": 1.0, "false_ends@4": 0.0}
    blind = end_prediction(WithoutAlive(Cliff()), data, horizons=(1, 4))
    assert set(blind.values()) == {0.0}
    gloomy = end_prediction(Cliff(edge=-99.0), data, horizons=(1, 4))
    assert set(gloomy.values()) == {1.0}


def test_every_recorded_end_and_no_step_behind_one_is_asked_about():
    asked = []

    class Asking(Cliff):
        def start(self, history, *, horizon):
            asked.append((horizon, history))
            return super().start(history, horizon=horizon)

    data = walks(episodes=30)
    ended = [data.episode(e) for e in range(30) if not data.episode(e).alive[-1]]
    end_prediction(Asking(), data, horizons=(2,), starts=500, context_steps=4)
    (_, before), (_, others) = asked
    long_enough = [e for e in ended if len(e.reward) > 2]
    assert before.batch == len(long_enough)
    assert sorted(before.observation[:, -1, 0].tolist()) == sorted(
        float(e.observation[-3, 0]) for e in long_enough
    )
    lengths = data.episodes[:, 2] - 1
    assert others.batch == sum(max(0, n - 2 + data.episode(e).alive[-1]) for e, n in enumerate(lengths))


def test_data_without_ends_leave_only_false_ends_to_ask_about():
    data = walks(edge=99.0)
    assert end_prediction(Cliff(edge=99.0), data, horizons=(2, 50)) == {"false_ends@2": 0.0}


def test_the_evaluator_reports_them_for_models_that_end_alone():
    config = TrainConfig(horizons=(1, 2), starts=8, context_steps=2, window_steps=4, evaluate_batches=1)
    evaluator = Evaluator(walks(), config)
    mortal, immortal = small_mlp(), MLPWorldModel(replace(SPEC, terminates=False), MLPConfig(hidden=8))
    names = {f"ends/{name}@{h}" for name in ("foreseen", "false_ends") for h in (1, 2)}
    assert names <= set(evaluator(mortal))
    assert not any(name.startswith("ends/") for name in evaluator(immortal))


PLANNERS = [
    make_planner("random_shooting", horizon=6, num_samples=128),
    make_planner("cem", horizon=6, num_samples=64),
    make_planner("mppi", horizon=6, num_samples=64),
    make_planner("beam_search", horizon=6),
]


def planned(planner, model):
    """Where a plan that begins at 0 leads, and what it is worth on the cliff."""
    history = History.of_observation(torch.zeros(1, 2), action_dim=1)
    plan = planner.plan(
        model,
        model.start(history, horizon=planner.horizon),
        planner.init(model.spec, 1),
        elapsed=torch.zeros(1, dtype=torch.int64),
        generator=torch.Generator().manual_seed(0),
    )
    world = Cliff()
    led = rollout(world, world.start(history, horizon=planner.horizon), plan.sequence)
    lived = torch.cat([torch.ones(1, 1, dtype=torch.bool), led.alive[:, :-1]], dim=1)
    return led.observation[0, :, 0], float((led.reward * lived).sum())


@pytest.mark.parametrize("planner", PLANNERS, ids=lambda planner: type(planner).__name__)
def test_a_planner_stops_before_an_end_that_it_would_walk_over_without_alive(planner):
    led, worth = planned(planner, Cliff())
    over, lost = planned(planner, WithoutAlive(Cliff()))
    assert led[: planner.horizon // 2].max() <= 1.25
    assert over[: planner.horizon // 2 + 1].max() > 1.25
    assert worth > lost


@pytest.mark.parametrize("inner", [Cliff(), RollingCliff()])
def test_without_alive_changes_nothing_else(inner):
    model = WithoutAlive(inner)
    history = History.of_observation(torch.zeros(3, 2), action_dim=1)
    actions = torch.tensor([-1.0, 0.5, 1.0])[:, None, None].expand(3, 5, 1)
    truth = rollout(inner, inner.start(history, horizon=5), actions)
    blind = rollout(model, model.start(history, horizon=5), actions)
    assert not truth.alive.all() and blind.alive.all()
    assert torch.equal(blind.observation, truth.observation)
    assert torch.equal(blind.reward, truth.reward)
    assert isinstance(model, HasRollout) == isinstance(inner, HasRollout)
    assert model.spec == replace(inner.spec, terminates=False)
    rewarded = RewardFunction(model, lambda o, a, o2: o2[:, 0])
    assert rollout(rewarded, rewarded.start(history, horizon=5), actions).alive.all()
