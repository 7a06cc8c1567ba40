"""Strangers' plug-ins, built and installed beside ours, used by name from Python and on the command line."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tdm_agents.cli.main import main

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "tests" / "plugins"
SOURCES = ("tdm_agents", "planners", "envs", "tests", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
PENDULUM = "Pendulum-v1"

PLAY = """
import json, sys
import gymnasium as gym
import tdm_agents
from tdm_agents import TDMAgent, make_planner
from tdm_agents.registry import WORLD_MODELS, load

found = {"home": tdm_agents.__file__}
agent = TDMAgent.load(sys.argv[1])
env = agent.attach(gym.make("Pendulum-v1"))
obs, info = env.reset(seed=0)
for _ in range(5):
    obs, reward, *_ = env.step(agent.act(obs))
found["planner"], found["model"] = type(agent.planner).__name__, type(agent.model).__name__
found["imagined"] = agent.last_plan.plan.stats["transitions"]
refused = {}
for name in ("raises", "no_plan", "cem"):
    try:
        make_planner(name)
    except ImportError as error:
        refused[name] = str(error)
try:
    load(WORLD_MODELS, "no_take")
except ImportError as error:
    refused["no_take"] = str(error)
print(json.dumps(found | {"refused": refused, "mppi": type(make_planner("mppi")).__name__}))
"""


def run(*words: object, cwd: Path) -> str:
    """What a command printed; without network, the user's settings and our paths."""
    removed = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in removed} | {
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder of wheels: ours and the strangers'; and our source distribution."""
    folder = tmp_path_factory.mktemp("built")
    # copies, because builds leave folders beside the sources
    litter = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "ours" / name, ignore=litter)
        else:
            shutil.copy(source, folder / "ours" / name)
    shutil.copytree(PLUGINS, folder / "plugins", ignore=litter)
    sources = [folder / "ours", *sorted(p for p in (folder / "plugins").iterdir() if p.is_dir())]
    pip = (sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps")
    run(*pip, "--wheel-dir", folder / "wheels", *sources, cwd=folder)
    build = "from setuptools import build_meta; build_meta.build_sdist('../sdist')"
    run(sys.executable, "-c", build, cwd=folder / "ours")
    return folder


@pytest.fixture(scope="module")
def installed(built):
    """The folder of scripts of a new virtual environment with all wheels, and our own dependencies."""
    folder = built / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps")
    run(*pip, *(built / "wheels").glob("*.whl"), cwd=built)
    # after the installation: pip must not think that what lies there is installed here
    here = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=built).strip()
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(dependencies)]
    (Path(here) / "dependencies.pth").write_text("\n".join(lines) + "\n")
    return folder / "bin"


@pytest.fixture(scope="module")
def trained(installed, tmp_path_factory):
    """A stranger's world model, trained by name to be planned with by a stranger's planner."""
    folder = tmp_path_factory.mktemp("trained")
    collect = shlex.split("--random-episodes 6 --planner-episodes 0 --max-steps 40 --action-repeat 1")
    assert main(["collect", "--env-id", PENDULUM, *collect, "--out", str(folder / "collected")]) == 0
    train = ("--data", folder / "collected" / "data", "--out", folder / "run", "--action-repeat", "1")
    plugins = shlex.split("--model quadratic --model-settings ridge 1e-4 --planner differential_evolution")
    small = shlex.split("--steps 3 --batch-size 8 --evaluate-batches 2 --starts 4 --horizons 1 5")
    run(installed / "tdm", "train", *train, *plugins, *small, cwd=folder)
    return folder / "run"


def test_our_wheel_and_source_distribution_hold_no_tests(built):
    (wheel,) = (built / "wheels").glob("tdm_agents-*.whl")
    (sdist,) = (built / "sdist").glob("tdm_agents-*.tar.gz")
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    top = {name.split("/")[0] for name in in_wheel if ".dist-info/" not in name}
    assert top == {"tdm_agents", "tdm_envs", "tdm_planners"}
    assert "tdm_agents/checkpoints/cartpole-swingup/weights.safetensors" in in_wheel
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tdm_agents/agent/agent.py", "planners/tdm_planners/cem.py", "pyproject.toml"} <= in_sdist
    assert not [name for name in in_sdist if name.startswith("tests")]


def test_planners_are_listed_with_settings_and_package_and_broken_ones_with_their_error(installed, built):
    listed = {p["name"]: p for p in json.loads(run(installed / "tdm", "planners", "--json", cwd=built))}
    stranger = listed["differential_evolution"]
    assert (stranger["package"], stranger["version"]) == ("differential-evolution-planner", "0.3.1")
    assert stranger["settings"]["crossover"] == 0.8 and stranger["error"] is None
    assert "OSError: libsolver.so.3" in listed["raises"]["error"]
    assert "NoPlan has no plan()" in listed["no_plan"]["error"]
    assert listed["cem"]["package"] == "broken-plugins, tdm-agents"
    broken = {name for name, p in listed.items() if p["error"]}
    assert broken == {"raises", "no_plan", "cem"}
    assert all("package broken-plugins 0.0.1" in listed[name]["error"] for name in broken)


def test_plugins_are_used_by_name_from_python(installed, trained):
    found = json.loads(run(installed / "python", "-c", PLAY, trained, cwd=trained))
    assert Path(found["home"]).is_relative_to(installed.parent)
    assert (found["planner"], found["model"]) == ("DifferentialEvolution", "QuadraticModel")
    assert found["imagined"] > 0
    assert set(found["refused"]) == {"raises", "no_plan", "cem", "no_take"}
    assert all("broken-plugins 0.0.1" in message for message in found["refused"].values())
    assert "tdm-agents" in found["refused"]["cem"]
    assert found["mppi"] == "MPPI"


def test_plugins_are_used_by_name_on_the_command_line(installed, trained):
    play = shlex.split("--episodes 1 --max-steps 4 --planner differential_evolution")
    settings = shlex.split("--planner-settings num-samples 8 horizon 5 --out report.json")
    run(installed / "tdm", "evaluate", "--checkpoint", trained, *play, *settings, cwd=trained)
    report = json.loads((trained / "report.json").read_text())
    assert "QuadraticModel" in report["contestant"] and "differential_evolution" in report["contestant"]
    assert report["summary"]["episodes"] == 1 and report["provenance"]["weights_sha256"]


def test_a_model_without_observations_is_trained_and_played_by_name(installed, trained):
    folder = trained.parent
    train = ("--data", folder / "collected" / "data", "--out", folder / "latent", "--action-repeat", "1")
    small = shlex.split("--steps 3 --batch-size 8 --evaluate-batches 2 --starts 4 --horizons 1 5")
    run(installed / "tdm", "train", *train, "--model", "latent", *small, cwd=folder)
    play = shlex.split("--max-steps 4 --planner-settings horizon 3 num-samples 8 --no-video --out played")
    said = run(installed / "tdm", "play", "--checkpoint", folder / "latent", *play, cwd=folder)
    assert "return " in said and (folder / "played" / "play.png").exists()
