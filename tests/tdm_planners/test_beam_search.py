"""Beam search finds what its width allows, and prunes by return plus value."""

import math
from dataclasses import replace

import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.protocols import History, ModelSpec, Step
from tdm_agents.testing import LinearQuadraticExpert, LinearQuadraticModel, check_planner
from tdm_agents.wrappers import WithoutAlive, WithProposal, WithValue
from tdm_planners.beam_search import BeamSearch

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


class Tree:
    """A path through a binary tree: the state is the choices so far, and rewards are looked up by them.

    The observation is ``(depth, choices read as a binary number)``; a path in ``ends`` is the last of its
    episode, and what comes after it is NaN.
    """

    def __init__(self, rewards, ends=()):
        self.rewards, self.ends = rewards, ends
        self.spec = ModelSpec(
            observation_space=spaces.Box(0, math.inf, (2,)),
            action_space=spaces.Discrete(2),
            observation_dim=2,
            action_dim=1,
            action_kind="discrete",
            action_choices=(2,),
            terminates=bool(ends),
        )

    def start(self, history, *, horizon):
        return [""] * history.batch

    def take(self, state, rows):
        return [state[row] for row in rows]

    def step(self, state, action, *, generator=None):
        state = [path + str(int(a)) for path, a in zip(state, action[:, 0], strict=True)]
        over = [any(p.startswith(e) and p != e for e in self.ends) for p in state]
        reward = [math.nan if o else self.rewards.get(p, 0.0) for p, o in zip(state, over, strict=True)]
        alive = [not o and p not in self.ends for p, o in zip(state, over, strict=True)]
        observation = torch.tensor([[float(len(p)), float(int(p, 2))] for p in state])
        return state, Step(observation, torch.tensor(reward), torch.tensor(alive))


def path_of(found, row=0):
    return "".join(str(int(a)) for a in found.sequence[row, :, 0])


ONE = torch.zeros(1, 2)
# greed takes 0 at first, and all that is worth having lies behind 1
LATE = {"0": 1.0, "1": 0.0, "111": 10.0}


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (LinearQuadraticModel(), {"settings": {"beam_width": 64, "num_expand": 16}, "fraction": 0.85}),
        (LinearQuadraticExpert(), {}),
        (LinearQuadraticExpert(choices=5), {"fraction": 0.8}),
        (LinearQuadraticModel(choices=3), {"draws": False}),
        (LinearQuadraticModel(choices=3), {"settings": {"expand": "uniform", "num_expand": 8}}),
    ],
)
def test_the_contract_holds(model, more):
    check_planner(BeamSearch, model=model, **more)


@settings(max_examples=20, deadline=None)
@given(choices=st.integers(2, 3), position=st.floats(-0.6, 0.6), velocity=st.floats(-0.6, 0.6))
def test_a_beam_as_wide_as_the_tree_finds_the_optimum(choices, position, velocity):
    model = LinearQuadraticModel(choices=choices)
    start = torch.tensor([[position, velocity]])
    planner = BeamSearch(horizon=4, beam_width=choices**4, num_expand=choices)
    found = plan(planner, model, starts=start)
    _, best = model.optimum(start, 4)
    torch.testing.assert_close(found.value, best)


def test_a_narrow_beam_is_greedy_and_a_value_tells_it_where_to_go():
    narrow = BeamSearch(horizon=3, beam_width=1, num_expand=2)
    model = Tree(LATE)
    assert path_of(plan(narrow, model, starts=ONE))[0] == "0"
    assert path_of(plan(BeamSearch(horizon=3, beam_width=4, num_expand=2), model, starts=ONE)) == "111"

    def hope(observation):  # the paths of ones alone
        depth, choices = observation.unbind(dim=1)
        return 5.0 * ((choices == 2**depth - 1) & (depth < 3))

    found = plan(narrow, WithValue(model, hope), starts=ONE)
    assert path_of(found) == "111"
    assert found.value.tolist() == [10.0]


def test_the_value_at_the_end_counts_discounted():
    model = WithValue(Tree({"0": 1.0, "00": 1.0}), lambda o: torch.full((len(o),), 8.0))
    planner = BeamSearch(horizon=2, beam_width=2, num_expand=2, discount=0.5)
    assert plan(planner, model, starts=ONE).value.tolist() == [1.0 + 0.5 * 1.0 + 0.25 * 8.0]


def test_a_sequence_that_ended_keeps_what_it_earned_and_takes_one_place():
    rewards = {"0": 3.0, "1": 0.0, "11": 1.0, "111": 1.0, "1111": 0.5}
    planner = BeamSearch(horizon=4, beam_width=2, num_expand=2)
    found = plan(planner, Tree(rewards, ends=("0",)), starts=ONE)
    assert path_of(found)[0] == "0"
    assert found.value.tolist() == [3.0]
    assert found.stats["non_finite"] == 0  # NaN after the end is no candidate's value
    # were copies of the ended sequence kept, they would push the better one out of the beam
    better = {**rewards, "1111": 2.0}
    assert path_of(plan(planner, Tree(better, ends=("0",)), starts=ONE)) == "1111"


def test_what_was_refused_is_counted_once_and_never_comes_back():
    rewards = {"1": math.nan, "11": 100.0, "0": -1.0}
    found = plan(BeamSearch(horizon=3, beam_width=8, num_expand=2), Tree(rewards), starts=ONE)
    assert path_of(found)[0] == "0"
    assert found.stats["non_finite"] == 1


def test_environments_are_searched_apart():
    model = LinearQuadraticModel(choices=3)
    planner = BeamSearch(horizon=4, beam_width=3)
    together = plan(planner, model)
    for row in range(3):
        alone = plan(planner, model, starts=STARTS[row : row + 1])
        assert torch.equal(together.sequence[row], alone.sequence[0])
        torch.testing.assert_close(together.value[row], alone.value[0])


def test_every_action_of_several_components_is_tried():
    model = LinearQuadraticModel(action_dim=2, choices=2)
    start = torch.tensor([[0.5, -0.3, 0.1, 0.2]])
    found = plan(BeamSearch(horizon=2, beam_width=16, num_expand=4), model, starts=start)
    torch.testing.assert_close(found.value, model.optimum(start, 2)[1])


@pytest.mark.parametrize(
    ("model", "more", "transitions"),
    [
        (LinearQuadraticModel(), {}, 3 * (8 * 4) * 3),
        (LinearQuadraticModel(choices=3), {}, 3 * (3 + 3 * 3 + 8 * 3)),  # 3, then 9 sequences, 8 of them kept
        (LinearQuadraticModel(choices=5), {}, 3 * (8 * 4) * 3),  # more than num_expand: drawn
        (LinearQuadraticModel(choices=5), {"expand": "every"}, 3 * (5 + 5 * 5 + 8 * 5)),
    ],
)
def test_transitions_are_those_that_were_imagined(model, more, transitions):
    planner = BeamSearch(horizon=3, beam_width=8, num_expand=4, **more)
    assert plan(planner, model).stats["transitions"] == transitions


def test_where_actions_come_from_can_be_chosen():
    model = WithProposal(LinearQuadraticModel(), lambda o: 0.25 * torch.ones(len(o), 1))
    assert (plan(BeamSearch(horizon=2), model).sequence == 0.25).all()
    assert not (plan(BeamSearch(horizon=2, expand="uniform"), model).sequence == 0.25).any()


def test_what_cannot_be_expanded_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"LinearQuadraticModel has no propose\(\): wrap it as"):
        plan(BeamSearch(expand="proposal"), LinearQuadraticModel())
    with pytest.raises(
        ValueError, match=r"expand is 'every'.*is not discrete; expected 'proposal' or 'uniform'"
    ):
        plan(BeamSearch(expand="every"), LinearQuadraticModel())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, "horizon is 0; expected at least 1"),
        ({"beam_width": 0}, "beam_width is 0; expected at least 1"),
        ({"num_expand": 0}, "num_expand is 0; expected at least 1"),
        ({"expand": "some"}, "expand is 'some'; expected one of auto, proposal, uniform, every"),
        ({"discount": 2.0}, "discount is 2.0; expected 0 < discount <= 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError) as error:
        BeamSearch(**settings)
    assert message in str(error.value)


class Doubtful(Tree):
    """A tree that says of every path how probable it is that the episode goes on."""

    def __init__(self, rewards, survival):
        super().__init__(rewards, ends=("never",))
        self.survival = survival

    def step(self, state, action, *, generator=None):
        state, step = super().step(state, action, generator=generator)
        survival = torch.tensor([self.survival.get(path, 1.0) for path in state])
        return state, replace(step, alive=survival > 0.5, survival=survival)


def test_what_comes_later_counts_by_the_probability_of_living_to_see_it():
    # the episode ends at the first step or at the second, and pays 1 then
    model = Doubtful({"0": 0.4, "00": 0.6, "000": 1.0}, {"0": 0.6, "00": 0.0})
    planner = BeamSearch(horizon=3, beam_width=8, num_expand=2)
    assert plan(planner, model, starts=ONE).value.tolist() == [pytest.approx(0.4 + 0.6 * 0.6)]
    # an end that is only the likelier answer is not the end of the search
    model = Doubtful({"00": 10.0}, {"0": 0.4})
    assert plan(planner, model, starts=ONE).value.tolist() == [pytest.approx(4.0)]
    valued = WithValue(Doubtful({}, {"0": 0.5, "00": 0.5, "1": 0.1}), lambda o: torch.full((len(o),), 8.0))
    only = BeamSearch(horizon=2, beam_width=1, num_expand=2)
    found = plan(only, WithoutAlive(valued), starts=ONE)
    assert found.value.tolist() == [8.0]  # nobody ends
    assert plan(only, valued, starts=ONE).value.tolist() == [pytest.approx(8.0 * 0.5)]  # "01", by way of "0"
