"""An online run that is killed (`kill -9`) time and again equals an undisturbed one, to the last bit.

Its processes are forked from one that has imported everything, so that most of their time is the run's own.
"""

import multiprocessing
import random
import time

import pytest
from small_online import online, result, rows

from tdm_agents.training import run_state

PRELOADED = [
    "small_online",
    "tdm_agents.world_models.tdmpc2.activation_loops",
    "gymnasium.envs.classic_control",
]


@pytest.fixture
def started(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    processes = []

    def start(out, given, settings):
        processes.append(context.Process(target=online, args=(out, *given), kwargs=settings))
        processes[-1].start()
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.join()


def progress(out):
    """How much the run has done by its checkpoint; -1 before there is one."""
    try:
        counts = run_state.load(out).progress["counts"]
    except (OSError, RuntimeError):  # not there, or just being replaced
        return -1
    return counts["updates"] + counts["decisions"]


def killed_often(tmp_path, started, kills, *given, **settings):
    """Kill a run at random moments after it has got further than its checkpoint."""
    undisturbed, killed, rng = tmp_path / "undisturbed", tmp_path / "killed", random.Random(0)
    whole = started(undisturbed, given, settings)
    for _ in range(kills):
        before, process = progress(killed), started(killed, given, settings)
        while process.is_alive() and progress(killed) <= before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        assert process.is_alive(), "the run is too short for so many kills"
        process.kill()
        process.join()
    for process in (whole, started(killed, given, settings)):
        process.join()
        assert process.exitcode == 0
    assert rows(killed)["evaluations"] and result(killed) == result(undisturbed)


def test_a_run_that_is_killed_is_the_same(tmp_path, started):
    killed_often(tmp_path, started, 3)


def test_a_run_that_learns_from_pictures_is_the_same(tmp_path, started):
    # pictures and numbers beside each other; the replay memory is so small that it is overwritten
    pictures = "dots:dots/Dot-v0 beside=true"
    killed_often(tmp_path, started, 2, pictures, steps=160, max_steps=20, buffer_size=60, batch_size=8)


def test_a_run_in_two_environments_is_the_same(tmp_path, started):
    two = ("Pendulum-v1", "MountainCarContinuous-v0")
    killed_often(tmp_path, started, 2, two, model="tdmpc2-multitask", seed_decisions=80, steps=320)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_is_killed_twenty_times_is_the_same(tmp_path, started):
    # the replay memory is so small that old episodes are overwritten all the time
    killed_often(tmp_path, started, 20, steps=2800, envs=2, buffer_size=300, evaluate_every=1000)
