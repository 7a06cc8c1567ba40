import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.protocols import History, Rollout
from tdm_agents.registry import PLANNERS, make_planner, names
from tdm_agents.testing import LinearQuadraticExpert, LinearQuadraticModel, check_planner
from tdm_planners.carry import ShootingCarry, shift
from tdm_planners.cem import CEM
from tdm_planners.distributions import around
from tdm_planners.mppi import MPPI
from tdm_planners.random_shooting import RandomShooting
from tdm_planners.scoring import evaluate, finite_std, refuse_non_finite
from tdm_planners.shooting import ShootingPlanner

HORIZON = 6
STARTS = torch.tensor([[0.5, 0.2], [-0.4, 0.3], [0.2, 0.0]])
# correlated noise is for smooth tasks; the optimum here swings back within a step, which white noise finds
SEARCH = {"num_samples": 128, "iterations": 8, "noise_alpha": 0.0}
CONTRACTS = {
    "cem": {"noise": "initial_std", "search": SEARCH, "fraction": 0.98},
    "mppi": {"noise": "initial_std", "search": SEARCH, "fraction": 0.98},
    "random_shooting": {
        "noise": "noise_scale",
        "search": {"noise_scale": 0.2, "num_samples": 512, "iterations": 4},
    },
    "proposal_shooting": {"noise": "noise_scale", "model": LinearQuadraticExpert()},
    "beam_search": {"model": LinearQuadraticExpert()},
    "policy": {"model": LinearQuadraticExpert(), "draws": False, "compares": False},
}


def plan(planner, model=None, *, carry=None, elapsed=0, seed=0, starts=STARTS):
    model = model or LinearQuadraticModel()
    batch = len(starts)
    return planner.plan(
        model,
        model.start(History.of_observation(starts, action_dim=1), horizon=planner.horizon),
        planner.init(model.spec, batch) if carry is None else carry,
        elapsed=torch.full((batch,), elapsed),
        generator=torch.Generator().manual_seed(seed),
    )


def value_of(sequence, starts=STARTS):
    model = LinearQuadraticModel()
    state = model.start(History.of_observation(starts, action_dim=1), horizon=sequence.shape[1])
    total = torch.zeros(len(starts))
    for t in range(sequence.shape[1]):
        state, step = model.step(state, sequence[:, t])
        total += step.reward
    return total


# a new planner needs its line in CONTRACTS
@pytest.mark.parametrize("name", names(PLANNERS))
def test_every_planner_keeps_the_contract(name):
    check_planner(lambda **s: make_planner(name, **s), **CONTRACTS[name])


@pytest.mark.parametrize(
    "more",
    [{"noise_beta": 1.0}, {"noise_knots": 5}, {"execute": "mean"}, {"execute": "sample"}, {"num_kept": 4}],
)
@pytest.mark.parametrize("planner", [CEM, MPPI])
def test_the_contract_holds_with_other_settings(planner, more):
    check_planner(planner, settings=more, noise="initial_std", search=SEARCH)


@pytest.mark.parametrize("more", [{"warm_start": True}, {"noise_knots": 5, "noise_spline": "linear"}])
def test_the_contract_holds_for_random_shooting_with_other_settings(more):
    check_planner(RandomShooting, settings=more, **CONTRACTS["random_shooting"])


@dataclass(frozen=True, kw_only=True)
class Halving(ShootingPlanner):
    """All that a shooting planner has to say."""

    spread: float = 0.7

    def first(self, memory, spec):
        return around(memory, spec, std=self.spread)

    def weigh(self, values):
        rank = values.argsort(dim=1, descending=True).argsort(dim=1)
        weight = torch.where(values.isfinite(), 0.5**rank, 0.0)
        return weight / weight.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("choices", [None, 3])
def test_first_and_weigh_make_a_planner(choices):
    check_planner(
        Halving,
        noise=None if choices else "spread",
        search={"num_samples": 128, "iterations": 8},
        model=LinearQuadraticModel(choices=choices),
    )


@pytest.mark.parametrize("planner", [CEM, MPPI])
def test_planning_again_from_a_warm_start_comes_closer_to_the_optimum(planner):
    made = planner(horizon=HORIZON, num_samples=16, iterations=1)
    cold = plan(made)
    # the same start again: a plan that was shifted by one, and yet knows more than none
    warm = plan(made, carry=cold.carry, elapsed=1, seed=1)
    assert value_of(warm.sequence).sum() > value_of(cold.sequence).sum()


@pytest.mark.parametrize("planner", [CEM, MPPI, partial(RandomShooting, warm_start=True)])
@pytest.mark.parametrize("elapsed", [1, 2, 5])
def test_what_is_left_of_a_plan_of_splines_is_a_candidate_of_the_next(planner, elapsed):
    made = planner(horizon=HORIZON, num_samples=8, iterations=1, noise_knots=3)
    old = plan(made)
    left = torch.cat([old.sequence[:, elapsed:], old.sequence[:, -1:].expand(-1, elapsed, -1)], dim=1)
    later = 5 * STARTS
    new = plan(made, carry=old.carry, elapsed=elapsed, seed=1, starts=later)
    assert (new.value >= value_of(left, later) - 1e-5).all()


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_value_is_that_of_the_sequence(name):
    found = plan(make_planner(name, horizon=HORIZON), CONTRACTS[name].get("model"))
    torch.testing.assert_close(found.value, value_of(found.sequence))


def test_the_best_value_never_falls_over_iterations_of_a_deterministic_model():
    values = [plan(CEM(horizon=HORIZON, iterations=k)).value for k in (1, 2, 3, 4)]
    for less, more in pairwise(values):
        assert (more >= less).all()


def test_two_action_scalars_are_planned_together():
    model = LinearQuadraticModel(action_dim=2)
    starts = torch.tensor([[0.5, -0.3, 0.1, 0.2]])
    planner = MPPI(horizon=HORIZON, **SEARCH)
    found = planner.plan(
        model,
        model.start(History.of_observation(starts, action_dim=2), horizon=HORIZON),
        planner.init(model.spec, 1),
        elapsed=torch.zeros(1, dtype=torch.int64),
        generator=torch.Generator().manual_seed(0),
    )
    actions, best = model.optimum(starts, HORIZON)
    assert found.sequence.shape == actions.shape == (1, HORIZON, 2)
    assert found.value.item() == pytest.approx(best.item(), rel=0.05)


def test_statistics_count_transitions_and_refused_candidates():
    stats = plan(MPPI(horizon=HORIZON, num_samples=10, iterations=2)).stats
    assert stats["transitions"] == 3 * 10 * HORIZON * 2
    assert stats["non_finite"] == 0
    assert stats["value_best"] >= stats["value_first"]
    assert 0.05 <= stats["sample_std"] <= 0.7


@settings(max_examples=30, deadline=None)
@given(elapsed=st.integers(0, 8), horizon=st.integers(1, 6))
def test_shift_moves_a_plan_ahead_and_repeats_its_last_action(elapsed, horizon):
    mean = torch.arange(1.0, horizon + 1).view(1, horizon, 1)
    carry = ShootingCarry(mean, mean[:, None].clone(), torch.ones(1, dtype=torch.bool))
    moved = shift(carry, torch.tensor([elapsed]))
    if 0 < elapsed < horizon:
        expected = [min(t + elapsed, horizon - 1) + 1.0 for t in range(horizon)]
        assert moved.mean.flatten().tolist() == expected
        assert moved.elites.flatten().tolist() == expected
        assert moved.known.all()
    else:
        assert not moved.known.any()
        assert moved.mean.abs().max() == 0


def rollout_of(reward, alive=None):
    reward = torch.tensor(reward)
    alive = torch.ones_like(reward, dtype=torch.bool) if alive is None else torch.tensor(alive)
    return Rollout(torch.zeros(*reward.shape, 2), reward, alive, state="the end")


@dataclass
class Valued:
    worth: torch.Tensor

    def value(self, state):
        assert state == "the end"
        return self.worth


def test_rewards_count_while_alive_before_the_step_and_are_discounted():
    nan = math.nan
    imagined = rollout_of([[1.0, 2.0, 4.0], [1.0, 2.0, nan]], [[True, True, True], [True, False, False]])
    values = evaluate(LinearQuadraticModel(), imagined, discount=0.5)
    assert values.tolist() == [1.0 + 1.0 + 1.0, 1.0 + 1.0]


def test_the_value_of_the_last_state_counts_where_alive():
    imagined = rollout_of([[1.0, 1.0], [1.0, 1.0]], [[True, True], [True, False]])
    values = evaluate(Valued(torch.tensor([8.0, math.nan])), imagined, discount=0.5)
    assert values.tolist() == [1.5 + 0.25 * 8.0, 1.5]


def test_where_it_is_known_everything_counts_by_the_probability_of_being_alive():
    imagined = replace(
        rollout_of([[0.4, 0.6, 1.0], [1.0, 1.0, math.nan]], [[True, False, False], [True, True, True]]),
        survival=torch.tensor([[0.6, 0.5, 0.25], [0.5, 0.04, 0.04]]),  # so little is none
    )
    values = evaluate(Valued(torch.tensor([8.0, math.nan])), imagined, discount=1.0)
    assert values.tolist() == pytest.approx([0.4 + 0.6 * 0.6 + 0.5 * 1.0 + 0.25 * 8.0, 1.0 + 0.5])


def test_non_finite_values_are_refused_and_counted():
    values = torch.tensor([[1.0, math.nan, math.inf], [-math.inf, -5.0, 2.0]])
    assert refuse_non_finite(values) == 3
    assert values.tolist() == [[1.0, -math.inf, -math.inf], [-math.inf, -5.0, 2.0]]
    with pytest.raises(ValueError, match=r"environment 1 has no candidate with a finite value"):
        refuse_non_finite(torch.tensor([[0.0, math.nan], [math.nan, math.nan]]))


def test_the_spread_is_over_finite_values():
    spread = finite_std(torch.tensor([[1.0, 3.0, -math.inf], [2.0, -math.inf, -math.inf]]))
    assert spread.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("share", [-1.0, -0.9, -0.5, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("planner", [CEM(num_samples=8, num_elites=3), MPPI(num_samples=8)])
def test_no_return_is_too_large_or_small_to_be_weighed(planner, share, dtype):
    values = torch.tensor([[1.0, -0.75, 0.5, -math.inf, -1.0, 0.0, 0.25, -0.25], [0.5] * 8], dtype=dtype)
    # a power of two, as far towards the end of the range (or its beginning) as the share says
    scale = 2.0 ** int(share * (-math.log2(torch.finfo(dtype).tiny) - 6 * (share < 0)))
    expected, spread = planner.weigh(values), finite_std(values)
    assert expected[0].max() > 0.3 and torch.equal(expected[1], planner.weigh(values)[1])
    assert torch.equal(planner.weigh(values * scale), expected)
    assert torch.equal(finite_std(values * scale), spread * scale)
    assert expected.dtype == spread.dtype == dtype


@settings(max_examples=50, deadline=None)
@given(
    scale=st.floats(1e-3, 1e3),
    offset=st.floats(-100.0, 100.0),
    values=st.lists(st.integers(-50, 50), min_size=5, max_size=5, unique=True),
)
def test_mppi_weights_do_not_depend_on_the_scale_and_offset_of_rewards(scale, offset, values):
    planner = MPPI(num_samples=5, num_kept=1)
    values = torch.tensor([values], dtype=torch.float64)
    torch.testing.assert_close(
        planner.weigh(values), planner.weigh(scale * (values + offset)), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("planner", [CEM(num_samples=5, num_elites=3, num_kept=1), MPPI(num_samples=5)])
def test_weights_sum_to_one_grow_with_value_and_leave_out_what_was_refused(planner):
    values = torch.tensor([[3.0, -math.inf, 1.0, 2.0, -1.0], [-math.inf] * 4 + [7.0], [0.25] * 5])
    weights = planner.weigh(values)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    assert weights[0, 1] == 0
    assert weights[0, 0] >= weights[0, 3] >= weights[0, 2] >= weights[0, 4]
    assert weights[1].tolist() == [0, 0, 0, 0, 1]


def test_a_higher_temperature_is_flatter():
    values = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    sharp, flat = (MPPI(num_samples=4, temperature=t).weigh(values) for t in (0.1, 10.0))
    assert sharp[0, 3] > 0.99
    assert flat.max() < 0.35


def test_momentum_keeps_a_share_of_the_old_mean():
    planner = CEM(momentum=0.25)
    spec = LinearQuadraticModel().spec
    distribution = planner.first(planner.init(spec, 1), spec)
    candidates = torch.full((1, 32, 25, 1), 0.8)
    updated = planner.update(distribution, candidates, torch.full((1, 32), 1 / 32))
    torch.testing.assert_close(updated.centre, torch.full((1, 25, 1), 0.6))
    torch.testing.assert_close(updated.std, torch.full((1, 25, 1), 0.25 * 0.7))


def test_random_shooting_draws_the_papers_walk():
    model = LinearQuadraticModel()
    planner = RandomShooting(horizon=HORIZON, num_samples=2000)
    distribution = planner.first(planner.init(model.spec, 1), model.spec)
    walk = distribution.sample(2000, torch.Generator().manual_seed(0))[0, :, :, 0]
    # N(0, 2) increments from 0: variance 2 (t + 1), before clipping
    expected = 2.0 * torch.arange(1.0, HORIZON + 1)
    torch.testing.assert_close(walk.var(dim=0), expected, rtol=0.15, atol=0.0)


@pytest.mark.parametrize(
    ("planner", "settings", "message"),
    [
        (MPPI, {"horizon": 0}, "horizon is 0; expected at least 1"),
        (MPPI, {"iterations": 0}, "iterations is 0; expected at least 1"),
        (MPPI, {"num_kept": 0}, "num_kept is 0; expected at least 1"),
        (MPPI, {"num_samples": 2}, "num_samples is 2; expected more than the 2 kept rows"),
        (MPPI, {"discount": 1.5}, "discount is 1.5; expected 0 < discount <= 1"),
        (MPPI, {"temperature": 0.0}, "temperature is 0.0; expected more than 0"),
        (MPPI, {"temperature": math.nan}, "temperature is nan"),
        (MPPI, {"execute": "worst"}, "execute is 'worst'; expected one of best, mean, sample"),
        (
            CEM,
            {"num_elites": 33},
            "num_elites is 33; expected at least 1 and at most num_samples, which is 32",
        ),
        (CEM, {"initial_std": 0.0}, "initial_std is 0.0; expected more than 0"),
        (CEM, {"std_floor": 0.9}, "std_floor is 0.9; expected 0 <= std_floor <= initial_std"),
        (
            CEM,
            {"uniform_floor": 0.6},
            "uniform_floor is 0.6 and uniform_start 0.5; expected 0 <= uniform_floor",
        ),
        (CEM, {"momentum": 1.0}, "momentum is 1.0; expected 0"),
        (CEM, {"noise_alpha": 1.0}, "noise_alpha is 1.0; expected 0"),
        (CEM, {"noise_beta": -1.0}, "noise_beta is -1.0; expected at least 0"),
        (RandomShooting, {"noise_scale": 0.0}, "noise_scale is 0.0; expected more than 0"),
        (
            CEM,
            {"noise_knots": 26},
            "noise_knots is 26; expected at least 1 and at most the horizon, which is 25",
        ),
        (
            CEM,
            {"noise_knots": 3, "noise_beta": 1.0},
            "noise_beta is 1.0 and noise_knots 3; expected one of them",
        ),
        (MPPI, {"noise_spline": "b"}, "noise_spline is 'b'; expected one of zero, linear, cubic"),
        (RandomShooting, {"noise_knots": 0}, "noise_knots is 0; expected at least 1"),
        (RandomShooting, {"noise_beta": -1.0}, "noise_beta is -1.0; expected at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(planner, settings, message):
    with pytest.raises(ValueError) as error:
        planner(**settings)
    assert message in str(error.value)


def test_memory_of_another_planner_or_batch_is_refused():
    other = MPPI(horizon=HORIZON + 1).init(LinearQuadraticModel().spec, 3)
    with pytest.raises(ValueError, match="carry holds 1 sequences of horizon 7; expected 1 of 6"):
        plan(MPPI(horizon=HORIZON), carry=other)
    with pytest.raises(ValueError, match=r"elapsed has shape \(3,\); expected \(2,\)"):
        plan(MPPI(horizon=HORIZON), carry=MPPI(horizon=HORIZON).init(LinearQuadraticModel().spec, 2))
