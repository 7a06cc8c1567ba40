"""Where dm_control is not installed, its environments say why, and everything else works."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import gymnasium as gym
import pytest
from packaging.requirements import Requirement

import tdm_agents
import tdm_envs
import tdm_planners
from tdm_agents.cli import health
from tdm_envs import without_dm_control

ROOT = Path(__file__).parents[2]
PACKAGES = ("dm_control", "dm_env", "labmaze", "shimmy")
ABSENT = f"import sys\nfor name in {PACKAGES}: sys.modules[name] = None\n"


def printed(script):
    """What a process without dm_control prints, by lines."""
    done = subprocess.run(
        [sys.executable, "-c", ABSENT + script], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_no_module_but_those_of_the_suite_imports_it_before_an_environment_is_made():
    sources = [Path(package.__file__).parent for package in (tdm_agents, tdm_planners, tdm_envs)]
    at_once = set()
    for path in (path for source in sources for path in source.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] in PACKAGES for name in names):
                at_once.add(path.name)
    assert at_once == {"suite_env.py", "suite_lengths.py"}


def test_an_agent_plans_with_the_simulator_and_walkers_move():
    found = printed(
        "import gymnasium as gym\n"
        "from tdm_agents import SimulatorModel, TDMAgent, make_planner\n"
        "env = gym.make('InvertedPendulum-v5')\n"
        "planner = make_planner('random_shooting', horizon=2, num_samples=4)\n"
        "agent = TDMAgent(SimulatorModel(env), planner)\n"
        "obs, _ = env.reset(seed=0)\n"
        "agent.reset()\n"
        "print(env.action_space.contains(agent.act(obs)))\n"
        "walker = gym.make('tdm_envs:tdm/WalkerLine-v0')\n"
        "walker.reset(seed=0)\n"
        "print(walker.observation_space.contains(walker.step(walker.action_space.sample())[0]))\n"
    )
    assert found == ["True", "True"]


@pytest.mark.parametrize("made_by", ["dm_control/dog-run-v0", "tdm/Suite-v0"])
def test_an_environment_of_the_suite_is_answered_with_the_remedy(made_by):
    found = printed(
        "import gymnasium as gym\n"
        "from tdm_agents.cli.main import main\n"
        "try:\n"
        f"    gym.make('tdm_envs:{made_by}')\n"
        "except ImportError as error:\n"
        "    print(error)\n"
        "sys.stderr = sys.stdout\n"
        f"print(main(['collect', '--env-id', '{made_by} domain=dog task=run', '--out', 'unused']))\n"
    )
    assert "pip install" in found[0] and found[0].startswith(made_by)
    assert found[1:] == [f"tdm collect: {found[0]}", "2"]


def test_the_list_of_environments_says_that_the_suite_is_not_installed():
    found = printed(
        "from tdm_agents.cli.envs import known\n"
        "for one in known():\n"
        "    print('not installed' in one.about, one.env_id)\n"
    )
    there = {line.split()[1] for line in found if line.startswith("False")}
    assert there == {
        env_id for env_id in gym.registry if env_id.startswith("tdm/") and env_id != "tdm/Suite-v0"
    }
    assert "True tdm/Suite-v0" in found and "True dm_control/cartpole-swingup-v0" in found


@pytest.mark.parametrize(
    ("python", "told"), [((3, 12), "shimmy[dm-control]"), ((3, 13), "labmaze"), ((3, 14), "this is 3.14")]
)
def test_the_reason_is_that_of_this_python(python, told, monkeypatch):
    monkeypatch.setattr(without_dm_control, "PYTHON", python)
    with pytest.raises(without_dm_control.DmControlMissingError) as found:
        without_dm_control.refuse("tdm/Suite-v0", domain="dog")
    assert told in str(found.value)
    assert ("--no-deps" in str(found.value)) == (python > without_dm_control.LAST_WITH_WHEELS)


@pytest.mark.parametrize(("installed", "state"), [(True, "ok"), (False, "note")])
def test_the_doctor_says_whether_the_suite_is_there_where_it_is_not_required(installed, state, monkeypatch):
    assert health.suite() == [] or sys.version_info >= (3, 13)
    monkeypatch.setattr(without_dm_control, "PYTHON", (3, 14))
    monkeypatch.setattr(without_dm_control, "is_installed", lambda: installed)
    (found,) = health.suite()
    assert found.state == state and bool(found.remedy) != installed


def test_the_requirements_are_those_of_the_pythons_that_have_wheels():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    marked = [r for r in map(Requirement, declared) if r.name in ("shimmy", "dm-control")]
    assert len(marked) == 2
    for python in ("3.11", "3.12", "3.13", "3.14"):
        wanted = tuple(map(int, python.split("."))) <= without_dm_control.LAST_WITH_WHEELS
        assert all(one.marker.evaluate({"python_version": python}) == wanted for one in marked)
