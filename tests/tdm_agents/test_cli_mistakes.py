"""Mistakes on the command line are one line on stderr and status 2, before anything is played or written."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.cli.checks import usable_device
from tdm_agents.cli.main import main
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.collection_check import check
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.minari_io import DataError
from tdm_agents.environments import EnvRef
from tdm_agents.storage import locked

PENDULUM = "Pendulum-v1"
EVALUATE = ("evaluate", "--random", "--env-id", PENDULUM)
COLLECT = ("collect", "--env-id", PENDULUM, "--planner-episodes", "0", "--random-episodes", "1")
PORTION = DatasetSpec(env=EnvRef(PENDULUM), mix=((RandomPolicy(), 1),))
COLLECT_SHORT = (*COLLECT, "--max-steps", "8")
TRAIN = ("train", "--data", "nowhere")
WRITERS = [EVALUATE, ("demo",), COLLECT, TRAIN]


@pytest.fixture
def refused(monkeypatch, capsys):
    """Runs a command that has to fail; what it said."""
    monkeypatch.delenv("TDM_TRACEBACK", raising=False)

    def run(*words):
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr()
        assert said.out == "", "a table was drawn before the mistake was found"
        assert said.err.count("\n") == 1 and said.err.startswith(f"tdm {words[0]}: ")
        return said.err

    return run


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: command[0])
def test_an_output_below_a_file_is_refused(command, tmp_path, refused):
    (tmp_path / "file").touch()
    said = refused(*command, "--out", tmp_path / "file" / "below" / "out")
    assert f"{tmp_path / 'file'} is not a folder" in said and "choose another --out" in said


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: command[0])
def test_a_read_only_place_is_refused(command, tmp_path, refused, monkeypatch):
    # permissions do not bind root, whom tests may run as
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    said = refused(*command, "--out", tmp_path / "a" / "out")
    assert f"--out {tmp_path / 'a' / 'out'}: {tmp_path} may not be written to" in said
    assert "chmod" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", WRITERS[1:], ids=lambda command: command[0])
def test_a_file_where_a_folder_is_needed_is_refused(command, tmp_path, refused):
    (tmp_path / "file").write_text("mine")
    assert "is not a folder" in refused(*command, "--out", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_where_a_file_is_needed_is_refused(tmp_path, refused):
    assert f"for example --out {tmp_path / 'report.json'}" in refused(*EVALUATE, "--out", tmp_path)


@pytest.mark.parametrize("command", [EVALUATE, TRAIN], ids=lambda command: command[0])
@pytest.mark.parametrize("device", ["tpu", "cuda"])
def test_a_device_that_is_not_there_is_refused(command, device, tmp_path, refused):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    said = refused(*command, "--device", device, "--out", tmp_path / "out")
    assert f"--device {device!r} cannot be used" in said and "pass --device cpu" in said
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("command", "option", "value", "minimum"),
    [
        (EVALUATE, "--episodes", 0, 1),
        (EVALUATE, "--threads", 0, 1),
        (EVALUATE, "--seed-start", -1, 0),
        (EVALUATE, "--batch", 0, 1),
        (EVALUATE, "--max-steps", 0, 1),
        (COLLECT, "--random-episodes", -1, 0),
        (COLLECT, "--planner-episodes", -1, 0),
        (COLLECT, "--workers", 0, 1),
        (COLLECT, "--action-repeat", 0, 1),
        (COLLECT, "--max-steps", 0, 1),
        (COLLECT, "--seed", -1, 0),
    ],
)
def test_the_option_that_is_wrong_is_named(command, option, value, minimum, tmp_path, refused):
    said = refused(*command, "--out", tmp_path / "out", option, value)
    assert f"{option} is {value}; expected at least {minimum}" in said
    assert not list(tmp_path.iterdir())


def test_no_episodes_at_all_are_refused(tmp_path, refused):
    said = refused(*COLLECT, "--random-episodes", "0", "--out", tmp_path / "out")
    assert "--random-episodes and --planner-episodes are both 0" in said


def test_the_library_names_the_argument_too(tmp_path):
    with pytest.raises(ValueError, match="processes is 0; expected at least 1"):
        collect(PORTION, tmp_path / "out", workers=0)
    with pytest.raises(ValueError, match="seed is -1; expected at least 0"):
        replace(PORTION, seed=-1)
    with pytest.raises(ValueError, match="episodes of 'random' is -1"):
        replace(PORTION, mix=((RandomPolicy(), -1), (RandomPolicy("other"), 2)))


def test_an_unknown_environment_is_refused_before_the_table(tmp_path, refused):
    assert "nonsense" in refused(*COLLECT_SHORT, "--env-id", "nonsense-v0", "--out", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [COLLECT_SHORT, TRAIN], ids=lambda command: command[0])
def test_a_folder_of_something_else_is_left_alone(command, tmp_path, refused):
    (tmp_path / "thesis.tex").write_text("mine")
    said = refused(*command, "--out", tmp_path)
    assert "holds 'thesis.tex' and no" in said and "choose another" in said
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_data_that_are_not_a_collection_are_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="did not write; choose another folder"):
        collect(PORTION, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_another_collection_is_refused_before_the_table(tmp_path, refused):
    (tmp_path / ".episodes").mkdir()
    settings = replace(PORTION, action_repeat=4, seed=1, max_steps=8).settings()
    (tmp_path / ".episodes" / "settings.json").write_text(json.dumps(settings))
    assert "was collected with seed 1, now 0" in refused(*COLLECT_SHORT, "--out", tmp_path)


def test_a_collection_whose_planner_had_a_setting_of_a_former_name_goes_on(tmp_path):
    portion = replace(PORTION, mix=((PlannerPolicy("cem", {"execute": "mean"}), 1),))
    (tmp_path / ".episodes").mkdir()
    written = json.dumps(portion.settings()).replace('"execute"', '"returns"')
    (tmp_path / ".episodes" / "settings.json").write_text(written)
    assert check([portion], tmp_path) == [portion]
    other = replace(portion, mix=((PlannerPolicy("cem", {"execute": "best"}), 1),))
    with pytest.raises(DataError, match="execute 'mean', now 'best' is asked for"):
        check([other], tmp_path)


def test_what_a_killed_training_left_is_no_obstacle(tmp_path, refused):
    for name in (".lock", ".run.json.7.partial"):
        (tmp_path / name).touch()
    said = refused(*TRAIN, "--out", tmp_path)
    assert "nowhere" in said and "holds" not in said


def test_a_second_training_in_a_folder_is_refused_before_data_are_read(tmp_path, refused):
    with locked(tmp_path):  # the data are nowhere, which is not said
        assert "another process writes to" in refused(*TRAIN, "--out", tmp_path)


def test_a_second_comparison_in_a_folder_is_refused(tmp_path, refused):
    with locked(tmp_path):
        said = refused("compare", "--entry", "random", "--env-id", PENDULUM, "--out", tmp_path)
    assert "another process writes to" in said


def test_a_run_whose_folder_cannot_be_made_is_refused_before_data_are_read(refused):
    said = refused(*TRAIN, "--out", "/proc/nowhere")
    assert "/proc" in said and "choose another" in said
