"""An online run that is killed (`kill -9`) time and again equals an undisturbed one, to the last bit."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from small_online import result, rows, words_of

from tdm_agents.training import run_state


def started(words):
    return subprocess.Popen(
        [sys.executable, "-m", "tdm_agents.cli.main", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def progress(out):
    """How much the run has done by its checkpoint; -1 before there is one."""
    try:
        counts = run_state.load(out).progress["counts"]
    except Exception:  # not there, or just being replaced
        return -1
    return counts["updates"] + counts["decisions"]


def kill_at_random(out, words, rng):
    """Start the run, and kill it a random moment after it has got further than its checkpoint."""
    before, process = progress(out), started(words)
    until = time.monotonic() + 120
    while process.poll() is None and progress(out) <= before and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.6))
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return was_running


def killed_often(tmp_path, kills, *more):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert started(words_of(undisturbed, *more)).wait() == 0
    rng = random.Random(0)
    done = 0
    while done < kills and kill_at_random(killed, words_of(killed, *more), rng):
        done += 1
    assert done == kills
    assert started(words_of(killed, *more)).wait() == 0
    assert rows(killed)["evaluations"] and result(killed) == result(undisturbed)


def test_a_run_that_is_killed_twice_is_the_same(tmp_path):
    killed_often(tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_is_killed_twenty_times_is_the_same(tmp_path):
    killed_often(tmp_path, 20, "--steps", "12000", "--envs", "2", "--buffer-size", "300")
