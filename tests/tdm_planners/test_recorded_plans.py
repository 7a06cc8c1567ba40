"""The same seed gives the same plan as in the versions before: sequences that 4afbb0e planned."""

import json
from pathlib import Path

import pytest
import torch

from tdm_agents.protocols import History
from tdm_agents.registry import make_planner
from tdm_agents.testing import LinearQuadraticExpert, LinearQuadraticModel

STARTS = torch.tensor([[0.5, 0.2], [-0.4, 0.3], [0.2, 0.0]])
ELAPSED = [[0, 0, 0], [1, 1, 1], [1, 0, 2]]
RECORDED = json.loads(Path(__file__).with_name("recorded_plans.json").read_text())


def model_for(planner, choices):
    if planner != "proposal_shooting":
        return LinearQuadraticModel(choices=choices)
    return LinearQuadraticExpert(choices=choices) if choices else LinearQuadraticExpert(std=0.2)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda r: f"{r['planner']}-{r['choices']}-{r['settings']}")
def test_three_decisions_are_planned_as_before(recorded):
    model = model_for(recorded["planner"], recorded["choices"])
    planner = make_planner(recorded["planner"], horizon=6, **recorded["settings"])
    generator, carry = torch.Generator().manual_seed(3), planner.init(model.spec, 3)
    for times, (elapsed, sequence) in enumerate(zip(ELAPSED, recorded["sequences"], strict=True), start=1):
        starts = STARTS * times
        history = History.of_observation(starts, action_dim=1, discrete=recorded["choices"] is not None)
        plan = planner.plan(
            model,
            model.start(history, horizon=6),
            carry,
            elapsed=torch.tensor(elapsed),
            generator=generator,
        )
        carry = plan.carry
        expected = torch.tensor(sequence, dtype=plan.sequence.dtype)
        # the file holds six decimals
        torch.testing.assert_close(plan.sequence.squeeze(-1), expected, rtol=0, atol=2e-6)
