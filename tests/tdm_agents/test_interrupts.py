"""Ctrl-C in a real process, of the commands that work for long; `tdm compare` has its own in test_compare."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tdm_agents.cli.main import main
from tdm_agents.collection.shards import read_shard
from tdm_agents.data.minari_io import EPISODES_FOLDER
from tdm_agents.training import run_state

PENDULUM = ("--env-id", "Pendulum-v1")


def interrupted(words, *, when):
    """Start a command, interrupt it once ``when()`` holds; its exit status and what it said."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tdm_agents.cli.main", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ,
    )
    until = time.monotonic() + 100
    while not when() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=100)
    assert "Traceback" not in said
    return process.returncode, said


def whole_files(folder):
    """Every file; none may be half-written."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.endswith(".partial")]
    return files


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    few = ("--random-episodes", "4", "--planner-episodes", "0", "--max-steps", "60", "--action-repeat", "1")
    assert main(["collect", *PENDULUM, *few, "--out", str(out / "few")]) == 0
    return out / "few" / "data"


def test_collect_keeps_whole_episodes(tmp_path):
    out = tmp_path / "out"
    many = ("--random-episodes", "2000", "--planner-episodes", "0", "--max-steps", "50")
    status, said = interrupted(
        ["collect", *PENDULUM, *many, "--out", out],
        when=lambda: list((out / EPISODES_FOLDER).glob("*.safetensors")),
    )
    assert status == 130
    kept = list(
        out.rglob("*.safetensors")
    )  # a worker that is killed may leave a .partial, which nobody reads
    assert 0 < len(kept) < 2000 and not (out / "data").exists()
    assert all(len(read_shard(path).reward) == 50 for path in kept)
    assert f"of 2000 episodes are kept in {out}" in said and "the same command goes on from there" in said


def test_train_saves_where_it_is(data, tmp_path):
    out = tmp_path / "out"
    endless = ("--model", "mlp", "--steps", "1000000", "--checkpoint-every", "5")
    fits = ("--action-repeat", "1", "--window-steps", "8", "--held-out-fraction", "0.25", "--starts", "8")
    status, said = interrupted(
        ["train", "--data", data, "--out", out, *endless, *fits],
        when=lambda: run_state.exists(out) and run_state.load(out).step > 0,
    )
    assert status == 130, said
    whole_files(out)
    assert run_state.load(out).step >= 5
    assert "run the same command to go on" in said


def test_evaluate_leaves_no_report_behind(tmp_path):
    out, started = tmp_path / "report.json", time.monotonic()
    out.write_text(json.dumps({"of": "an earlier run"}))
    status, said = interrupted(
        ["evaluate", "--random", *PENDULUM, "--episodes", "100000", "--batch", "1", "--out", out],
        when=lambda: time.monotonic() > started + 4,
    )
    assert status == 130
    assert "interrupted; what was already written is whole, and the same command begins again" in said
    assert json.loads(out.read_text()) == {"of": "an earlier run"}
    assert whole_files(tmp_path) == [out]


def test_an_import_that_is_interrupted_is_no_bug(tmp_path, monkeypatch, capsys):
    # as libraries in C++ tell it, when Ctrl-C comes while they are loaded
    (tmp_path / "half_loaded.py").write_text(
        "raise ImportError('initialization failed') from KeyboardInterrupt()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["evaluate", "--random", *PENDULUM, "--import", "half_loaded"]) == 130
    assert "interrupted" in capsys.readouterr().err
