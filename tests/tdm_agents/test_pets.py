"""PETS: what its ensemble knows and does not know, its particles, and planning with it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import History, ModelSpec, UpdateSettings
from tdm_agents.registry import WORLD_MODELS, load, make_planner
from tdm_agents.testing import (
    LinearQuadraticModel,
    check_trainable_model,
    check_world_model,
    recorded_episodes,
)
from tdm_agents.world_models.bootstrap import bootstrap_weights
from tdm_agents.world_models.pets import PETS, PETSConfig

N, M = 2, 1
SPEC = ModelSpec(spaces.Box(-np.inf, np.inf, (N,)), spaces.Box(-1, 1, (M,)), N, M)
SMALL = PETSConfig(members=3, hidden=32, layers=2, particles=6)
STD = torch.tensor([0.05, 0.2])
"""Of the noise of the noisy system's two scalars."""


def model(seed=0, spec=SPEC, **changes):
    return PETS(spec, dataclasses.replace(SMALL, **changes), seed=seed)


def history(rows=3):
    observation = torch.randn((rows, N), generator=torch.Generator().manual_seed(5))
    return History.of_observation(observation, action_dim=M)


def noisy_system(episodes=200, steps=20, seed=0):
    """x' = .9 x + (a, -a) / 2 + noise; the reward is the first scalar."""
    generator = torch.Generator().manual_seed(seed)
    action = torch.rand((episodes, steps, M), generator=generator) * 2 - 1
    action[:, -1] = 0
    observation = torch.zeros(episodes, steps, N)
    observation[:, 0] = torch.randn((episodes, N), generator=generator)
    for t in range(steps - 1):
        noise = STD * torch.randn((episodes, N), generator=generator)
        observation[:, t + 1] = dynamics(observation[:, t], action[:, t]) + noise
    reward = observation[..., 0].clone()
    reward[:, 0] = math.nan
    flat = [x.flatten(0, 1).numpy() for x in (observation, reward, action)]
    info = TrajectoryInfo("", SPEC.observation_space, SPEC.action_space, 1, ())
    decisions = Decisions(*flat, np.ones(episodes * steps, bool))
    return Trajectories.from_arrays(decisions, offsets=np.arange(episodes + 1) * steps, info=info)


def dynamics(observation, action):
    return 0.9 * observation + torch.cat([action, -action], -1) / 2


def trained(some, data, steps):
    torch.set_num_threads(1)
    settings = UpdateSettings(steps=steps, learning_rate=1e-2, warmup_steps=10, weight_decay=1e-4)
    some.fit({"any": data})
    sampler, optimizers = WindowSampler(data, steps=8, batch_size=64, seed=0), some.optimizers(settings)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        some.update(sampler.batch(step), optimizers, step=step, settings=settings, generator=generator)
    return some.eval()


@pytest.fixture(scope="module")
def knowing():
    """Trained on the noisy system."""
    return trained(model(), noisy_system(), 400)


# -- contracts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("propagation", ["ts_inf", "ts1"])
@pytest.mark.parametrize("terminates", [False, True])
def test_it_keeps_the_contract_of_world_models(terminates, propagation):
    spec = dataclasses.replace(SPEC, terminates=terminates)
    check_world_model(model(spec=spec, propagation=propagation), history(), reads_history=False)


def test_it_keeps_the_contract_of_world_models_with_discrete_actions():
    simple = LinearQuadraticModel(choices=3)
    past = History.of_observation(torch.randn(3, 2), action_dim=1, discrete=True)
    check_world_model(model(spec=simple.spec), past)


def test_it_keeps_the_contract_of_learned_models():
    assert load(WORLD_MODELS, "pets") is PETS
    check_trainable_model(PETS, config=SMALL)


def test_particles_that_cannot_be_dealt_out_evenly_are_refused():
    with pytest.raises(ValueError, match=r"particles is 7; expected a multiple of members, which is 3"):
        dataclasses.replace(SMALL, particles=7)
    with pytest.raises(ValueError, match=r"propagation is 'ts2'; expected one of ts_inf, ts1"):
        dataclasses.replace(SMALL, propagation="ts2")


# -- the ensemble --------------------------------------------------------------------------------------------


def test_the_members_are_computed_as_each_by_itself():
    some = model(seed=1)
    x = torch.randn(3, 7, 3)
    means, variances, logits = some.ensemble(x)
    for member in range(3):
        h = x[member]
        for index, layer in enumerate(some.ensemble.layers):
            h = h @ layer.weight[member] + layer.bias[member]
            h = torch.nn.functional.silu(h) if index < 2 else h
        torch.testing.assert_close(means[member], h[:, :3])
        torch.testing.assert_close(variances[member], some.ensemble.bounded(h[:, 3:6]))
        torch.testing.assert_close(logits[member], h[:, 6])
    assert (means[0] - means[1]).abs().max() > 1e-3


def test_log_variances_stay_within_their_learned_bounds(knowing):
    ensemble = knowing.ensemble
    low, high = ensemble.min_log_variance, ensemble.max_log_variance
    extreme = torch.linspace(-1e4, 1e4, 101)[:, None].expand(-1, N + 1)
    bounded = ensemble.bounded(extreme)
    slack = torch.log1p(torch.exp(low - high)) + 1e-5
    assert (bounded >= low - 1e-5).all() and (bounded <= high + slack).all()
    assert (bounded.diff(dim=0) >= 0).all()
    torch.testing.assert_close(bounded[0], low)
    assert ensemble.width_of_bounds() < model().ensemble.width_of_bounds()  # the penalty works


def test_the_learned_variance_is_that_of_the_noise(knowing):
    now = torch.randn((500, N), generator=torch.Generator().manual_seed(9))
    _, log_variance, _ = knowing.distribution(0.3 * now, torch.zeros(500, M))
    std = (0.5 * log_variance).exp()[..., :N] * knowing.output_scale[:N]  # [E, R, n]
    torch.testing.assert_close(std.mean((0, 1)), STD, rtol=0.15, atol=0.0)


def test_the_spread_of_particles_after_a_step_is_that_of_the_noise(knowing):
    state = knowing.start(History.of_observation(torch.zeros(2000, N), action_dim=M), horizon=1)
    state, step = knowing.step(state, torch.full((2000, M), 0.4), generator=torch.Generator().manual_seed(1))
    particles, _ = state.read()
    torch.testing.assert_close(particles.flatten(0, 1).std(0), STD, rtol=0.2, atol=0.0)
    expected = dynamics(torch.zeros(N), torch.full((M,), 0.4))
    torch.testing.assert_close(step.observation.mean(0), expected, rtol=0.0, atol=0.03)
    torch.testing.assert_close(step.reward.mean(), expected[0], rtol=0.0, atol=0.03)


def test_what_is_not_known_far_from_the_data_shows_as_variance(knowing):
    def variances(distance):
        angle = torch.linspace(0, 2 * math.pi, 33)[:-1]
        now = distance * torch.stack([angle.cos(), angle.sin()], 1)
        mean, log_variance, _ = knowing.distribution(now, torch.zeros(32, M))
        between, within = mean.var(0), log_variance.exp().mean(0)
        return between[:, :N].mean().item(), (between + within)[:, :N].mean().item()

    (between_home, home), (between_away, away), (between_far, far) = map(variances, (0.5, 5.0, 20.0))
    assert between_away > 5 * between_home and between_far > 5 * between_away  # the members disagree
    assert away > 1.1 * home and far > 2 * away


# -- bootstrap -----------------------------------------------------------------------------------------------


def test_bootstrap_weights_are_poisson_independent_between_members_and_fixed():
    transitions = torch.randn((40_000, 4), generator=torch.Generator().manual_seed(0))
    weights = bootstrap_weights(transitions, 3)
    shares = torch.stack([(weights == count).float().mean(1) for count in range(4)])
    expected = torch.tensor([math.exp(-1) / math.factorial(c) for c in range(4)])
    torch.testing.assert_close(shares, expected[:, None].expand(-1, 3), rtol=0.0, atol=0.01)
    correlation = torch.corrcoef(weights) - torch.eye(3)
    assert correlation.abs().max() < 0.02
    order = torch.randperm(40_000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(bootstrap_weights(transitions[order], 3), weights[:, order])


def test_neighbouring_numbers_have_unrelated_weights():
    line = torch.arange(20_000.0)[:, None] / 1000
    weights = bootstrap_weights(line, 2)
    lagged = torch.corrcoef(torch.stack([weights[0, 1:], weights[0, :-1]]))[0, 1]
    assert abs(lagged) < 0.03
    assert abs(weights.mean() - 1) < 0.03


def test_members_weigh_transitions_in_training_and_not_when_held_out():
    data = noisy_system(episodes=10)
    some = model()
    some.fit({"any": data})
    batch = WindowSampler(data, steps=8, batch_size=16, seed=0).batch(0)
    training, _ = some(batch, generator=torch.Generator())
    again, _ = some(batch, generator=torch.Generator().manual_seed(7))
    held_out, _ = some(batch, generator=None)
    assert torch.equal(training, again)
    assert training != held_out


# -- particles -----------------------------------------------------------------------------------------------


def contrary(propagation, terminates=False, particles=6):
    """Members without noise of which each moves a particle by its own number: 1, 2, 3."""
    some = model(
        spec=dataclasses.replace(SPEC, terminates=terminates), propagation=propagation, particles=particles
    )
    last = some.ensemble.layers[-1]
    with torch.no_grad():
        some.ensemble.min_log_variance.fill_(-60.0)
        last.weight.zero_()
        last.bias.zero_()
        last.bias[:, : N + 1] = torch.tensor([1.0, 2.0, 3.0])[:, None]  # changes and reward
        last.bias[:, N + 1 : 2 * N + 2] = -1e3  # log-variances
        last.bias[:, -1] = torch.tensor([1.0, 1.0, -1.0])  # the third one ends
    return some


def moved(some, steps, rows=400):
    """Particles ``[rows, P]`` after some steps from 0."""
    generator = torch.Generator().manual_seed(0)
    state = some.start(History.of_observation(torch.zeros(rows, N), action_dim=M), horizon=steps)
    for _ in range(steps):
        state, step = some.step(state, torch.zeros(rows, M), generator=generator)
    return state.read()[0][..., 0], step


def test_a_particle_keeps_its_member_for_ever():
    particles, step = moved(contrary("ts_inf"), 10)
    assert torch.equal(particles.round(), torch.tensor([10.0, 10, 20, 20, 30, 30]).expand(400, -1))
    torch.testing.assert_close(step.observation, torch.full((400, N), 20.0))
    torch.testing.assert_close(step.reward, torch.full((400,), 2.0))


def test_particles_are_dealt_out_anew_at_every_step():
    particles, step = moved(contrary("ts1"), 10)
    torch.testing.assert_close(step.observation, torch.full((400, N), 20.0))  # evenly, every time
    # ten independent draws from {1, 2, 3} of variance 2/3, where one member for ever has 100 times that
    assert particles.var().item() == pytest.approx(10 * 2 / 3, rel=0.15)
    assert moved(contrary("ts_inf"), 10)[0].var().item() == pytest.approx(100 * 2 / 3, rel=0.01)


def test_an_ended_particle_earns_nothing_and_stays_where_it_ended():
    some = contrary("ts_inf", terminates=True)
    particles, step = moved(some, 1)
    assert step.alive.all()
    assert torch.equal(particles[0].round(), torch.tensor([1.0, 1, 2, 2, 3, 3]))
    torch.testing.assert_close(step.reward, torch.full((400,), 2.0))  # what leads to the end is earned
    particles, step = moved(some, 4)
    assert step.alive.all()  # two thirds live
    assert torch.equal(particles[0].round(), torch.tensor([4.0, 4, 8, 8, 3, 3]))
    torch.testing.assert_close(step.reward, torch.full((400,), (1 + 2 + 0) / 3))


def test_a_row_ends_with_more_than_half_of_its_particles():
    some = contrary("ts_inf", terminates=True)
    with torch.no_grad():
        some.ensemble.layers[-1].bias[1, -1] = -1.0
    assert not moved(some, 1)[1].alive.any()


@pytest.mark.parametrize("hidden", [16, 256])
def test_a_row_takes_as_much_memory_as_it_says(hidden):
    some = model(hidden=hidden, particles=12)
    rows, horizon = 2000, 10
    state = some.take(some.start(history(1), horizon=horizon), torch.zeros(rows, dtype=torch.int64))
    with torch.profiler.profile(profile_memory=True) as profile:
        some.rollout(state, torch.zeros(rows, horizon, M), generator=torch.Generator().manual_seed(0))
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = torch.tensor([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    most = changes.cumsum(0).max().item()
    said = rows * some.row_bytes(some.start(history(1), horizon=horizon), horizon=horizon)
    assert 0.5 * said < most < 1.1 * said


def test_a_planner_keeps_to_its_budget_of_memory():
    class Counting(PETS):
        most = 0

        def step(self, state, action, *, generator=None):
            self.most = max(self.most, len(action))
            return super().step(state, action, generator=generator)

    some = Counting(SPEC, SMALL)
    state = some.start(history(1), horizon=5)
    row = some.row_bytes(state, horizon=5)
    planner = make_planner("mppi", horizon=5, num_samples=32, max_memory=10.5 * row / 2**30)
    carry = planner.init(some.spec, 1)
    generator = torch.Generator().manual_seed(0)
    planner.plan(some, state, carry, elapsed=torch.zeros(1, dtype=torch.int64), generator=generator)
    assert some.most == 10


def test_the_same_weights_imagine_with_other_particles(knowing):
    other = knowing.with_sampling(particles=30, propagation="ts1")
    assert (other.config.particles, other.config.propagation) == (30, "ts1")
    assert other.config == dataclasses.replace(knowing.config, particles=30, propagation="ts1")
    assert knowing.config == SMALL and other.ensemble is knowing.ensemble
    assert other.start(history(), horizon=1).read()[0].shape == (3, 30, N)


# -- presets and planning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "network", "search"),
    [("paper-cartpole", (500, 3), (400, 40, 25)), ("paper-halfcheetah", (200, 4), (500, 50, 30))],
)
def test_a_paper_preset_is_what_the_paper_says(name, network, search):
    preset = PETS.presets()[name]
    assert (preset.config.hidden, preset.config.layers) == network
    assert (preset.config.members, preset.config.particles, preset.config.propagation) == (5, 20, "ts_inf")
    planner = make_planner(preset.planner, **preset.planner_settings)
    assert (planner.num_samples, planner.num_elites, planner.horizon) == search
    assert (planner.iterations, planner.momentum, preset.action_repeat) == (5, 0.1, 1)


@pytest.mark.parametrize("propagation", ["ts_inf", "ts1"])
@pytest.mark.parametrize(
    ("planner", "settings"),
    [("mppi", {}), ("cem", {"num_samples": 40, "num_elites": 6, "execute": "mean"})],
)
def test_planning_with_it_is_better_than_chance(planned_with, planner, settings, propagation):
    world = LinearQuadraticModel()
    some = planned_with.with_sampling(propagation=propagation)
    search = make_planner(planner, horizon=6, iterations=3, **settings)
    generator = torch.Generator().manual_seed(0)
    start = torch.rand((8, 2), generator=generator) * 2 - 1

    def earned(choose, steps=8):
        state = world.start(History.of_observation(start, action_dim=1), horizon=1)
        observation, total = start, 0.0
        for _ in range(steps):
            state, step = world.step(state, choose(observation))
            observation, total = step.observation, total + step.reward.mean().item()
        return total

    carry = search.init(some.spec, 8)
    elapsed = torch.zeros(8, dtype=torch.int64)

    def planned(observation):
        nonlocal carry
        history = History.of_observation(observation, action_dim=1)
        state = some.start(history, horizon=search.horizon)
        plan = search.plan(some, state, carry, elapsed=elapsed, generator=generator)
        carry, elapsed[:] = plan.carry, 1
        return plan.action

    chance = earned(lambda _: torch.rand((8, 1), generator=generator) * 2 - 1)
    best = world.optimum(start, 8)[1].mean().item()
    assert earned(planned) > best + 0.2 * (chance - best)  # four fifths of the way at least


@pytest.fixture(scope="module")
def planned_with():
    data = recorded_episodes(episodes=100, steps=20)
    return trained(PETS(data.spec, SMALL), data, 400)
