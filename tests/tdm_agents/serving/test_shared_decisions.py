"""Sessions that are decided for together get what each would get alone."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from served_agents import observations, small_agent
from small_transformer import make_model

from tdm_agents import TDMAgent, make_planner
from tdm_agents.errors import WrongValueError
from tdm_agents.serving.shared_decisions import SharedDecisions

AGENTS = {
    "mppi": lambda: small_agent(),
    "mppi, drawn and explored": lambda: small_agent(execute="sample", explore=True, noise_beta=1.0),
    "mppi beside the policy": lambda: small_agent(num_policy=3, num_elites=4),
    "cem": lambda: small_agent("cem"),
    "random shooting": lambda: small_agent("random_shooting", horizon=4, num_samples=8),
    "proposal shooting": lambda: small_agent("proposal_shooting", horizon=4, num_samples=8),
    "a policy": lambda: small_agent("policy", execute="sample"),
    "choices": lambda: small_agent("cem", action=spaces.MultiDiscrete([3, 2])),
    "held actions, plans that are followed": lambda: small_agent(replan_every=3, action_repeat=2),
    "a transformer that draws": lambda: TDMAgent(
        make_model(3, 2, read="sample"), make_planner("cem", horizon=3, num_samples=8, iterations=1)
    ),
}


def alone(agent, rows, seed, steps):
    agent.reset(seed=seed)
    return np.array([agent.act(o) for o in steps])


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("filled", [False, True])
def test_sessions_get_what_each_would_get_alone(name, filled):
    agent = AGENTS[name]()
    decisions = SharedDecisions(agent, 12, filled=filled)
    steps = 4
    sessions = {seed: observations(steps, rows, seed=seed) for seed, rows in enumerate((1, 3, 1, 2))}
    states = dict.fromkeys(sessions)
    found = {seed: [] for seed in sessions}
    for t in range(steps):
        # one joins later, so that sessions are in different places of their episodes
        asked = [s for s in sessions if s < 3 or t >= 2]
        questions = [
            decisions.question(sessions[s][t if s < 3 else t - 2], state=states[s], seed=s) for s in asked
        ]
        for s, answer in zip(asked, decisions.decide(questions), strict=True):
            found[s].append(answer.action)
            states[s] = answer.state
    assert not decisions._alone, "the draws could not be made in parts"
    for s, actions in found.items():
        expected = alone(agent, None, s, sessions[s][: len(actions)])
        np.testing.assert_allclose(np.array(actions), expected, atol=1e-3)


def test_one_session_at_a_time_is_the_agent_alone_to_the_last_bit():
    agent = AGENTS["mppi, drawn and explored"]()
    decisions, state, actions = SharedDecisions(agent, 1), None, []
    for observation in observations(5):
        (answer,) = decisions.decide([decisions.question(observation, state=state, seed=3)])
        state = answer.state
        actions.append(answer.action)
    assert (np.array(actions) == alone(agent, 1, 3, observations(5))).all()


def test_in_batches_that_are_filled_up_company_does_not_matter_to_the_last_bit():
    agent = small_agent(num_policy=3, execute="sample")
    decisions = SharedDecisions(agent, 16, filled=True)
    generator = np.random.default_rng(0)
    mine = [decisions.question(o, state=None, seed=9) for o in observations(3)]
    for question in mine:
        (expected,) = decisions.decide([question])
        for count in (1, 5, 15):
            others = [
                decisions.question(100 * generator.normal(size=3), state=None, seed=int(s))
                for s in generator.integers(0, 99, count)
            ]
            place = int(generator.integers(count + 1))
            answer = decisions.decide([*others[:place], question, *others[place:]])[place]
            assert (answer.action == expected.action).all()
            assert torch.equal(answer.state.random, expected.state.random)


def test_a_session_that_fails_fails_alone():
    def far_is_unknown(observation, action, after):
        return torch.where(after[:, 0].abs() > 50, torch.nan, after[:, 0])

    inner = small_agent()
    agent = TDMAgent(inner.base_model, inner.planner, reward_function=far_is_unknown)
    decisions = SharedDecisions(agent, 8)
    good = [decisions.question(o, state=None, seed=1) for o in observations(3)]
    bad = decisions.question(np.full(3, 1e4, np.float32), state=None)
    answers = decisions.decide([good[0], bad, *good[1:]])
    assert isinstance(answers.pop(1), WrongValueError)
    for answer, question in zip(answers, good, strict=True):
        (expected,) = decisions.decide([question])
        assert (answer.action == expected.action).all()


def test_where_draws_cannot_be_made_in_parts_sessions_are_decided_for_one_by_one(capsys):
    agent = small_agent()
    inner = agent.model.propose

    def propose(state, count, *, generator=None, deterministic=False):
        torch.rand((), generator=generator)
        return inner(state, count, generator=generator, deterministic=deterministic)

    agent.model.propose = propose
    agent.planner = make_planner("mppi", horizon=3, num_samples=8, num_policy=2)
    decisions = SharedDecisions(agent, 8)
    sessions = observations(4)
    answers = decisions.decide([decisions.question(o, state=None, seed=5) for o in sessions])
    assert "one by one" in capsys.readouterr().err
    for answer, observation in zip(answers, sessions, strict=True):
        assert (answer.action == alone(agent, 1, 5, [observation])[0]).all()


def test_a_deadline_is_for_the_batch():
    agent = small_agent(horizon=3)
    agent.deadline = 0.5
    decisions = SharedDecisions(agent, 8)
    answers = decisions.decide([decisions.question(o, state=None, seed=1) for o in observations(4)])
    assert all(np.isfinite(answer.action).all() for answer in answers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observation": np.zeros((9, 3))}, "at most 8 per session"),
        ({"observation": np.zeros(4)}, "observation"),
        ({"observation": np.zeros((2, 3)), "reward": np.zeros(3)}, "reward"),
        ({"observation": np.zeros((2, 3)), "start": np.zeros(1, bool)}, "episode_start"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    decisions = SharedDecisions(small_agent(), 8)
    with pytest.raises(WrongValueError, match=message):
        decisions.question(arguments.pop("observation"), state=None, **arguments)
