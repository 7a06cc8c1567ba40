"""A bug keeps its traceback, asks for a report and ends with 1; a mistake is one line and ends with 2."""

import errno
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import gymnasium as gym
import pytest
import torch

from tdm_agents import errors
from tdm_agents.cli import planners as planners_command
from tdm_agents.cli.main import COMMANDS, main
from tdm_agents.cli.refusals import mistake
from tdm_agents.environments import make_env
from tdm_agents.errors import (
    MissingPackageError,
    TDMError,
    UnknownNameError,
    WrongValueError,
    is_mistake,
    retold,
)
from tdm_agents.registry import make_planner
from tdm_envs.rewards import reward_function
from tdm_planners.mppi import MPPI

SHORT = "evaluate --checkpoint cartpole-swingup --episodes 1 --max-steps 4"
# what a first week gets wrong; {here} is a folder with some broken files
MISTAKES = [
    ("collect --env-id nonsense-v0 --out {here}/out", "environment 'nonsense-v0' cannot be made"),
    ("collect --env-id nosuch:Env-v0 --out {here}/out", "No module named 'nosuch'; install it"),
    ("collect --manifest {here}/broken.json --out {here}/out", "broken.json is not JSON"),
    ("collect --bodies {here}/broken.json --out {here}/out", "write it again with `tdm envs sample`"),
    ("train --data {here}/nowhere --out {here}/out", "no Minari data set"),
    ("train --data {here}/broken --out {here}/out", "not JSON (Expecting property name"),
    (
        "distill --teacher random --env-id nonsense-v0 --out {here}/out",
        "environment 'nonsense-v0' cannot be made",
    ),
    ("view --env-id nonsense-v0 --entry random", "nonsense-v0"),
    ("serve --checkpoint nonsense", "no checkpoint named 'nonsense'"),
    ("online --env-id nonsense-v0 --out {here}/out", "environment 'nonsense-v0' cannot be made"),
    ("evaluate --checkpoint {here}/broken.json", "is a file; expected the folder of a checkpoint"),
    ("evaluate --policy {here}/none.zip --env-id Pendulum-v1", "none.zip; expected what Stable-Baselines3"),
    ("evaluate --policy {here}/broken.json --env-id Pendulum-v1", "is not a zip of Stable-Baselines3"),
    (f"{SHORT} --planner-settings horizon 2.5", "horizon of MPPI is 2.5; expected an integer"),
    (f"{SHORT} --planner-settings horizen 2", "planner 'mppi' has no setting 'horizen'"),
    (f"{SHORT} --env-id Pendulum-v1", "pass the environment that the model was made for"),
    ("evaluate --random --env-id 'tdm/WalkerTree-v0 dof=99 body=3'", "dof is 99; expected an integer from 4"),
    ("evaluate --random --env-id 'Pendulum-v1 nonsense=1'", "cannot be made with nonsense=1"),
    ("compare --entry 'simulator planner=mppi' --env-id CartPole-v1 --out {here}/out", "no MuJoCo physics"),
    ("compare --entry 'random speed=3' --env-id Pendulum-v1 --out {here}/out", "has no option 'speed'"),
    ("study zero-shto --out {here}/out", "no study 'zero-shto'; did you mean 'zero-shot'?"),
    ("study zero-shot --size smoke --out {here}/out --adopt walker={here}", "did you mean 'walkers'?"),
    ("study zero-shot --size smoke --out {here}/out --adopt walkers", "is not PRODUCT=FOLDER"),
    ("play --checkpoint nonsense --out {here}/out", "no checkpoint named 'nonsense'"),
    ("experts train --env-id nonsense-v0 --out {here}/out", "environment 'nonsense-v0' cannot be made"),
    ("data info {here}/nowhere", "make one with `tdm collect`"),
    ("envs check {here}/broken.json", "broken.json is not JSON"),
    ("demo --replan-every 99 --out {here}/out", "replan_every is 99, but MPPI plans 25 ahead"),
]


def broken_assertion(*_):
    assert len([]) == 1, "an invariant"


BUGS = {
    TypeError: lambda *_: len(None),
    KeyError: lambda *_: {}["nothing"],
    AssertionError: broken_assertion,
    ValueError: lambda *_: [].index(0),
    ImportError: lambda *_: import_module("nosuch"),
    OSError: lambda *_: Path("/nowhere/file").read_text(),
    RuntimeError: lambda *_: torch.zeros(2).view(3),
}


@pytest.fixture(autouse=True)
def without_tracebacks_asked_for(monkeypatch):
    monkeypatch.delenv("TDM_TRACEBACK", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "disable")


@pytest.fixture
def here(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken" / "data").mkdir(parents=True)
    (tmp_path / "broken" / "data" / "metadata.json").write_text("{")
    return tmp_path


def assert_told_as_bug(said, kind):
    assert "Traceback (most recent call last)" in said and f"{kind.__name__}" in said
    last = said.strip().splitlines()[-1]
    assert "this is a bug" in last and "please report it" in last and "tdm doctor" in last


@pytest.mark.parametrize("kind", BUGS, ids=lambda kind: kind.__name__)
def test_a_bug_in_a_command_is_told_as_one(kind, monkeypatch, capsys):
    monkeypatch.setattr(planners_command, "run", BUGS[kind])
    assert main(["planners"]) == 1
    assert_told_as_bug(capsys.readouterr().err, ModuleNotFoundError if kind is ImportError else kind)


@pytest.mark.parametrize("kind", [TypeError, ValueError, KeyError], ids=lambda kind: kind.__name__)
def test_a_bug_deep_in_a_planner_is_told_as_one(kind, monkeypatch, capsys):
    monkeypatch.setattr(MPPI, "weigh", BUGS[kind])
    assert main(shlex.split(SHORT)) == 1
    assert_told_as_bug(capsys.readouterr().err, kind)


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_told_in_one_line(line, message, here, capsys):
    words = shlex.split(line.format(here=here))
    assert main(words) == 2
    last = capsys.readouterr().err.strip().splitlines()
    assert message in last[-1] and last[-1].startswith(f"tdm {words[0]}: ")
    assert not any("Traceback" in one for one in last)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_a_command_does_not_have_ends_with_2(command, capsys):
    with pytest.raises(SystemExit) as end:  # tyro says which options there are, and ends itself
        main([command, "--nonsense"])
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_every_command_has_a_mistake_or_takes_nothing():
    assert {line.split()[0] for line, _ in MISTAKES} | {"planners", "doctor"} == set(COMMANDS)


def test_a_former_setting_is_told_to_who_types_it(capsys, recwarn):
    line = f"{SHORT} --planner-settings returns worst"
    assert main(shlex.split(line)) == 2
    assert "execute is 'worst'" in capsys.readouterr().err
    assert ["called 'execute' now" in str(w.message) for w in recwarn.list].count(True) == 1


def test_a_file_that_was_named_is_a_mistake_and_another_a_bug(tmp_path):
    def denied(path):
        return PermissionError(errno.EACCES, "Permission denied", str(path))

    given = ["--out", str(tmp_path / "run" / "report.json")]
    for path in (tmp_path / "run" / "report.json", tmp_path / "run" / "report.json" / "part", tmp_path):
        assert "Permission denied" in mistake(denied(path), given)
    assert mistake(denied("/usr/lib/package/file"), given) is None
    assert mistake(denied(tmp_path / "run"), ["cpu", ""]) is None
    assert mistake(OSError("no file in it"), given) is None
    assert "No space left" in mistake(OSError(errno.ENOSPC, "No space left on device"), given)


def test_memory_that_does_not_suffice_is_a_mistake_with_a_remedy():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    for error in (caught.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        assert "ask for less at once" in mistake(error, [])


# -- in Python --------------------------------------------------------------------------------------------


def test_a_renderer_that_is_not_there_is_a_mistake_with_a_remedy():
    command = [sys.executable, "-m", "tdm_agents", "evaluate", "--random", "--max-steps", "2"]
    done = subprocess.run(
        [*command, "--env-id", "dm_control/cartpole-swingup-v0"],
        env={**os.environ, "MUJOCO_GL": "nonsense"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "MUJOCO_GL is 'nonsense'" in done.stderr and "tdm doctor" in done.stderr


def test_mistakes_are_still_the_built_in_errors_of_their_kind():
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, TDMError)]
    for kind in kinds:
        if kind is not TDMError:
            assert any(k.__module__ == "builtins" for k in kind.__mro__[1:] if k not in Exception.__mro__)
    with pytest.raises(ValueError, match="num_samples is 0") as caught:
        make_planner("random_shooting", num_samples=0)
    assert isinstance(caught.value, TDMError)
    with pytest.raises(TypeError, match="has no setting"):
        make_planner("cem", nonsense=1)


def test_what_gymnasium_refuses_is_a_mistake_that_names_the_environment():
    with pytest.raises(UnknownNameError, match="environment 'nonsense-v0' cannot be made"):
        make_env("nonsense-v0")
    with pytest.raises(MissingPackageError, match="No module named 'nosuch'"):
        make_env("nosuch:Env-v0")
    with pytest.raises(WrongValueError, match="cannot be made with nonsense=1"):
        make_env("Pendulum-v1", nonsense=1)


def test_a_bug_of_an_environment_is_none_of_the_users_mistakes():
    class Broken(gym.Env):
        def __init__(self):
            len(None)

    gym.register("tests/Broken-v0", Broken)
    try:
        with pytest.raises(TypeError) as caught:
            make_env("tests/Broken-v0")
    finally:
        del gym.registry["tests/Broken-v0"]
    assert not is_mistake(caught.value)


def test_mistakes_about_environments_are_known_as_mistakes():
    with pytest.raises(LookupError) as caught:
        reward_function("dm_control/nonsense-v0")
    assert is_mistake(caught.value) and not isinstance(caught.value, TDMError)


def test_context_makes_no_mistake_of_a_bug():
    assert is_mistake(retold(WrongValueError("x"), "at step 3: x"))
    assert not is_mistake(retold(ValueError("x"), "at step 3: x"))
