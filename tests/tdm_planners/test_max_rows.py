"""A decision's candidates imagined a part at a time, so that memory does not grow with them."""

import pytest
import torch

from tdm_agents import TDMAgent
from tdm_agents.protocols import History
from tdm_agents.registry import make_planner
from tdm_agents.testing import LinearQuadraticModel, check_planner
from tdm_agents.testing.recorder import Recorder
from tdm_agents.wrappers import RewardFunction

STARTS = torch.tensor([[0.5, 0.2], [-0.4, 0.3], [0.2, 0.0]])
NAMES = ["random_shooting", "cem", "mppi"]


def plan(planner, model, starts=STARTS):
    return planner.plan(
        model,
        model.start(History.of_observation(starts, action_dim=1), horizon=planner.horizon),
        planner.init(model.spec, len(starts)),
        elapsed=torch.zeros(len(starts), dtype=torch.int64),
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("most", [1, 7, 16, 1000])
def test_the_plan_is_the_same_and_no_more_rows_are_imagined_at_once(name, most):
    settings = {"horizon": 4, "num_samples": 16, "iterations": 2}
    model = Recorder(LinearQuadraticModel())
    found = plan(make_planner(name, max_rows=most, **settings), model)
    expected = plan(make_planner(name, **settings), LinearQuadraticModel())
    torch.testing.assert_close(found.sequence, expected.sequence)
    torch.testing.assert_close(found.value, expected.value)
    assert found.stats["transitions"] == expected.stats["transitions"]
    assert max(len(actions) for actions in model.imagined) == min(most, 3 * 16)
    assert sum(len(actions) for actions in model.imagined) == 2 * 3 * 16


def test_the_contract_holds_when_all_fit():
    check_planner(
        lambda **s: make_planner("cem", **s),
        settings={"max_rows": 4096},
        search={"num_samples": 128, "iterations": 6},
    )


def test_candidates_of_the_shipped_checkpoint_may_be_imagined_apart():
    model = TDMAgent.load("cartpole-swingup").model
    starts = torch.tensor([[0.0, -1.0, 0.0, 0.0, 0.0], [0.1, 1.0, 0.0, 0.0, 0.3]])
    settings = {"horizon": 3, "num_samples": 6, "iterations": 1}
    whole = plan(make_planner("mppi", **settings), model, starts)
    parts = plan(make_planner("mppi", max_rows=4, **settings), model, starts)
    torch.testing.assert_close(parts.value, whole.value, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("most", "error"), [(0, ValueError), (2.5, TypeError)])
def test_a_number_of_rows_that_makes_no_sense_is_refused(most, error):
    with pytest.raises(error, match=r"max_rows.* expected"):
        make_planner("cem", max_rows=most)


def test_a_memory_budget_bounds_what_is_imagined_at_once():
    model = TDMAgent.load("cartpole-swingup").model
    model.model = model.model.with_decoding(bf16=False)  # whose forwards can be counted
    settings = {"horizon": 3, "num_samples": 6, "iterations": 1}
    state = model.start(History.of_observation(torch.zeros(1, 5), action_dim=1), horizon=3)
    row = model.row_bytes(state, horizon=3)
    sizes = []
    model.model.network.norm.register_forward_hook(lambda _, __, found: sizes.append(len(found)))
    starts = torch.tensor([[0.0, -1.0, 0.0, 0.0, 0.0]])
    whole = plan(make_planner("mppi", **settings), model, starts)
    for rows in (1, 4):
        sizes.clear()
        parts = plan(make_planner("mppi", max_memory=(rows + 0.5) * row / 2**30, **settings), model, starts)
        assert max(sizes) == rows
        torch.testing.assert_close(parts.value, whole.value, rtol=1e-3, atol=1e-3)


def test_a_budget_below_a_row_takes_one_at_a_time_and_wrappers_pass_it_on():
    model = TDMAgent.load("cartpole-swingup").model
    assert isinstance(model, RewardFunction)
    found = plan(make_planner("mppi", horizon=2, num_samples=4, max_memory=1e-9), model, torch.zeros(1, 5))
    assert found.value.isfinite().all()


def test_a_budget_for_a_model_that_knows_no_sizes_is_refused():
    with pytest.raises(TypeError, match="set max_rows instead"):
        plan(make_planner("cem", max_memory=1.0), LinearQuadraticModel())


@pytest.mark.parametrize(
    ("budget", "error"), [(0.0, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_a_budget_that_makes_no_sense_is_refused(budget, error):
    with pytest.raises(error, match=r"max_memory.* expected"):
        make_planner("cem", max_memory=budget)
