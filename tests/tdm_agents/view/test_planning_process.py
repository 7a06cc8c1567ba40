"""The process that plans: one snapshot per wish, commands at any time, and an end in every case."""

import time

import pytest

from tdm_agents.environments import EnvRef
from tdm_agents.errors import TDMError
from tdm_agents.registry import make_planner
from tdm_agents.view.live_episode import Watched
from tdm_agents.view.planning_process import PlanningProcess
from tdm_agents.view.snapshots import Body, Setup, Snapshot

WALKER = EnvRef.parse("tdm/WalkerTree-v0 dof=4 body=3")
CEM = "simulator planner=cem horizon=3 num_samples=4 num_elites=2 iterations=1"


@pytest.fixture(scope="module")
def process():
    found = PlanningProcess(Watched(WALKER, (CEM, "random")), fps=100.0)
    yield found
    found.close()
    assert not found.alive


def following(process, kind, condition=lambda _: True, seconds=60):
    """The next news of a kind that meets a condition; snapshots are asked for all along."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        news = process.news.get(timeout=seconds)
        if isinstance(news, Snapshot):
            process.ask()
        if isinstance(news, kind) and condition(news):
            return news
    raise AssertionError("nothing of the kind arrived")


def test_it_begins_with_who_plays_and_the_body(process):
    assert process.setup.player == "cem on the true simulator"
    assert following(process, Body).model


def test_it_plays_pauses_steps_and_goes_on(process):
    following(process, Snapshot, lambda s: s.step > 2)
    process.send("pause")
    stopped = following(process, Snapshot, lambda s: not s.running)
    process.send("step", steps=2)
    stepped = following(process, Snapshot, lambda s: s.step == stopped.step + 2)
    assert not stepped.running
    process.send("run")
    following(process, Snapshot, lambda s: s.step > stopped.step + 4 and s.running)


def test_commands_are_answered_with_their_number(process):
    planner = make_planner("random_shooting", horizon=2, num_samples=5)
    process.send("planner", planner=planner)
    assert following(process, Setup, lambda s: s.serial == process.sent).planner == planner
    process.send("entry", index=1)
    assert following(process, Setup, lambda s: s.serial == process.sent).player == "random policy"
    process.send("planner", planner=planner)
    wrong = following(process, Snapshot, lambda s: s.problem)
    assert "does not plan" in wrong.problem and wrong.running
    process.send("entry", index=0)
    following(process, Snapshot, lambda s: s.plan is not None and not s.problem)


def test_a_bug_is_shown_and_pauses(process):
    process.send("no such command")
    wrong = following(process, Snapshot, lambda s: s.problem)
    assert "no command" in wrong.problem and not wrong.running
    process.send("run")
    following(process, Snapshot, lambda s: s.running and not s.problem)


def test_it_is_no_faster_than_real_time_however_often_it_is_asked(process):
    process.send("entry", index=1)  # random actions take no time
    process.send("speed", times=1.0)
    following(process, Setup, lambda s: s.serial == process.sent)
    first, began = following(process, Snapshot), time.monotonic()
    last = following(process, Snapshot, lambda s: s.step > first.step + 30 or s.episode > first.episode)
    assert last.episode == first.episode
    # a step is 25 ms; what came late before may be made up for by 0.1 s
    assert (last.step - first.step) * 0.025 <= time.monotonic() - began + 0.2
    process.send("entry", index=0)
    following(process, Setup, lambda s: s.serial == process.sent)


def test_it_waits_for_nobody(process):
    process.send("speed", times=0.0)
    before = following(process, Snapshot)
    while not isinstance(news := process.news.get(timeout=60), Snapshot):
        pass
    time.sleep(1.0)  # nobody asks
    while not process.news.empty():
        assert not isinstance(process.news.get(), Snapshot)
    process.ask()
    after = following(process, Snapshot)
    assert news.step >= before.step and after.step > news.step + 5
    process.send("speed", times=1.0)


def test_a_mistake_is_raised_where_it_was_made():
    with pytest.raises(TDMError, match="did you mean 'cem'"):
        PlanningProcess(Watched(WALKER, ("simulator planner=cemm",)))
