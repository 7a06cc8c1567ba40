"""Implicit Q-learning: its losses, what it learns in a chain whose best Q is known, contracts, resuming."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rich.console import Console

from tdm_agents import TDMAgent, make_planner
from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import Batch, HasProposal, HasValue, History, UpdateSettings
from tdm_agents.registry import WORLD_MODELS, load
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.testing import (
    LinearQuadraticModel,
    check_trainable_model,
    check_world_model,
    recorded_episodes,
)
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import train
from tdm_agents.world_models.iql.iql_config import PRESETS, IQLConfig
from tdm_agents.world_models.iql.iql_losses import advantage_weight, expectile_loss, q_target
from tdm_agents.world_models.iql.iql_model import IQL

TINY = IQLConfig(hidden=8, layers=1, iql_hidden=32, iql_layers=1, iql_rate=3e-3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# -- losses --------------------------------------------------------------------------------------------------


def test_the_expectile_loss_weighs_what_is_above_and_what_is_below():
    difference = torch.tensor([2.0, -2.0, 0.0])
    torch.testing.assert_close(expectile_loss(difference, 0.7), torch.tensor([0.7 * 4, 0.3 * 4, 0.0]))
    torch.testing.assert_close(expectile_loss(difference, 0.5), 0.5 * difference.square())


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_what_minimises_it_is_the_expectile(expectile):
    drawn = torch.randn(20_001, generator=seeded())
    candidates = torch.linspace(-2, 2, 401)
    losses = torch.stack([expectile_loss(drawn - c, expectile).mean() for c in candidates])
    best = candidates[losses.argmin()]
    above, below = (drawn - best).clamp(min=0).mean(), (best - drawn).clamp(min=0).mean()
    assert (expectile * above).item() == pytest.approx(((1 - expectile) * below).item(), rel=0.05)


def test_advantages_weigh_exponentially_and_at_most_a_hundred():
    advantage = torch.tensor([-1.0, 0.0, 1.0, 2.0, 1e6])
    expected = torch.tensor([np.exp(-3.0), 1.0, np.exp(3.0), 100.0, 100.0], dtype=torch.float32)
    torch.testing.assert_close(advantage_weight(advantage, 3.0), expected)
    assert (advantage_weight(advantage, 0.0) == 1.0).all()  # behaviour cloning


def test_a_termination_stops_the_value_and_nothing_else_does():
    target = q_target(torch.tensor([1.0, 1.0]), torch.tensor([True, False]), torch.tensor([10.0, 10.0]), 0.9)
    torch.testing.assert_close(target, torch.tensor([10.0, 1.0]))


# -- a chain -------------------------------------------------------------------------------------------------

PLACES, GAMMA = 5, 0.8
BEST = GAMMA ** np.arange(PLACES - 2, -1, -1)  # V* of all places but the last, where the episode ends


def chain(episodes: int = 100) -> Trajectories:
    """Random walks from 0 to the last place, at which a reward of 1 arrives and the episode terminates."""
    rng, rows, starts = np.random.default_rng(0), [], [0]
    for _ in range(episodes):
        place, reward = 0, np.nan
        while True:
            action = int(rng.integers(2))
            rows.append((place, reward, action, place < PLACES - 1))
            if place == PLACES - 1:
                break
            place = place + 1 if action else max(place - 1, 0)
            reward = float(place == PLACES - 1)
        starts.append(len(rows))
    places, rewards, actions, alive = map(np.array, zip(*rows, strict=True))
    flat = Decisions(
        np.eye(PLACES, dtype=np.float32)[places], rewards.astype(np.float32), actions[:, None], alive
    )
    info = TrajectoryInfo(
        "",
        spaces.Box(0.0, 1.0, (PLACES,)),
        spaces.Discrete(2),
        1,
        ("chain",),
    )
    return Trajectories.from_arrays(flat, offsets=np.array(starts), info=info)


def learned(data, steps=700, **settings):
    config = dataclasses.replace(TINY, discount=GAMMA, reward_scale=1.0, tau=0.05, **settings)
    model = IQL(data.spec, config)
    model.fit({"chain": data})
    run = UpdateSettings(steps=steps, warmup_steps=0)
    sampler = WindowSampler(data, steps=8, batch_size=16, seed=0)
    optimizers = model.optimizers(run)
    for step in range(steps):
        model.update(sampler.batch(step), optimizers, step=step, settings=run, generator=seeded())
    return model


def at_places(model):
    every = torch.eye(PLACES)[:-1]
    return model.start(History.of_observation(every, action_dim=1, discrete=True), horizon=1)


def test_the_value_approaches_the_best_as_the_expectile_approaches_1():
    model = learned(chain(), expectile=0.98)
    values = model.value(at_places(model)).numpy()
    np.testing.assert_allclose(values, BEST, atol=0.05)
    mean = learned(chain(), expectile=0.5)  # the value of a random walk
    assert (mean.value(at_places(mean)).numpy() < BEST - 0.1)[:-1].all()
    right = torch.ones(PLACES - 1, 1, dtype=torch.int64)
    with torch.no_grad():
        q = model.learned.both_qs(model.inputs(torch.eye(PLACES)[:-1], right)).numpy()
    np.testing.assert_allclose(q, np.stack([BEST, BEST]), atol=0.05)
    likeliest = model.propose(at_places(model), 1, deterministic=True).actions
    assert (likeliest == 1).all()  # though every other action of the data leads back


def test_the_value_goes_on_where_an_episode_was_only_cut_off():
    model = IQL(chain().spec, dataclasses.replace(TINY, reward_scale=1.0))
    observation = torch.eye(PLACES)[None, -2:]
    step = torch.tensor([[True, False]])
    alive = torch.tensor([[True, False]])
    batch = Batch(
        observation,
        torch.tensor([[torch.nan, 1.0]]),
        step.long()[..., None],
        alive,
        torch.ones_like(step),
        step,
    )
    with torch.no_grad():
        q = model.learned.both_qs(model.inputs(observation[:, 0], batch.action[:, 0]))
        after = model.learned.values(observation[:, 1])
    for ends, beyond in ((True, 0.0), (False, 0.99 * after)):
        _, losses = model(dataclasses.replace(batch, alive=alive if ends else batch.valid))
        torch.testing.assert_close(losses["q"], (q - 1.0 - beyond).square().sum())


def test_the_value_is_in_the_units_of_the_reward():
    data = chain()
    model = IQL(data.spec, dataclasses.replace(TINY, reward_scale=None))
    model.fit({"chain": data})
    # every return is 1, so there is nothing to scale by
    assert model.reward_scale == 1.0
    data = recorded_episodes()
    model = IQL(data.spec, TINY)
    model.fit({"any": data})
    returns = [float(np.nansum(e.reward)) for e in data.iterate()]
    assert model.reward_scale.item() == pytest.approx(19 / (max(returns) - min(returns)))
    state = model.start(
        History.of_observation(torch.zeros(1, data.spec.observation_dim), action_dim=1), horizon=1
    )
    before = model.value(state)
    model.reward_scale.mul_(2.0)
    torch.testing.assert_close(model.value(state), before / 2.0)


def test_a_shift_counts_in_every_reward():
    data = chain()
    batch = WindowSampler(data, steps=8, batch_size=16, seed=0).batch(0)
    plain = IQL(data.spec, dataclasses.replace(TINY, reward_scale=1.0))
    shifted = IQL(data.spec, dataclasses.replace(TINY, reward_scale=1.0, reward_shift=-1.0))
    reward = batch.reward - 1.0
    _, one = plain(dataclasses.replace(batch, reward=reward))
    _, other = shifted(batch)
    assert one["q"] == other["q"] and one["reward"] != other["reward"]  # the dynamics predict what is there


# -- contracts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", [None, 3])
def test_it_keeps_both_contracts(choices):
    check_trainable_model(
        IQL, config=TINY, data={"one": recorded_episodes(model=LinearQuadraticModel(choices=choices))}
    )
    action = spaces.Box(-1.0, 1.0, (2,)) if choices is None else spaces.MultiDiscrete([3, 2])
    model = IQL(spec_of(spaces.Box(-1.0, 1.0, (3,)), action), TINY)
    now = torch.randn(4, 3, generator=seeded())
    check_world_model(model, History.of_observation(now, action_dim=2, discrete=choices is not None))
    assert isinstance(model, HasProposal) and isinstance(model, HasValue)
    assert load(WORLD_MODELS, "iql") is IQL


def test_a_run_that_goes_on_ends_with_the_same_bits(tmp_path):
    data = recorded_episodes()
    config = TrainConfig(steps=20, batch_size=4, window_steps=5, warmup_steps=2, checkpoint_every=10)

    def run(folder, steps_first=None):
        model = IQL.build({"any": data.spec}, TINY, seed=0)
        model.fit({"any": data})
        sampler = WindowSampler(data, steps=5, batch_size=4, seed=0)
        if steps_first is not None:

            class Stops:
                def batch(self, index):
                    if index == steps_first:
                        raise KeyboardInterrupt
                    return sampler.batch(index)

            with pytest.raises(KeyboardInterrupt):
                train(model, Stops(), None, config, folder, console=Console(file=io.StringIO()))
            model = IQL.build({"any": data.spec}, TINY, seed=1)
        train(model, sampler, None, config, folder, console=Console(file=io.StringIO()))
        return IQL.load(folder).state_dict()

    whole, stopped = run(tmp_path / "whole"), run(tmp_path / "stopped", steps_first=13)
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_an_agent_of_it_acts_by_the_policy_and_plans_with_the_value(tmp_path):
    model = IQL(spec_of(spaces.Box(-1.0, 1.0, (3,)), spaces.Box(-1.0, 1.0, (2,))), TINY)
    agent = TDMAgent(model, make_planner("policy"))
    agent.save(tmp_path)
    loaded = TDMAgent.load(tmp_path)
    now = np.array([0.1, -0.2, 0.3], np.float32)
    for one in (agent, loaded):
        one.reset()
    assert (agent.act(now) == loaded.act(now)).all()
    planned = TDMAgent.load(tmp_path, planner="mppi", horizon=3, num_samples=16, num_policy=4)
    planned.reset()
    assert planned.act(now).shape == (2,)


def test_the_paper_has_two_sets_of_settings():
    assert (PRESETS["locomotion"].config.expectile, PRESETS["locomotion"].config.beta) == (0.7, 3.0)
    sparse = PRESETS["antmaze"].config
    assert (sparse.expectile, sparse.beta, sparse.reward_shift, sparse.reward_scale) == (0.9, 10.0, -1.0, 1.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"iql_hidden": 0},
        {"iql_layers": 1001},
        {"iql_rate": 0.0},
        {"expectile": 1.0},
        {"beta": -1.0},
        {"discount": 1.0},
        {"tau": 0.0},
        {"reward_scale": 0.0},
        {"reward_shift": float("nan")},
        {"hidden": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is .*expected"):
        IQLConfig(**settings)
