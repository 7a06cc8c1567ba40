"""Environments by name: read, written, compared, made, and imported on whose word."""

import json
import subprocess
import sys
import textwrap

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tdm_agents.environments as environments
from tdm_agents import TDMAgent, make_planner
from tdm_agents.actors.enter import environment_of
from tdm_agents.actors.entries import parse_entry
from tdm_agents.cli.main import main
from tdm_agents.data.minari_io import describe
from tdm_agents.environments import EnvRef, UntrustedModuleError, make_env
from tdm_agents.errors import MissingPackageError, UnknownNameError
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

# a point that is pushed towards 0, in a file of somebody's own
DRIVE = """
    import gymnasium as gym
    import numpy as np

    class Drive(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

        def __init__(self, wind=0.0):
            self.wind = wind

        def reset(self, *, seed=None, options=None):
            self.x = np.ones(1, np.float32)
            return self.x, {}

        def step(self, action):
            self.x = (self.x + 0.1 * (np.float32(self.wind) + action)).astype(np.float32)
            return self.x, -float(abs(self.x[0])), False, False, {}

    gym.register("MyDrive-v0", Drive, max_episode_steps=6)
"""
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
references = st.builds(
    EnvRef,
    st.from_regex(r"\A([A-Za-z_]\w*/)?[A-Za-z_]\w*-v\d\Z"),
    st.dictionaries(st.from_regex(r"\A[a-z_][a-z0-9_]*\Z"), values, max_size=4),
    module=st.from_regex(r"\A([a-z_]\w*(\.[a-z_]\w*)*)?\Z"),
)


@given(references)
def test_what_is_written_is_read_as_it_was(ref):
    read = EnvRef.parse(str(ref))
    assert read == ref and read.module == ref.module and hash(read) == hash(ref)
    assert list(read.kwargs) == list(ref.kwargs)
    assert EnvRef.of(ref.made_by, ref.kwargs) == ref


@given(references)
def test_the_order_of_arguments_and_the_module_do_not_matter(ref):
    turned = EnvRef(ref.id, dict(reversed(ref.kwargs.items())), module="elsewhere", source="a file")
    assert turned == ref and hash(turned) == hash(ref) and turned.name == ref.name
    assert EnvRef(ref.id + "0", ref.kwargs) != ref


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("Pendulum-v1 g=5.0", EnvRef("Pendulum-v1", {"g": 5.0})),
        ("tdm/WalkerTree-v0 dof=12 body=3", EnvRef("tdm/WalkerTree-v0", {"body": 3, "dof": 12})),
        ("a.b:Race-v0 rainy=True track=null", EnvRef("Race-v0", {"rainy": True, "track": None})),
        ("""Race-v0 track='a b' lap="[1,2]" """, EnvRef("Race-v0", {"track": "a b", "lap": [1, 2]})),
    ],
)
def test_lines_of_earlier_versions_and_of_shells_are_read(text, ref):
    assert EnvRef.parse(text) == ref


@pytest.mark.parametrize("text", ["", "dof=3", "Race-v0 wet", "a:b:Race-v0", ":", "Race-v0 'x"])
def test_what_is_no_environment_is_refused(text):
    with pytest.raises(ValueError):
        EnvRef.parse(text)


def test_an_environment_is_made_with_its_arguments():
    env = make_env("Pendulum-v1 g=5.0")
    assert env.unwrapped.g == 5.0 and env.spec.id == "Pendulum-v1"
    assert EnvRef("Pendulum-v1", {"g": 5.0}).make(g=2.0).unwrapped.g == 2.0


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """The folder of ``mydrive.py``, which is the current one; what is imported there is forgotten."""
    (tmp_path / "mydrive.py").write_text(textwrap.dedent(DRIVE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    forget()


def forget():
    """As in a process that has imported nothing yet."""
    sys.modules.pop("mydrive", None)
    gym.registry.pop("MyDrive-v0", None)


@pytest.fixture
def checkpoint(drive):
    """An agent for ``mydrive:MyDrive-v0``, saved by somebody."""
    env = make_env("mydrive:MyDrive-v0")
    model = MLPWorldModel(spec_of(env.observation_space, env.action_space), MLPConfig(hidden=4))
    planner = make_planner("random_shooting", horizon=2, num_samples=4)
    TDMAgent(model, planner, env_id="mydrive:MyDrive-v0 wind=0.5").save(drive / "model")
    forget()
    sys.path.remove(str(drive))
    return drive / "model"


def test_a_module_that_is_typed_is_found_in_the_current_folder(drive):
    assert make_env("mydrive:MyDrive-v0 wind=0.5").unwrapped.wind == 0.5
    assert sys.path[-1] == str(drive), "nothing that is installed is shadowed"


def test_a_module_that_a_checkpoint_names_is_not_imported_on_its_word(checkpoint, capsys):
    ref = environment_of(parse_entry("model"))
    assert str(ref) == "mydrive:MyDrive-v0 wind=0.5"
    with pytest.raises(UntrustedModuleError, match=r"model/agent\.json names the module 'mydrive'"):
        ref.make()
    assert main(["evaluate", "--checkpoint", "./model", "--episodes", "1"]) == 2
    said = capsys.readouterr().err
    assert "agent.json names the module 'mydrive'" in said and "pass --import mydrive" in said
    assert "mydrive" not in sys.modules


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--checkpoint", "./model", "--episodes", "1", "--out", "report.json"],
        ["compare", "--entry", "./model", "--episodes", "1", "--out", "compared"],
    ],
    ids=lambda command: command[0],
)
def test_a_module_that_the_user_vouches_for_is_imported(command, checkpoint, drive):
    assert main([*command, "--import", "mydrive"]) == 0
    written = drive / ("report.json" if command[0] == "evaluate" else "compared/comparison.json")
    assert "mydrive:MyDrive-v0 wind=0.5" in written.read_text()


def test_an_import_that_does_not_work_is_one_line(checkpoint, capsys):
    assert main(["evaluate", "--checkpoint", "./model", "--import", "nowhere"]) == 2
    assert "--import nowhere: No module named 'nowhere'; install it" in capsys.readouterr().err


def test_a_module_of_an_installed_package_is_imported(checkpoint, monkeypatch):
    class Entry:
        name, module = "drive", "mydrive.environments"

    found = environments.entry_points
    monkeypatch.setattr(
        environments,
        "entry_points",
        lambda *, group: [Entry] if group == environments.ENVIRONMENTS else found(group=group),
    )
    ref = environment_of(parse_entry("model"))
    with pytest.raises(
        MissingPackageError, match="mydrive"
    ):  # trusted, but only where installed packages lie
        ref.make()
    monkeypatch.syspath_prepend(checkpoint.parent)
    assert ref.make().unwrapped.wind == 0.5


def test_what_is_imported_already_is_no_question_of_trust(checkpoint):
    make_env("mydrive:MyDrive-v0")
    assert environment_of(parse_entry("model")).make().unwrapped.wind == 0.5


def test_the_shipped_modules_are_known(tmp_path):
    for text in ("tdm_envs:tdm/WalkerLine-v0 dof=4 body=1", "shimmy:dm_control/cartpole-swingup-v0"):
        EnvRef.parse(text, source="somebody's agent.json").make().close()


def test_from_a_file_of_ones_own_to_an_agent_that_finds_it_again(drive):
    """In processes of their own: workers of a collection import what the command could."""

    def tdm(*words):
        done = subprocess.run(
            [sys.executable, "-m", "tdm_agents.cli.main", *words], capture_output=True, text=True, cwd=drive
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = ["--env-id", "mydrive:MyDrive-v0 wind=0.5"]
    tdm("collect", *where, "--random-episodes", "3", "--action-repeat", "1", "--out", "data")
    info = describe(drive / "data/data")
    assert (info.env_id, info.env_kwargs) == ("mydrive:MyDrive-v0", {"wind": 0.5})
    small = ["--steps", "1", "--batch-size", "2", "--starts", "1", "--horizons", "1", "--context-steps", "1"]
    fast = ["--model", "mlp", "--planner", "random_shooting", "--held-out-fraction", "0.4"]
    tdm("train", "--data", "data/data", "--out", "run", "--action-repeat", "1", *fast, *small)
    assert json.loads((drive / "run/agent.json").read_text())["env_id"] == "mydrive:MyDrive-v0 wind=0.5"
    vouched = ["--import", "mydrive", "--episodes", "1", "--out", "compared"]
    tdm("compare", "--entry", "./run horizon=2 num_samples=2", *vouched)
    report = json.loads((drive / "compared/comparison.json").read_text())
    assert report["env_ids"] == ["mydrive:MyDrive-v0 wind=0.5"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (AssertionError("wind must be calm"), "wind must be calm"),
        (AssertionError(), "AssertionError"),
        (KeyError("calm"), "'calm'"),
        (ValueError("wind"), "wind"),
    ],
    ids=["an assertion", "a bare assertion", "a key", "a value"],
)
def test_settings_that_an_environment_refuses_in_its_own_way_are_told_in_one_line(error, why, capsys):
    class Refuses(gym.Env):
        def __init__(self, wind):
            raise error

    gym.register("Refuses-v0", Refuses)
    try:
        assert main(["evaluate", "--random", "--env-id", "Refuses-v0 wind=2"]) == 2
    finally:
        del gym.registry["Refuses-v0"]
    said = capsys.readouterr().err
    assert f"environment 'Refuses-v0' cannot be made with wind=2: {why}" in said and "Traceback" not in said


def test_an_id_that_nothing_registers_is_answered_with_the_form_that_names_a_module(tmp_path, monkeypatch):
    for env_id in ("MyRace-v0", "mine/MyRace-v0"):
        with pytest.raises(UnknownNameError, match=f"say also which module .*: 'my_module:{env_id}'"):
            make_env(env_id)
    with pytest.raises(UnknownNameError, match="cannot be made") as caught:
        make_env("Pendulum-v99")  # Gymnasium knows it, and says which versions there are
    assert "my_module" not in str(caught.value)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forgot_to_register.py").write_text("")
    with pytest.raises(UnknownNameError, match=r"Importing forgot_to_register did not register it: its file"):
        make_env("forgot_to_register:MyRace-v0")
    sys.modules.pop("forgot_to_register")
