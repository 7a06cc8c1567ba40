"""Training by two processes: as one would, to the same bits after an interruption, and never hanging."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import team_member
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tdm_agents.cli.main import main
from tdm_agents.errors import WrongValueError
from tdm_agents.training import run_state
from tdm_agents.training.dividing import check_dividing
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.world_models.mlp import MLPWorldModel
from tdm_agents.world_models.rssm.rssm_model import RSSMWorldModel

MODELS = sorted(team_member.MODELS)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def members(folder, scenario):
    """Two processes with what torchrun tells them; their exit statuses and what they said."""
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **told}
    started = [
        subprocess.Popen(
            [sys.executable, team_member.__file__, str(folder), scenario],
            env={**environ, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=500)[0] for process in started]
    return [process.returncode for process in started], said


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    statuses, said = members(folder, "together")
    assert statuses == [0, 0], "\n".join(said)
    return folder


@pytest.fixture(scope="module")
def by_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    for name in MODELS:
        team_member.trained(name, folder / name)
    return folder


def curve(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [point.value for point in events.Scalars("train/loss")]


def weights(folder):
    return run_state.load(folder).weights


def assert_close(one, other):
    assert curve(one) == pytest.approx(curve(other), abs=1e-4)
    assert len(curve(one)) == team_member.CONFIG.steps
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_learn_as_one_does(name, by_two, by_one):
    assert_close(by_one / name, by_two / name)


def test_accumulated_parts_are_a_larger_batch(by_two, by_one):
    assert_close(by_one / "transformer", by_two / "accumulated")


def test_a_run_that_was_asked_to_end_goes_on_to_the_same_bits(by_two):
    undisturbed, resumed = weights(by_two / "transformer"), weights(by_two / "resumed")
    assert all(torch.equal(value, resumed[name]) for name, value in undisturbed.items())


def test_divided_weights_learn_the_same(by_two):
    assert_close(by_two / "transformer", by_two / "sharded")
    assert_close(by_two / "generalist", by_two / "sharded generalist")
    undisturbed, resumed = weights(by_two / "sharded"), weights(by_two / "sharded resumed")
    assert all(torch.equal(value, resumed[name]) for name, value in undisturbed.items())


def test_half_of_the_largest_model_is_in_each_process(by_two):
    layers, width, feedforward = (team_member.GATO[name] for name in ("layers", "width", "feedforward"))
    bins = team_member.GATO["bins"]
    positions = team_member.GATO["max_observation"] + team_member.GATO["max_action"] + 2
    block = 4 * width**2 + 3 * width * feedforward + 4 * width  # attention, GEGLU, two norms
    count = layers * block + (2 * bins + 2 + positions + 2) * width + width + 1  # tables, head, norm, alive
    found = [json.loads((by_two / f"large-{rank}.json").read_text()) for rank in range(2)]
    sizes = [sum(math.prod(shape) for shape in of.values()) for of in found]
    assert sum(sizes) == count == 456_350_209  # more than its name says, by GEGLU's third matrix
    # weights, gradients and two moments in float32; a tensor of odd length differs by a row
    assert [16 * size for size in sizes] == pytest.approx([8 * count] * 2, rel=1e-4)


def test_the_first_process_alone_writes(by_two):
    for folder in (path for path in by_two.iterdir() if path.is_dir()):
        assert not list(folder.rglob("*.partial"))
    assert len(list((by_two / "mlp").glob("events.*"))) == 1


def test_another_number_of_processes_is_refused_unless_it_is_asked_for(by_two):
    folder = by_two / "mlp"
    with pytest.raises(WrongValueError, match=r"trained by 2 processes, now there is 1: .*--any-processes"):
        team_member.trained("mlp", folder)
    assert team_member.trained("mlp", folder, any_processes=True).step == team_member.CONFIG.steps


def test_a_process_that_dies_ends_the_others(tmp_path):
    began = time.monotonic()
    statuses, said = members(tmp_path, "lost")
    assert statuses == [1, 9] and "LostProcessError: another process of this run has ended" in said[0]
    assert time.monotonic() - began < 120


def test_models_and_batches_that_cannot_be_divided_are_refused():
    with pytest.raises(WrongValueError, match=r"RSSMWorldModel cannot learn .*2 processes.*transformer"):
        check_dividing(RSSMWorldModel, TrainConfig(), 2)
    with pytest.raises(WrongValueError, match="--accumulate 3 "):
        check_dividing(RSSMWorldModel, TrainConfig(accumulate=3), 1)
    with pytest.raises(WrongValueError, match=r"--shard divides .* MLPWorldModel"):
        check_dividing(MLPWorldModel, TrainConfig(), 2, shard=True)
    with pytest.raises(WrongValueError, match="--batch-size is 4, which 8 processes share"):
        check_dividing(MLPWorldModel, TrainConfig(batch_size=4), 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    few = ("--random-episodes", "4", "--planner-episodes", "0", "--max-steps", "60", "--action-repeat", "1")
    assert main(["collect", "--env-id", "Pendulum-v1", *few, "--out", str(out / "few")]) == 0
    return out / "few"


def torchrun(data, out):
    """``tdm train`` by two processes, without an end in sight."""
    endless = ("--model", "mlp", "--steps", "1000000", "--checkpoint-every", "1000000")
    fits = ("--action-repeat", "1", "--window-steps", "8", "--held-out-fraction", "0.25", "--starts", "8")
    words = ["-m", "tdm_agents.cli.main", "train", "--data", str(data), "--out", str(out), *endless, *fits]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    return subprocess.Popen(
        [sys.executable, *launcher, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_torchrun_that_is_terminated_saves(data, tmp_path):
    out: Path = tmp_path / "out"
    process = torchrun(data, out)
    until = time.monotonic() + 100
    while not list(out.glob("events.*")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=100)
    assert process.returncode != 0 and "run the same command to go on" in said, said
    found = run_state.load(out)
    assert found.step > 0 and found.progress == {"processes": 2}
    assert not list(out.rglob("*.partial"))
