"""Shooting planners over discrete actions, and the categorical distribution that they refit."""

from dataclasses import replace

import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.protocols import History
from tdm_agents.registry import make_planner
from tdm_agents.testing import LinearQuadraticModel, check_planner
from tdm_planners.cem import CEM
from tdm_planners.distributions import Categorical
from tdm_planners.mppi import MPPI
from tdm_planners.random_shooting import RandomShooting

HORIZON = 6
STARTS = torch.tensor([[0.5, 0.2], [-0.4, 0.3], [0.2, 0.0]])
SEARCH = {"num_samples": 128, "iterations": 8}


def spec_of(*choices):
    spec = LinearQuadraticModel(action_dim=len(choices), choices=2).spec
    return replace(spec, action_space=spaces.MultiDiscrete(choices), action_choices=choices)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(*choices, batch=2, horizon=3):
    sequence = torch.zeros(batch, horizon, len(choices), dtype=torch.int64)
    return Categorical.around(sequence, spec_of(*choices), uniform_share=torch.ones(batch))


def plan(planner, model, *, carry=None, elapsed=0, seed=0, starts=STARTS, discrete=True):
    history = History.of_observation(starts, action_dim=model.spec.action_dim, discrete=discrete)
    return planner.plan(
        model,
        model.start(history, horizon=planner.horizon),
        planner.init(model.spec, len(starts)) if carry is None else carry,
        elapsed=torch.full((len(starts),), elapsed),
        generator=generator(seed),
    )


def value_of(sequence, model, starts=STARTS, discrete=True):
    state = model.start(History.of_observation(starts, action_dim=1, discrete=discrete), horizon=HORIZON)
    total = torch.zeros(len(starts))
    for t in range(HORIZON):
        state, step = model.step(state, sequence[:, t])
        total += step.reward
    return total


# -- planners ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", [2, 3, 5])
@pytest.mark.parametrize("name", ["cem", "mppi", "random_shooting"])
def test_the_contract_holds_with_discrete_actions(name, choices):
    check_planner(
        lambda **s: make_planner(name, **s),
        model=LinearQuadraticModel(choices=choices),
        search={"num_samples": 1024, "iterations": 3} if name == "random_shooting" else SEARCH,
        fraction=0.9 if choices > 2 else 0.0,  # of two full pushes, doing nothing may be better than any
    )


@pytest.mark.parametrize(
    "more", [{"execute": "mean"}, {"execute": "sample"}, {"num_kept": 4}, {"momentum": 0.2}]
)
@pytest.mark.parametrize("planner", [CEM, MPPI])
def test_the_contract_holds_with_other_settings(planner, more):
    search = SEARCH | ({"temperature": 0.02} if planner is MPPI else {})  # flat weights have a vague mode
    check_planner(planner, settings=more, search=search, model=LinearQuadraticModel(choices=3))


@pytest.mark.parametrize("planner", [CEM(horizon=HORIZON, **SEARCH), MPPI(horizon=HORIZON, **SEARCH)])
def test_the_best_of_all_sequences_is_almost_found(planner):
    model = LinearQuadraticModel(choices=3)
    found = plan(planner, model)
    _, best = model.optimum(STARTS, HORIZON)
    torch.testing.assert_close(found.value, best, rtol=0.1, atol=0.0)
    torch.testing.assert_close(value_of(found.sequence, model), found.value)
    assert 0.0 < found.stats["sample_entropy"] < 0.6
    assert "sample_std" not in found.stats


@pytest.mark.parametrize("name", ["cem", "mppi", "random_shooting"])
def test_a_warm_plan_is_at_least_as_good_as_what_is_left_of_the_last_one(name):
    model = LinearQuadraticModel(choices=5)
    planner = make_planner(name, horizon=HORIZON, num_samples=8, iterations=1, warm_start=True)
    first = plan(planner, model)
    start = model.start(History.of_observation(STARTS, action_dim=1, discrete=True), horizon=HORIZON)
    _, step = model.step(start, first.action)
    left = torch.cat([first.sequence[:, 1:], first.sequence[:, -1:]], dim=1)
    second = plan(planner, model, carry=first.carry, elapsed=1, seed=1, starts=step.observation)
    assert (second.value >= value_of(left, model, step.observation) - 1e-6).all()


def test_components_with_different_choices_are_planned_together():
    class Target(LinearQuadraticModel):
        """Earns how close each component comes to its last choice."""

        spec = spec_of(4, 2)

        def start(self, history, *, horizon):
            return history.observation[:, -1].clone()

        def take(self, state, rows):
            return state[rows]

        def step(self, state, action, *, generator=None):
            assert (action < torch.tensor([4, 2])).all()
            state, step = super().step(type(super().start(history, horizon=1))(state), action * 0.0)
            return state.read(), replace(step, reward=action.sum(dim=1).float())

    history = History.of_observation(torch.zeros(1, 4), action_dim=2, discrete=True)
    for planner in (
        CEM(horizon=3, num_samples=64),
        MPPI(horizon=3, num_samples=64),
        RandomShooting(horizon=3),
    ):
        found = plan(planner, Target(action_dim=2), starts=torch.zeros(2, 4))
        assert found.action.dtype == torch.int64
        assert found.sequence.amax(dim=(0, 1)).tolist() == [3, 1]


def test_random_shooting_draws_uniformly():
    spec = spec_of(3)
    planner = RandomShooting(horizon=2)
    drawn = planner.first(planner.init(spec, 1), spec).sample(6000, generator())
    for choice in range(3):
        assert (drawn == choice).float().mean().item() == pytest.approx(1 / 3, abs=0.02)


# -- the distribution -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(choices=st.lists(st.integers(1, 7), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_only_choices_that_exist_are_drawn(choices, seed):
    drawn = uniform(*choices).sample(50, generator(seed))
    assert drawn.shape == (2, 50, 3, len(choices))
    assert drawn.dtype == torch.int64
    assert (drawn >= 0).all()
    assert (drawn < torch.tensor(choices)).all()


def test_draws_follow_the_probabilities():
    start = uniform(3, 4, batch=1, horizon=1)
    wanted = torch.tensor([[[[0.2, 0.0, 0.8, 0.0], [0.0, 0.5, 0.1, 0.4]]]])
    drawn = replace(start, probabilities=wanted).sample(20_000, generator())
    found = torch.nn.functional.one_hot(drawn[0, :, 0], 4).float().mean(dim=0)
    torch.testing.assert_close(found, wanted[0, 0], rtol=0, atol=0.015)
    assert (found[wanted[0, 0] == 0.0] == 0.0).all()


def test_the_draws_of_one_environment_do_not_depend_on_another():
    one = uniform(3)
    other = replace(one, probabilities=one.probabilities.clone())
    other.probabilities[1] = torch.tensor([0.0, 0.0, 1.0])
    assert torch.equal(one.sample(9, generator())[0], other.sample(9, generator())[0])
    assert (other.sample(9, generator())[1] == 2).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    momentum=st.sampled_from([0.0, 0.3]),
    floor=st.sampled_from([0.0, 0.1]),
)
def test_a_refit_is_the_weighted_frequency(seed, momentum, floor):
    start = uniform(3, 2)
    candidates = start.sample(12, generator(seed))
    weights = torch.rand(2, 12, generator=generator(seed + 1))
    weights /= weights.sum(dim=1, keepdim=True)
    fitted = replace(start, momentum=momentum, floor=floor).refit(candidates, weights)
    one_hot = torch.nn.functional.one_hot(candidates, 3).float()
    frequency = (weights[:, :, None, None, None] * one_hot).sum(dim=1)
    smooth = (1 - momentum) * frequency + momentum * start.probabilities
    torch.testing.assert_close(fitted.probabilities, (1 - floor) * smooth + floor * start.uniform)
    torch.testing.assert_close(fitted.probabilities.sum(dim=-1), torch.ones(2, 3, 2))
    assert (fitted.probabilities[..., 1, 2] == 0.0).all()  # the second component has two choices
    assert torch.equal(fitted.centre, fitted.probabilities.argmax(dim=-1))


def test_a_remembered_sequence_is_mixed_with_uniform_choices():
    sequence = torch.tensor([[[2]], [[1]]])
    mixed = Categorical.around(sequence, spec_of(4), uniform_share=torch.tensor([0.2, 1.0]))
    expected = torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.25, 0.25, 0.25, 0.25]])
    torch.testing.assert_close(mixed.probabilities[:, 0, 0], expected)


def test_the_entropy_is_a_share_of_the_uniform_ones():
    assert uniform(3, 5, 1).stats()["sample_entropy"] == pytest.approx(1.0)
    sequence = torch.zeros(1, 2, 1, dtype=torch.int64)
    certain = Categorical.around(sequence, spec_of(4), uniform_share=torch.zeros(1))
    assert certain.stats()["sample_entropy"] == 0.0


def test_a_distribution_of_ones_own_is_searched():
    class Constant:
        """Constant sequences on a grid, whatever is weighed."""

        def sample(self, count, generator):
            return torch.linspace(-1.0, 1.0, count).view(1, count, 1, 1).expand(3, -1, HORIZON, 1)

        def refit(self, candidates, weights):
            return self

        centre = torch.zeros(3, HORIZON, 1)

        def stats(self):
            return {"sample_std": 0.0}

    class Gridded(CEM):
        def first(self, memory, spec):
            return Constant()

    model = LinearQuadraticModel()
    found = plan(Gridded(horizon=HORIZON, num_samples=21), model, discrete=False)
    held = torch.linspace(-1.0, 1.0, 21).view(21, 1, 1).expand(-1, HORIZON, 1)
    for row in range(3):
        values = value_of(held, model, STARTS[row].expand(21, -1), discrete=False)
        torch.testing.assert_close(found.value[row], values.max())
