"""MPPI with a policy among its candidates, elites and plain values: the planner of TD-MPC2."""

import math
from dataclasses import replace

import pytest
import torch

from tdm_agents.protocols import History
from tdm_agents.testing import LinearQuadraticExpert, LinearQuadraticModel, check_planner
from tdm_agents.world_models.tdmpc2.sizes import PLANNER
from tdm_planners.distributions import Categorical, Gaussian
from tdm_planners.mppi import MPPI

STARTS = torch.tensor([[0.6, 0.1], [-0.5, 0.3]])
SETTINGS = dict(PLANNER) | {"num_samples": 40, "num_policy": 6, "num_elites": 8, "iterations": 4}


class WithValue(LinearQuadraticExpert):
    """Also knows what a state is worth."""

    def value(self, state):
        return -3.0 * state.read().square().sum(dim=1)


def plan(planner, model, *, carry=None, elapsed=0, seed=0, starts=STARTS):
    discrete = model.spec.action_kind == "discrete"
    history = History.of_observation(starts, action_dim=model.spec.action_dim, discrete=discrete)
    return planner.plan(
        model,
        model.start(history, horizon=planner.horizon),
        planner.init(model.spec, len(starts)) if carry is None else carry,
        elapsed=torch.full((len(starts),), elapsed),
        generator=torch.Generator().manual_seed(seed),
    )


def transition(model, x, a):
    """The linear-quadratic model once more, of one row, in float64."""
    after = model.transition.double() @ x + model.control.double() @ a
    reward = -float((model.cost.double() * after**2).sum() + model.effort * (a**2).sum())
    return after, reward


def by_the_papers_formulas(model, x, mean, *, generator, batch, row):
    """Mean, elites and their values after the last iteration, of one row.

    Random numbers are drawn for all rows, as the planner draws them; everything else is of one row.
    """
    s, m = SETTINGS, model.spec.action_dim
    horizon, k, p = s["horizon"], s["num_samples"], s["num_policy"]
    policy, states = torch.zeros(p, horizon, m, dtype=torch.float64), [x] * p
    for t in range(horizon):
        noise = torch.randn(batch * p, 1, m, generator=generator)
        for i in range(p):
            push = states[i] @ model.gain.double() + model.std * noise[row * p + i, 0].double()
            policy[i, t] = push.clamp(-1, 1)
            states[i], _ = transition(model, states[i], policy[i, t])
    std = torch.full((horizon, m), s["initial_std"], dtype=torch.float64)
    for _ in range(s["iterations"]):
        noise = torch.randn(batch, k, horizon, m, generator=generator)[row].double()
        actions = (mean + std * noise).clamp(-1, 1)
        actions[k - p :] = policy
        values = []
        for sequence in actions:
            state, value = x, 0.0
            for t in range(horizon):
                state, reward = transition(model, state, sequence[t])
                value += s["discount"] ** t * reward
            values.append(value + s["discount"] ** horizon * -3.0 * float((state**2).sum()))
        values = torch.tensor(values, dtype=torch.float64)
        best = values.argsort(descending=True)[: s["num_elites"]]
        score = torch.exp(0.5 * (values[best] - values[best].max()))  # the paper's temperature multiplies
        score = score / score.sum()
        elites = actions[best]
        mean = torch.einsum("e,ehm->hm", score, elites)
        variance = torch.einsum("e,ehm->hm", score, (elites - mean) ** 2)
        std = variance.sqrt().clamp(s["std_floor"], s["initial_std"])
    return mean, elites, values[best]


def test_it_is_the_papers_planner():
    model, planner = WithValue(std=0.3), MPPI(**SETTINGS)
    first = plan(planner, model, seed=5)
    second = plan(planner, model, carry=first.carry, elapsed=1, seed=6)
    drawn = []
    for row in range(2):
        x, zero = STARTS[row].double(), torch.zeros(3, 1, dtype=torch.float64)
        for seed, result in ((5, first), (6, second)):
            mean, elites, values = by_the_papers_formulas(
                model, x, zero, generator=torch.Generator().manual_seed(seed), batch=2, row=row
            )
            torch.testing.assert_close(result.carry.mean[row].double(), mean, rtol=1e-4, atol=1e-5)
            near = (elites - result.sequence[row].double()).abs().amax(dim=(1, 2))
            assert near.min() < 1e-5  # an elite is executed, and
            torch.testing.assert_close(
                result.value[row].double(), values[near.argmin()], rtol=1e-4, atol=1e-5
            )
            drawn.append(near.argmin())
            zero = torch.cat([mean[1:], mean[-1:]])  # the next decision starts from the shifted plan
    assert len(set(drawn)) > 1  # not always the best


def test_an_elite_is_drawn_as_often_as_it_weighs():
    planner = MPPI(**SETTINGS)
    weights = planner.weigh(torch.tensor([[0.0, -1.0, -2.0, -3.0] * 10]))
    assert (weights > 0).sum() == 8  # the elites alone
    assert weights.sum() == pytest.approx(1.0)
    starts = STARTS[:1].repeat(3000, 1)
    candidates = torch.arange(40.0).view(1, 40, 1, 1).expand(3000, 40, 3, 1)
    sloped = -0.1 * torch.arange(40.0).expand(3000, 40)
    chosen, value = planner.choose(
        None, candidates, sloped, planner.weigh(sloped), torch.Generator().manual_seed(0)
    )
    often = chosen[:, 0, 0].long().bincount(minlength=8) / len(starts)
    expected = torch.softmax(-0.5 * 0.1 * torch.arange(8.0), dim=0)
    torch.testing.assert_close(often, expected, rtol=0, atol=0.03)
    torch.testing.assert_close(value, -0.1 * chosen[:, 0, 0])


def test_it_keeps_the_contract_of_planners():
    # the check counts rollouts and refused rows, and the policy's are imagined once more
    settings = {name: value for name, value in SETTINGS.items() if name not in ("horizon", "num_policy")}
    search = {"num_samples": 128, "execute": "best"}
    check_planner(MPPI, settings=settings, search=search, noise="initial_std", model=LinearQuadraticExpert())
    discrete = LinearQuadraticExpert(choices=3)
    check_planner(MPPI, settings=settings, search=search, model=discrete)


@pytest.mark.parametrize("choices", [None, 5])
def test_the_policy_is_among_the_candidates(choices):
    model = LinearQuadraticExpert(std=1e-6, choices=choices)
    few = {"horizon": 8, "num_samples": 4, "iterations": 1, "initial_std": 1e-3, "std_floor": 0.0}
    without, with_it = (plan(MPPI(**few, num_policy=p), model) for p in (0, 1))
    state = model.start(History.of_observation(STARTS, action_dim=1, discrete=choices is not None), horizon=8)
    wanted = model.propose(state, 1, deterministic=True).actions[:, 0]
    assert (with_it.value >= without.value).all()
    if choices is None:
        torch.testing.assert_close(with_it.action, wanted, rtol=0, atol=1e-4)
        assert (with_it.value > without.value + 0.1).all()
    assert with_it.stats["transitions"] == 2 * 8 * (4 + 1)


def test_max_rows_bounds_the_policys_rows_too():
    model = LinearQuadraticExpert(std=1e-6)
    whole = MPPI(horizon=4, num_samples=12, num_policy=6)
    parts = replace(whole, max_rows=5)
    rows = []
    step = model.step

    def watched(state, action, *, generator=None):
        rows.append(len(action))
        return step(state, action, generator=generator)

    model.step = watched
    one, other = plan(whole, model), plan(parts, model)
    assert max(rows) == 24 and max(rows[-20:]) <= 5
    torch.testing.assert_close(one.sequence, other.sequence, rtol=0, atol=1e-4)


def test_the_ceiling_bounds_the_refitted_deviation():
    model = LinearQuadraticModel()
    wide = {"num_samples": 16, "iterations": 1, "temperature": 100.0, "initial_std": 0.9}
    free, bound = (plan(MPPI(**wide, std_ceiling=c), model).stats["sample_std"] for c in (None, 0.2))
    assert free > 0.3 and bound == pytest.approx(0.2)


def test_without_kept_rows_the_best_so_far_may_be_lost():
    model = LinearQuadraticModel()
    loud = {"num_samples": 4, "iterations": 6, "std_floor": 0.9, "initial_std": 0.9, "horizon": 10}
    gains = {
        kept: [
            stats["value_best"] - stats["value_first"]
            for seed in range(10)
            for stats in [plan(MPPI(**loud, candidates_kept=kept), model, seed=seed).stats]
        ]
        for kept in (True, False)
    }
    assert min(gains[True]) >= 0 > min(gains[False])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_elites": 0}, "num_elites is 0; expected at least 1 and at most num_samples"),
        ({"num_elites": 33}, "num_elites is 33; expected at least 1 and at most num_samples, which is 32"),
        ({"num_policy": -1}, "num_policy is -1; expected at least 0"),
        ({"num_policy": 30}, "num_policy is 30; expected less than the 30 of num_samples"),
        ({"num_policy": 32, "candidates_kept": False}, "expected less than the 32 of num_samples"),
        ({"std_ceiling": 0.01}, r"std_ceiling is 0\.01; expected at least std_floor, which is 0\.05"),
        ({"std_ceiling": math.nan}, "std_ceiling is nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        MPPI(**settings)


def test_a_model_without_a_proposal_is_refused():
    with pytest.raises(TypeError, match="LinearQuadraticModel has no propose"):
        plan(MPPI(num_policy=1), LinearQuadraticModel())


def test_exploring_disturbs_what_is_executed_and_nothing_else():
    model = WithValue()
    quiet = MPPI(**SETTINGS | {"execute": "mean"})
    for seed in range(5):
        still, loud = (plan(p, model, seed=seed) for p in (quiet, replace(quiet, explore=True)))
        assert (loud.carry.mean == still.carry.mean).all() and (loud.value == still.value).all()
        assert (loud.action != still.action).all() and (loud.sequence.abs() <= 1).all()


def test_exploring_adds_noise_of_the_last_standard_deviation():
    std = torch.tensor([0.05, 0.2]).expand(1, 3, 2)
    last, sequence = Gaussian(torch.zeros(1, 3, 2), std), torch.full((1, 3, 2), 0.1)
    drawn = [last.disturbed(sequence, torch.Generator().manual_seed(i)) for i in range(4000)]
    torch.testing.assert_close(torch.stack(drawn).mean(dim=0), sequence, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.stack(drawn).std(dim=0), std, atol=0, rtol=0.05)


def test_exploring_draws_choices_from_the_last_distribution():
    spec = replace(WithValue().spec, action_kind="discrete", action_dim=1, action_choices=(4,))
    sequence = torch.zeros(1, 2, 1, dtype=torch.int64)
    likely = Categorical.around(sequence, spec, uniform_share=torch.tensor([0.4]))
    drawn = torch.cat([likely.disturbed(sequence, torch.Generator().manual_seed(i)) for i in range(2000)])
    shares = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    torch.testing.assert_close(shares, torch.tensor([0.7, 0.1, 0.1, 0.1]), atol=0.03, rtol=0)
