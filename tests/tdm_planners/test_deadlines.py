"""Planners that stop early: the same where there is time, and never late by more than a step."""

import dataclasses
from dataclasses import replace

import pytest
import torch

from tdm_agents.protocols import AnytimePlanner, Deadline, History, Pace
from tdm_agents.registry import PLANNERS, make_planner, names
from tdm_agents.testing import LinearQuadraticExpert, LinearQuadraticModel
from tdm_planners.anytime import affordable
from tdm_planners.beam_search import BeamSearch

STARTS = torch.tensor([[0.5, 0.2], [-0.4, 0.3], [0.2, 0.0]])
HORIZON = 6
SETTINGS = {
    "random_shooting": {"num_samples": 64, "iterations": 3},
    "cem": {"num_samples": 64, "iterations": 4},
    "mppi": {"num_samples": 64, "iterations": 4, "num_policy": 4, "num_elites": 16},
    "proposal_shooting": {"num_samples": 64},
    "beam_search": {"beam_width": 16},
    "policy": {},
}


class Clock:
    """Time that passes only when something is imagined."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Slow(LinearQuadraticExpert):
    """Every step of ``N`` rows takes ``0.1 + 0.01 N`` seconds of a clock."""

    def __init__(self, clock):
        super().__init__(std=0.2)
        self.clock = clock
        self.longest = 0.0

    def step(self, state, action, *, generator=None):
        took = 0.1 + 0.01 * len(action)
        self.clock.now += took
        self.longest = max(self.longest, took)
        return super().step(state, action, generator=generator)

    def rollout(self, state, actions, *, generator=None):
        raise AssertionError("nothing can be stopped within a rollout")


def planner_of(name):
    return make_planner(name, horizon=HORIZON, **SETTINGS[name])


def plan(planner, model, *, deadline=None, carry=None, seed=0):
    more = {} if deadline is None else {"deadline": deadline}
    return planner.plan(
        model,
        model.start(History.of_observation(STARTS, action_dim=1), horizon=planner.horizon),
        planner.init(model.spec, len(STARTS)) if carry is None else carry,
        elapsed=torch.zeros(len(STARTS), dtype=torch.int64),
        generator=torch.Generator().manual_seed(seed),
        **more,
    )


@pytest.mark.parametrize("name", names(PLANNERS))
def test_with_enough_time_the_plan_is_the_same(name):
    planner, model = planner_of(name), LinearQuadraticExpert(std=0.2)
    assert isinstance(planner, AnytimePlanner)
    pace = Pace()
    for _ in range(2):  # the second time, the pace is known
        found, usual = plan(planner, model, deadline=Deadline(1e9, pace)), plan(planner, model)
        assert torch.equal(found.sequence, usual.sequence) and torch.equal(found.value, usual.value)
        assert found.stats.items() >= usual.stats.items()


@pytest.mark.parametrize("name", sorted(set(names(PLANNERS)) - {"policy"}))
@pytest.mark.parametrize("seconds", [0.0, 0.5, 3.0, 9.0, 30.0])
def test_no_plan_is_late_by_more_than_a_step(name, seconds):
    clock, pace, planner = Clock(), Pace(), planner_of(name)
    model = Slow(clock)
    for _ in range(4):
        model.longest, deadline = 0.0, Deadline(clock() + seconds, pace, clock)
        found = plan(planner, model, deadline=deadline)
        assert -deadline.left() <= model.longest + 1e-9
        assert found.sequence.shape == (3, HORIZON, 1) and found.sequence.isfinite().all()
        assert found.stats["samples"] >= 1 and 1 <= found.stats["steps"] <= HORIZON


@pytest.mark.parametrize("name", ["random_shooting", "cem", "mppi"])
def test_more_time_is_more_imagination_and_a_known_pace_is_kept_to(name):
    planner = planner_of(name)
    whole = 3 * 64 * HORIZON * SETTINGS[name]["iterations"]
    imagined = []
    for seconds in (5.0, 10.0, 20.0):
        clock, pace = Clock(), Pace()
        model = Slow(clock)
        for _ in range(6):
            deadline = Deadline(clock() + seconds, pace, clock)
            found = plan(planner, model, deadline=deadline)
        assert deadline.left() >= 0.0  # late at most while the pace is learned
        assert found.stats["steps"] == HORIZON  # fewer candidates, not shorter ones
        imagined.append(found.stats["transitions"])
    assert imagined == sorted(imagined) and imagined[0] < 0.5 * imagined[-1] < whole
    # 0.1 + 0.01 N seconds per step of N rows: at least a third of the time is put to use
    assert imagined[-1] * 0.01 > 20.0 / 3.0


def test_a_plan_that_is_cut_short_is_the_best_so_far():
    clock = Clock()
    model = Slow(clock)
    planner = make_planner("random_shooting", horizon=HORIZON, num_samples=64, iterations=3)
    step = 0.1 + 0.01 * 64 * 3
    pace = Pace()
    pace.measured(64 * 3, step)
    # time for one iteration and a half, if nobody had measured: the second one is dropped
    model.clock.now = 0.0
    late = dataclasses.replace(planner, iterations=1)
    found = plan(planner, model, deadline=Deadline(1.5 * HORIZON * step, Pace(), clock))
    usual = plan(late, LinearQuadraticExpert(std=0.2))
    assert found.stats["iterations"] == 1.0
    assert torch.equal(found.sequence, usual.sequence) and torch.equal(found.value, usual.value)


def test_a_first_iteration_that_is_cut_short_compares_by_the_steps_that_were_in_time():
    clock = Clock()
    model, planner = Slow(clock), planner_of("random_shooting")
    step = 0.1 + 0.01 * 64 * 3
    found = plan(planner, model, deadline=Deadline(2.5 * step, Pace(), clock))
    assert found.stats["steps"] == 2.0 and found.stats["iterations"] == 1.0
    shorter = make_planner("random_shooting", horizon=HORIZON, num_samples=64, iterations=1)
    drawn = plan(shorter, LinearQuadraticExpert(std=0.2))
    assert found.sequence.shape == drawn.sequence.shape
    assert found.stats["transitions"] == 3 * 64 * 2


def test_the_next_decision_has_as_much_time_again():
    clock = Clock()
    deadline = Deadline(clock() + 2.0, Pace(), clock)
    clock.now += 1.5
    again = deadline.again()
    assert (deadline.left(), again.left()) == (0.5, 2.0)
    assert again.pace is deadline.pace


@pytest.mark.parametrize(
    "planner",
    [
        make_planner("cem", num_samples=64, num_kept=20, num_policy=18, num_elites=8),
        make_planner("mppi", num_samples=32, num_policy=26),
    ],
)
def test_fewer_candidates_still_leave_some_to_sample(planner):
    for samples in range(planner.num_kept + 9, planner.num_samples + 1):
        fewer = planner.smaller(samples, 1)
        assert 0 <= fewer.num_policy <= planner.num_policy
    assert planner.smaller(planner.num_samples, 1).num_policy == planner.num_policy


def test_a_search_counts_the_transitions_that_it_will_make():
    every = BeamSearch(horizon=2, beam_width=8, num_expand=4, expand="every")
    model = LinearQuadraticModel(choices=5)
    for planner in (every, replace(every, expand="uniform")):
        asked, deadline = [], Deadline(1e9, Pace(), Clock())
        deadline.allows = lambda rows, steps=1, asked=asked: asked.append(rows) or True
        found = plan(planner, model, deadline=deadline)
        # five sequences are all that the first depth has; eight are drawn of them, some twice
        assert asked == [3 * 5 * 5 if planner is every else 3 * 8 * 4]
        assert found.stats["transitions"] >= asked[0]


def test_the_pace_is_a_constant_and_something_per_row():
    pace = Pace()
    assert pace.expected(10) is None
    pace.measured(100, 2.0)
    assert pace.expected(100) == pytest.approx(2.0)
    assert pace.expected(50) == pytest.approx(1.5)  # half of it is taken for the constant
    pace.measured(200, 3.0)
    for rows in (0, 50, 100, 200, 1000):
        assert pace.expected(rows) == pytest.approx(1.0 + 0.01 * rows, rel=0.01)
    for _ in range(5000):  # what was long ago is forgotten
        pace.measured(100, 4.0)
    assert pace.expected(100) == pytest.approx(4.0, rel=0.01)


def test_what_is_affordable_fits_and_is_no_more_than_asked():
    pace, clock = Pace(), Clock()
    for rows in (10, 1000):
        pace.measured(rows, 1.0 + 0.01 * rows)
    for seconds in (1.0, 10.0, 30.0, 100.0, 1000.0):
        samples, iterations = affordable(
            Deadline(seconds, pace, clock), batch=2, horizon=5, samples=64, iterations=4
        )
        assert 8 <= samples <= 64 and 1 <= iterations <= 4
        needed = (1.0 + 0.01 * 2 * samples) * 5 * iterations
        assert needed <= seconds * 1.05 or (samples, iterations) == (8, 1)
    assert (samples, iterations) == (64, 4)


def test_where_others_take_the_core_away_that_much_time_is_kept_in_reserve_for_a_while():
    pace = Pace()
    deadline = Deadline(2.2, pace, clock=lambda: 0.0)
    for _ in range(50):
        pace.measured(8, 1.0)
    assert deadline.allows(8, steps=2) and pace.delay == 0.0
    pace.measured(8, 1.5)  # another process had the core for half a second
    assert pace.delay == pytest.approx(0.5)
    assert not deadline.allows(8, steps=2) and deadline.allows(8, steps=1)
    for _ in range(200):
        pace.measured(8, 1.0)
    assert pace.delay < 0.02 and deadline.allows(8, steps=2)
