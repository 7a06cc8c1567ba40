"""Planners that follow a proposal: with noise, or as it is."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.agent import TDMAgent
from tdm_agents.protocols import History, looped_rollout
from tdm_agents.testing import LinearQuadraticExpert, LinearQuadraticModel, check_planner
from tdm_agents.wrappers import WithProposal
from tdm_planners.beam_search import BeamSearch
from tdm_planners.policy import Policy
from tdm_planners.proposal_shooting import ProposalShooting

HORIZON = 6
STARTS = torch.tensor([[0.5, 0.2], [-0.4, 0.3], [0.2, 0.0]])


def plan(planner, model, *, starts=STARTS, seed=0):
    discrete = model.spec.action_kind == "discrete"
    history = History.of_observation(starts, action_dim=model.spec.action_dim, discrete=discrete)
    return planner.plan(
        model,
        model.start(history, horizon=planner.horizon),
        planner.init(model.spec, len(starts)),
        elapsed=torch.zeros(len(starts), dtype=torch.int64),
        generator=torch.Generator().manual_seed(seed),
    )


def value_of(sequence, model, starts=STARTS):
    state = model.start(History.of_observation(starts, action_dim=1), horizon=sequence.shape[1])
    return looped_rollout(model, state, sequence).reward.sum(dim=1)


def timid(observation):
    """A policy that pushes the right way, and far too little."""
    return -0.1 * (observation[:, :1] + observation[:, 1:])


# -- the contract -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more", [{}, {"noise_beta": 1.0}, {"noise_knots": 3}, {"stochastic": True}, {"num_policy": 0}]
)
def test_proposal_shooting_keeps_the_contract(more):
    model = LinearQuadraticExpert(std=0.2)
    check_planner(ProposalShooting, settings=more, noise="noise_scale", model=model)


def test_proposal_shooting_keeps_the_contract_with_discrete_actions():
    model = LinearQuadraticExpert(choices=3)
    check_planner(ProposalShooting, settings={"num_samples": 256, "random_share": 0.5}, model=model)


@pytest.mark.parametrize("choices", [None, 5])
def test_the_policy_keeps_the_contract(choices):
    model = LinearQuadraticExpert(choices=choices)
    check_planner(Policy, model=model, draws=False, compares=False, fraction=0.8)
    check_planner(Policy, settings={"execute": "sample"}, model=model, compares=False, fraction=0.0)


# -- proposal shooting ------------------------------------------------------------------------------------


def test_every_step_proposes_for_what_the_candidate_came_to_see():
    asked = []

    def recorded(observation):
        asked.append(observation.clone())
        return timid(observation)

    model = WithProposal(LinearQuadraticModel(), recorded)
    planner = ProposalShooting(horizon=3, num_samples=4, num_policy=4)
    found = plan(planner, model)
    state = model.start(History.of_observation(STARTS, action_dim=1), horizon=3)
    seen = [STARTS, *looped_rollout(model, state, found.sequence).observation.unbind(dim=1)]
    for t in range(3):  # without noise, all candidates of an environment see the same
        assert torch.equal(asked[t], seen[t].repeat_interleave(4, dim=0))
        assert torch.equal(found.sequence[:, t], timid(seen[t]))


def test_noise_is_drawn_for_all_candidates_but_those_that_follow_the_policy():
    model = WithProposal(LinearQuadraticModel(), timid)
    found = plan(ProposalShooting(horizon=HORIZON, num_samples=64, num_policy=1), model)
    assert found.stats["value_best"] > found.stats["value_policy"]
    torch.testing.assert_close(
        found.stats["value_policy"], plan(Policy(horizon=HORIZON), model).value.mean().item()
    )
    alone = plan(ProposalShooting(horizon=HORIZON, num_samples=1), model)
    assert torch.equal(alone.sequence, plan(Policy(horizon=HORIZON), model).sequence)
    assert alone.stats["value_spread"] == 0.0


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(2, 20), scale=st.floats(0.01, 2.0), seed=st.integers(0, 99))
def test_the_plan_is_never_worse_than_the_policy_and_its_value_is_true(samples, scale, seed):
    model = WithProposal(LinearQuadraticModel(), timid)
    planner = ProposalShooting(horizon=HORIZON, num_samples=samples, noise_scale=scale)
    found = plan(planner, model, seed=seed)
    torch.testing.assert_close(found.value, value_of(found.sequence, model))
    assert (found.value >= plan(Policy(horizon=HORIZON), model).value).all()
    assert found.stats["transitions"] == 3 * samples * HORIZON


def test_a_discrete_proposal_is_disturbed_by_uniform_choices():
    expert = LinearQuadraticExpert(choices=5)
    same = plan(ProposalShooting(horizon=HORIZON, num_samples=32, random_share=0.0), expert)
    assert same.stats["value_spread"] == 0.0
    assert torch.equal(same.sequence, plan(Policy(horizon=HORIZON), expert).sequence)
    other = plan(ProposalShooting(horizon=HORIZON, num_samples=32, random_share=0.5), expert)
    assert other.stats["value_spread"] > 0.0
    assert other.sequence.dtype == torch.int64


# -- the policy alone -------------------------------------------------------------------------------------


def test_one_decision_imagines_nothing():
    class Blind(LinearQuadraticExpert):
        def step(self, state, action, *, generator=None):
            raise AssertionError("imagined")

    expert = Blind()
    found = plan(Policy(), expert)
    torch.testing.assert_close(found.action, (STARTS @ expert.gain).clamp(-1, 1))
    assert found.sequence.shape == (3, 1, 1)
    assert found.value.isnan().all()
    assert found.stats == {"non_finite": 0.0, "transitions": 0.0}


def test_more_decisions_are_imagined_for_the_value():
    model = LinearQuadraticExpert()
    found = plan(Policy(horizon=HORIZON), model)
    assert torch.equal(found.action, plan(Policy(), model).action)
    torch.testing.assert_close(found.value, value_of(found.sequence, model))
    assert found.stats["transitions"] == 3 * HORIZON


def test_no_value_changes_what_the_policy_does():
    class Lost(LinearQuadraticExpert):
        def step(self, state, action, *, generator=None):
            state, step = super().step(state, action)
            return state, type(step)(step.observation, step.reward * math.nan, step.alive)

    found = plan(Policy(horizon=2), Lost())
    assert torch.equal(found.action, plan(Policy(), LinearQuadraticExpert()).action)
    assert found.stats["non_finite"] == 3


def test_actions_out_of_bounds_are_clipped():
    model = WithProposal(LinearQuadraticModel(), lambda o: 100.0 * o[:, :1])
    assert plan(Policy(), model).action.flatten().tolist() == [1.0, -1.0, 1.0]


# -- in an agent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "planner", [ProposalShooting(horizon=3, num_samples=8), Policy(), BeamSearch(horizon=3)]
)
@pytest.mark.parametrize("choices", [None, 3])
def test_an_agent_plans_for_some_of_its_environments(planner, choices):
    agent = TDMAgent(LinearQuadraticExpert(choices=choices), planner)
    memory, _ = agent.decide(agent.initial_memory(3), STARTS)
    active = torch.tensor([True, False, True])
    memory, action = agent.decide(memory, STARTS, active=active)
    assert agent.last_plan.rows.tolist() == [0, 2]
    assert action.shape == (3, 1)
    assert agent.last_plan.plan.carry is None


def test_predict_samples_the_policy_unless_it_is_to_be_deterministic():
    expert = LinearQuadraticExpert()
    agent, observation = TDMAgent(expert, Policy()), STARTS.numpy()
    certain, _ = agent.predict(observation, deterministic=True)
    torch.testing.assert_close(torch.from_numpy(certain), STARTS @ expert.gain)
    sampled, _ = agent.predict(observation, deterministic=False)
    assert (sampled != certain).all()


# -- refusing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planner", [ProposalShooting(), Policy()])
def test_a_model_without_a_proposal_is_refused_with_the_remedy(planner):
    with pytest.raises(
        TypeError, match=r"LinearQuadraticModel has no propose\(\): wrap it as .*WithProposal"
    ):
        plan(planner, LinearQuadraticModel())


@pytest.mark.parametrize(
    ("planner", "settings", "message"),
    [
        (Policy, {"horizon": 0}, "horizon is 0; expected at least 1"),
        (Policy, {"execute": "mean"}, "execute is 'mean'; expected 'best' or 'sample'"),
        (Policy, {"discount": 0.0}, "discount is 0.0; expected 0 < discount <= 1"),
        (ProposalShooting, {"num_samples": 0}, "num_samples is 0; expected at least 1"),
        (
            ProposalShooting,
            {"num_policy": 65},
            "num_policy is 65; expected at least 0 and at most num_samples",
        ),
        (ProposalShooting, {"noise_scale": -0.1}, "noise_scale is -0.1; expected at least 0"),
        (ProposalShooting, {"noise_alpha": 1.0}, "noise_alpha is 1.0; expected 0"),
        (ProposalShooting, {"noise_beta": -1.0}, "noise_beta is -1.0; expected at least 0"),
        (ProposalShooting, {"random_share": 1.5}, "random_share is 1.5; expected a probability"),
        (ProposalShooting, {"discount": math.nan}, "discount is nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(planner, settings, message):
    with pytest.raises(ValueError) as error:
        planner(**settings)
    assert message in str(error.value)
