"""--quiet and --verbose mean the same for every command; what compiles says so, once."""

import logging
import subprocess
import sys
import time

import pytest

from tdm_agents import remarks as said
from tdm_agents.cli.main import main
from tdm_agents.remarks import announced, announced_once, remarks

EVALUATE = ("evaluate", "--random", "--env-id", "Pendulum-v1", "--max-steps", "3", "--episodes", "1")
COLLECT = ("collect", "--env-id", "Pendulum-v1", "--random-episodes", "3", "--max-steps", "30")
TRAIN = ("train", "--model", "mlp", "--steps", "2", "--held-out-fraction", "0.4", "--starts", "1")
SHORT = ("--action-repeat", "1", "--horizons", "1", "--context-steps", "1")


@pytest.fixture
def run(capfd):
    """Runs a command; what it wrote on stdout and on stderr."""

    def of(*words):
        capfd.readouterr()
        assert main([str(word) for word in words]) == 0
        return capfd.readouterr()

    return of


@pytest.fixture
def commands(tmp_path):
    out = tmp_path / "run"
    return {
        "collect": (*COLLECT, "--out", tmp_path / "collected"),
        "train": (*TRAIN, *SHORT, "--data", tmp_path / "collected", "--out", out),
        "evaluate": (*EVALUATE, "--out", tmp_path / "evaluation.json"),
        "play": ("play", "--checkpoint", out, *EVALUATE[2:6], "--no-video", "--out", tmp_path / "play"),
        "compare": ("compare", "--entry", "random", *EVALUATE[2:6], "--out", tmp_path / "compare"),
        "planners": ("planners",),
    }


def test_quiet_leaves_the_results_and_nothing_else(run, commands):
    for command in commands.values():
        told = run(*command, "--quiet")
        assert not told.err and told.out, command


def test_what_is_said_is_not_said_again_by_a_handler_at_the_root(run, commands, tmp_path):
    again = logging.FileHandler(tmp_path / "log")  # absl, which dm_control imports, sets one too
    logging.getLogger().addHandler(again)
    try:
        told = run(*commands["evaluate"], "--verbose")
    finally:
        logging.getLogger().removeHandler(again)
        again.close()
    assert told.err and not (tmp_path / "log").read_text()
    assert logging.getLogger("tdm_agents").propagate


def test_by_default_progress_is_told_beside_the_results(run, commands):
    for name in ("collect", "train", "evaluate", "compare"):
        told = run(*commands[name])
        assert told.err and told.out, name
        assert "tdm-agents" not in told.err


def test_verbose_tells_settings_environments_and_files(run, commands, tmp_path):
    for name in ("collect", "evaluate"):
        told = run("evaluate" if name == "evaluate" else "collect", "--verbose", *commands[name][1:])
        assert f": tdm {name}" in told.err and "max-steps: 3" in told.err
        assert "made the environment Pendulum-v1" in told.err
    assert f"wrote {tmp_path / 'evaluation.json'}" in told.err


def test_quiet_and_verbose_contradict_each_other(capsys):
    assert main([*EVALUATE, "--quiet", "--verbose"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_mistake_is_told_to_whoever_wants_quiet(capsys):
    assert main([*EVALUATE, "--quiet", "--episodes", "0"]) == 2
    assert capsys.readouterr().err == "tdm evaluate: --episodes is 0; expected at least 1\n"


def test_the_level_is_as_before_after_a_command(run):
    level = logging.getLogger("tdm_agents").level
    run(*EVALUATE, "--quiet")
    assert logging.getLogger("tdm_agents").level == level and not remarks().quiet


@pytest.fixture
def short_patience(monkeypatch):
    monkeypatch.setattr(said, "_SLOW_SECONDS", 0.02)
    monkeypatch.setattr(said, "_said", set())


def test_what_takes_long_is_told_once_while_it_goes_on(short_patience, caplog):
    for _ in range(2):
        with announced("slow things happen"):
            time.sleep(0.3)
            assert [r.getMessage() for r in caplog.records] == ["slow things happen"]
    with announced("quick things happen"):
        pass
    assert len(caplog.records) == 1


def test_only_the_first_call_of_a_function_is_told(short_patience, caplog):
    slow = announced_once("it compiles", lambda seconds: time.sleep(seconds) or seconds)
    assert slow(0.3) == 0.3 and slow(seconds=0.1) == 0.1
    assert [r.getMessage() for r in caplog.records] == ["it compiles"]


def test_loops_that_numba_compiles_say_so_in_a_program_of_ones_own(tmp_path):
    script = (
        "import torch\n"
        "from tdm_agents import remarks\n"
        "remarks._SLOW_SECONDS = 0.05\n"
        "from tdm_agents.world_models.transformer.cpu.sampling import sampled_bins\n"
        "for _ in range(2):\n"
        "    sampled_bins(torch.zeros(2, 8), torch.zeros(2))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"},  # nothing kept yet
    )
    assert done.returncode == 0 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("numba compiles loops for this processor")
