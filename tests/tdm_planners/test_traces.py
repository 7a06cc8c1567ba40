"""Plan.trace: what was considered, only where it is asked for, and never at the cost of another plan."""

import pytest
import torch

from tdm_agents.protocols import History, rollout, tracing, tracing_wanted
from tdm_agents.registry import make_planner
from tdm_agents.testing import LinearQuadraticExpert

STARTS = torch.tensor([[0.5, 0.2], [-0.4, 0.3], [0.2, 0.0]])
PLANNERS = {
    "random_shooting": {"num_samples": 8},
    "cem": {"num_samples": 8, "num_elites": 3, "iterations": 2},
    "mppi": {"num_samples": 8, "iterations": 2, "max_rows": 5},
    "proposal_shooting": {"num_samples": 8},
    "beam_search": {"beam_width": 4, "num_expand": 3},
    "policy": {},
}


def decide(name, model):
    planner = make_planner(name, horizon=4, **PLANNERS[name])
    generator, carry, plans = torch.Generator().manual_seed(3), planner.init(model.spec, 3), []
    for elapsed in ([0, 0, 0], [1, 1, 1]):
        state = model.start(History.of_observation(STARTS, action_dim=1), horizon=4)
        elapsed = torch.tensor(elapsed)
        plans.append(planner.plan(model, state, carry, elapsed=elapsed, generator=generator))
        carry = plans[-1].carry
    return plans


@pytest.mark.parametrize("name", PLANNERS)
def test_plans_are_bit_equal_and_hold_a_trace_only_inside_the_context(name):
    without = decide(name, LinearQuadraticExpert(std=0.2))
    with tracing():
        within = decide(name, LinearQuadraticExpert(std=0.2))
    after = decide(name, LinearQuadraticExpert(std=0.2))
    for plain, traced, later in zip(without, within, after, strict=True):
        assert plain.trace is None and later.trace is None
        for left, right in ((plain.sequence, traced.sequence), (plain.value, traced.value)):
            assert torch.equal(left, right)
        assert plain.stats == traced.stats
        assert len(traced.trace) == PLANNERS[name].get("iterations", 3 if name == "mppi" else 1)
        for considered in traced.trace:
            batch, samples = considered.value.shape
            assert batch == 3 and considered.actions.shape == (3, samples, 4, 1)
        # what is executed is among what was considered last
        last = traced.trace[-1]
        same = (last.actions == traced.sequence[:, None]).flatten(2).all(dim=2)
        assert bool(same.any(dim=1).all())
    assert not tracing_wanted()


@pytest.mark.parametrize("name", ["random_shooting", "cem", "mppi", "proposal_shooting", "policy"])
def test_observations_are_those_that_the_candidates_lead_to(name):
    model = LinearQuadraticExpert(std=0.2)
    with tracing():
        last = decide(name, model)[-1].trace[-1]
    samples = last.value.shape[1]
    state = model.start(History.of_observation(STARTS, action_dim=1), horizon=4)
    rows = model.take(state, torch.arange(3).repeat_interleave(samples))
    imagined = rollout(model, rows, last.actions.flatten(0, 1))
    torch.testing.assert_close(last.observation, imagined.observation.unflatten(0, (3, samples)))
