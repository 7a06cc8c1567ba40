"""Token-level beam search, on a model whose every transition can be listed."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents import TDMAgent
from tdm_agents.protocols import HasTokens, History, ModelSpec, Step, rollout
from tdm_agents.testing import LinearQuadraticModel
from tdm_agents.wrappers import RewardFunction, WithValue
from tdm_planners.beam_search import BeamSearch
from tdm_planners.transitions import likely_transitions

CHOICES, SEEN, EARNED = (2, 3), 2, 3  # two components of an action, one observation scalar, rewards 0 to 2
SIZES = (*CHOICES, SEEN, EARNED)
TRANSITIONS = math.prod(SIZES)


class Language:
    """A trajectory is a word; what may follow it, and how likely, is drawn by a seed and the word itself.

    About every third token is impossible. A state is a list of words, one a row.
    """

    def __init__(self, seed=0, broken=()):
        self.seed, self.broken = seed, broken
        self.spec = ModelSpec(
            observation_space=spaces.Box(0, SEEN, (1,)),
            action_space=spaces.MultiDiscrete(CHOICES),
            observation_dim=1,
            action_dim=2,
            action_kind="discrete",
            action_choices=CHOICES,
        )

    def start(self, history, *, horizon):
        return [(int(o),) for o in history.observation[:, -1, 0]]

    def take(self, state, rows):
        return [state[row] for row in rows]

    def draft(self, state):
        return Writing(self, state)

    def probabilities(self, word):
        """Of each token that may come next."""
        rng = np.random.default_rng([self.seed, len(word), *word])
        weight = rng.random(SIZES[(len(word) - 1) % len(SIZES)])
        weight[(rng.random(len(weight)) < 1 / 3) & (weight < weight.max())] = 0.0
        return weight / weight.sum()


@dataclass
class Writing:
    model: Language
    words: list

    def log_probs(self):
        with np.errstate(divide="ignore"):
            return torch.tensor(np.log([self.model.probabilities(word) for word in self.words])).float()

    def push(self, token):
        return replace(self, words=[(*w, int(t)) for w, t in zip(self.words, token, strict=True)])

    def take(self, rows):
        return replace(self, words=[self.words[row] for row in rows])

    def finish(self):
        last = torch.tensor([word[-4:] for word in self.words])
        reward = last[:, 3].float()
        for row, word in enumerate(self.words):
            if word[1:] in self.model.broken:
                reward[row] = math.nan
        alive = torch.ones(len(last), dtype=torch.bool)
        return self.words, last[:, :2], Step(last[:, 2:3].float(), reward, alive)


def plan(planner, model, starts=(0,), seed=0):
    observation = torch.as_tensor(starts).float().view(len(starts), -1)
    discrete = model.spec.action_kind == "discrete"
    history = History.of_observation(observation, action_dim=model.spec.action_dim, discrete=discrete)
    return planner.plan(
        model,
        model.start(history, horizon=planner.horizon),
        planner.init(model.spec, len(starts)),
        elapsed=torch.zeros(len(starts), dtype=torch.int64),
        generator=torch.Generator().manual_seed(seed),
    )


def sentences(model, word, depth, greedy_outcomes):
    """Every trajectory that may follow a word, as words."""
    if depth == 0:
        return [word]
    found = []
    for action in itertools.product(*map(range, CHOICES)):
        grown = [word]
        for place in range(len(SIZES)):
            following = []
            for w in grown:
                p = model.probabilities(w)
                if place < len(CHOICES):
                    tokens = [action[place]] if p[action[place]] > 0 else []
                else:
                    tokens = [int(p.argmax())] if greedy_outcomes else np.flatnonzero(p).tolist()
                following += [(*w, token) for token in tokens]
            grown = following
        found += [s for w in grown for s in sentences(model, w, depth - 1, greedy_outcomes)]
    return found


def value_of(word):
    return float(sum(word[4::4]))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 999),
    start=st.integers(0, 1),
    outcomes=st.sampled_from([1, SEEN * EARNED]),
    stochastic=st.booleans(),
)
def test_a_beam_of_full_width_is_an_exhaustive_search(seed, start, outcomes, stochastic):
    model = Language(seed)
    every = sentences(model, (start,), 2, greedy_outcomes=outcomes == 1)
    best = max(map(value_of, every))
    planner = BeamSearch(
        horizon=2,
        beam_width=TRANSITIONS**2,
        num_expand=6,
        level="token",
        stochastic=stochastic,
        num_outcomes=outcomes,
    )
    found = plan(planner, model, (start,))
    assert found.value.item() == best
    played = tuple(map(tuple, found.sequence[0].tolist()))
    assert played in {(w[1:3], w[5:7]) for w in every if value_of(w) == best}
    assert found.stats["non_finite"] == 0


def log_likelihood(model, word):
    with np.errstate(divide="ignore"):
        return sum(math.log(model.probabilities(word[:i])[word[i]]) for i in range(1, len(word)))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 999), start=st.integers(0, 1))
def test_the_likeliest_sentence_is_found_whatever_it_earns(seed, start):
    model = Language(seed)
    planner = BeamSearch(
        horizon=2,
        beam_width=TRANSITIONS**2,
        num_expand=6,
        level="token",
        stochastic=False,
        num_outcomes=SEEN * EARNED,
        objective="likelihood",
    )
    valued = WithValue(model, lambda state: torch.full((len(state),), 100.0))
    best = max(sentences(model, (start,), 2, greedy_outcomes=False), key=lambda w: log_likelihood(model, w))
    for of in (model, valued):
        found = plan(planner, of, (start,))
        assert found.sequence[0].flatten().tolist() == [*best[1:3], *best[5:7]]
        assert found.value.item() == pytest.approx(log_likelihood(model, best), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_a_beam_of_one_is_greedy(seed):
    model, word = Language(seed), (1,)
    greedy = BeamSearch(horizon=3, beam_width=1, num_expand=1, level="token", stochastic=False)
    found = plan(greedy, model, (1,))
    for _ in range(3 * len(SIZES)):
        word = (*word, int(model.probabilities(word).argmax()))
    assert found.sequence[0].flatten().tolist() == [*word[1:3], *word[5:7], *word[9:11]]
    assert found.value.item() == value_of(word)
    assert found.stats["transitions"] == 3


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
def test_all_transitions_together_are_certain_and_the_likeliest_come_first(seed):
    model = Language(seed)
    every = likely_transitions(
        model, model.spec, [(0,), (1,)], rows=2, num_actions=6, num_outcomes=SEEN * EARNED
    )
    assert every.log_prob.shape == (2, TRANSITIONS)
    torch.testing.assert_close(every.log_prob.exp().sum(dim=1), torch.ones(2))
    assert torch.equal(every.impossible, every.log_prob == -math.inf)
    for row, word in enumerate(every.state):
        p = [model.probabilities(word[:i])[word[i]] for i in range(1, 5)]
        assert every.log_prob.flatten()[row].exp().item() == pytest.approx(math.prod(p), abs=1e-6)
    outcomes = every.log_prob.view(2, 6, -1)
    finite = torch.where(outcomes.isfinite(), outcomes, -1e9)
    assert (finite.diff(dim=2) <= 0).all()
    few = likely_transitions(model, model.spec, [(0,), (1,)], rows=2, num_actions=6, num_outcomes=2)
    torch.testing.assert_close(few.log_prob.view(2, 6, 2)[..., 0], outcomes[..., 0])


def test_impossible_actions_are_not_taken_and_not_counted_as_refused():
    for seed in range(20):
        found = plan(BeamSearch(horizon=2, beam_width=4, num_expand=6, level="token"), Language(seed))
        word = (0,)
        for component in found.sequence[0, 0].tolist():
            assert Language(seed).probabilities(word)[component] > 0
            word = (*word, component)
        assert found.value.isfinite().all() and found.stats["non_finite"] == 0


def test_what_is_worth_nan_is_refused_and_counted():
    model = Language(3)
    planner = BeamSearch(horizon=1, beam_width=64, num_expand=6, level="token", num_outcomes=6)
    best = max(sentences(model, (0,), 1, greedy_outcomes=False), key=value_of)
    broken = Language(3, broken=[best[1:]])
    found = plan(planner, broken)
    assert found.stats["non_finite"] == 1 and found.value.isfinite().all()
    all_of_them = [w[1:] for w in sentences(model, (0,), 1, greedy_outcomes=False)]
    with pytest.raises(ValueError, match="environment 0 has no candidate with a finite value"):
        plan(planner, Language(3, broken=all_of_them))


def test_actions_are_drawn_as_probable_as_they_are_and_without_repeats():
    model, count = Language(2), 1500
    drawn = likely_transitions(
        model,
        model.spec,
        [(1,)] * count,
        rows=count,
        num_actions=2,
        generator=torch.Generator().manual_seed(0),
    )
    assert not (drawn.action[:, 0] == drawn.action[:, 1]).all(dim=1).any()
    p = {}
    for a, b in itertools.product(*map(range, CHOICES)):
        p[a, b] = model.probabilities((1,))[a] * model.probabilities((1, a))[b]
    for action, wanted in p.items():
        first, second = (drawn.action == torch.tensor(action)).all(dim=2).float().mean(dim=0).tolist()
        assert first == pytest.approx(wanted, abs=0.05)
        others = sum(q * wanted / (1 - q) for other, q in p.items() if other != action)
        assert second == pytest.approx(others, abs=0.05)


def test_environments_are_searched_apart_and_the_likeliest_need_no_draws():
    planner = BeamSearch(horizon=3, beam_width=3, num_expand=2, level="token", stochastic=False)
    together = plan(planner, Language(5), (0, 1), seed=1)
    for row in (0, 1):
        alone = plan(planner, Language(5), (row,), seed=2)
        assert torch.equal(together.sequence[row], alone.sequence[0])
        assert together.value[row] == alone.value[0]


def test_a_wrapped_model_has_tokens_and_its_reward_and_value_count():
    model = RewardFunction(Language(1), lambda o, a, after: 10.0 * a[:, 1] + after[:, 0])
    assert isinstance(model, HasTokens) and not isinstance(
        RewardFunction(LinearQuadraticModel(), lambda o, a, after: o.sum(dim=1)), HasTokens
    )
    planner = BeamSearch(horizon=1, beam_width=8, num_expand=6, level="token")
    found = plan(planner, model)
    possible = sentences(Language(1), (0,), 1, greedy_outcomes=True)
    assert found.value.item() == max(10.0 * w[2] + w[3] for w in possible)
    valued = plan(planner, WithValue(model, lambda o: 100.0 * (1 - o[:, 0])))
    assert valued.value.item() == max(10.0 * w[2] + w[3] + 100.0 * (1 - w[3]) for w in possible)


def test_a_model_without_tokens_is_refused_with_the_remedy():
    model = LinearQuadraticModel(2, choices=2)
    with pytest.raises(
        TypeError, match=r"LinearQuadraticModel has no draft\(\): use a model that has tokens"
    ):
        plan(BeamSearch(horizon=1, level="token"), model, torch.zeros(1, 4))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 999), nucleus=st.floats(0.05, 1.0), stochastic=st.booleans())
def test_actions_are_of_the_likeliest_tokens_that_make_the_nucleus(seed, nucleus, stochastic):
    model = Language(seed)
    found = likely_transitions(
        model,
        model.spec,
        [(0,)],
        rows=1,
        num_actions=6,
        nucleus=nucleus,
        generator=torch.Generator().manual_seed(seed) if stochastic else None,
    )

    def allowed(word):
        p = model.probabilities(word)
        order = np.argsort(-p)
        before = np.cumsum(p[order]) - p[order]
        return {int(token) for token in order[(before < nucleus) & (p[order] > 0)]}

    expected = {(a, b) for a in allowed((0,)) for b in allowed((0, a))}
    possible = found.action[~found.impossible].int()
    assert {tuple(action) for action in possible.tolist()} == expected


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"level": "word"}, "level is 'word'; expected one of action, token"),
        ({"level": "token", "expand": "uniform"}, "expand is 'uniform', but level is 'token'"),
        ({"num_outcomes": 2}, "num_outcomes is 2, but level is 'action'"),
        ({"stochastic": False}, "stochastic is False, but level is 'action'"),
        ({"nucleus": 0.5}, "nucleus is 0.5, but level is 'action'"),
        ({"level": "token", "nucleus": 0.0}, "nucleus is 0.0; expected 0 < nucleus <= 1"),
        ({"level": "token", "objective": "luck"}, "objective is 'luck'; expected one of reward, likelihood"),
        ({"objective": "likelihood"}, "objective is 'likelihood', level 'action' and discount 1.0; expected"),
        (
            {"level": "token", "objective": "likelihood", "discount": 0.9},
            "objective is 'likelihood', level 'token' and discount 0.9; expected level 'token'",
        ),
        ({"level": "token", "num_outcomes": 0}, "num_outcomes is 0; expected at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(more, message):
    with pytest.raises(ValueError) as error:
        BeamSearch(**more)
    assert message in str(error.value)


@pytest.mark.parametrize("stochastic", [True, False])
def test_the_shipped_checkpoint_is_searched_by_its_tokens_and_beats_chance(stochastic):
    agent = TDMAgent.load("cartpole-swingup")
    model = agent.model
    # upright and falling: (x, cos, sin, velocities), so that what is done in the next second counts
    falling = torch.tensor([[0.0, 0.995, 0.1, 0.0, 0.5]])
    planner = BeamSearch(horizon=10, beam_width=8, num_expand=4, level="token", stochastic=stochastic)
    found = plan(planner, model, falling)
    draws = torch.rand((32, 10, 1), generator=torch.Generator().manual_seed(1)) * 2 - 1
    state = model.start(History.of_observation(falling, action_dim=1), horizon=10)
    sequences = torch.cat([found.sequence, draws])
    imagined = rollout(model, model.take(state, torch.zeros(33, dtype=torch.int64)), sequences)
    value = imagined.reward.sum(dim=1)
    assert value[0] > value[1:].mean()
    torch.testing.assert_close(found.value[0], value[0], rtol=0.1, atol=0.0)
