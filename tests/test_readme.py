"""What the README tells a reader to type works as it stands there."""

import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import gymnasium as gym
import markdown_pages as pages
import pytest

import readme_results
from tdm_agents import registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
STEPS = 8  # an episode's length here: two decisions instead of 250


def blocks(language):
    return pages.sources(README, language)


def commands(name):
    return pages.commands(README, name)


@pytest.fixture
def short_episodes(monkeypatch):
    make = gym.make
    monkeypatch.setattr(gym, "make", lambda env, **settings: make(env, max_episode_steps=STEPS, **settings))


def run_block(source):
    names = {"__name__": "readme"}
    exec(compile(source, "a python block of README.md", "exec"), names)
    return names


def test_gym_loop_plays_an_episode_to_its_end(short_episodes):
    (block,) = blocks("python")
    names = run_block(block)
    assert names["done"] and names["truncated"]
    assert names["agent"].last_plan is not None


def test_it_can_be_read_in_one_sitting():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("words", [*commands("tdm"), *pages.mentioned(README, "tdm")], ids=shlex.join)
def test_tdm_command_parses(words):
    pages.assert_parses(words)


def test_commands_hand_their_output_on():
    said = {w[1]: dict(zip(w[2::2], w[3::2], strict=False)) for w in commands("tdm")}
    collect, train, evaluate = (said[name] for name in ("collect", "train", "evaluate"))
    assert train["--data"] == f"{collect['--out']}/data"
    assert evaluate["--checkpoint"] == train["--out"]


@pytest.mark.parametrize("words", commands("make"), ids=shlex.join)
def test_make_target_exists(words):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_file_and_module_that_is_named_exists():
    paths = pages.linked_files(README) + re.findall(r"`((?:benchmarks|tdm_agents)/[\w./]+)`", README)
    assert not [path for path in paths if not (ROOT / path).exists()]
    for module, name in re.findall(r"`(tdm_agents(?:\.\w+)+)\.(\w+)\b", README):
        if f"{module}.{name}" not in (registry.PLANNERS, registry.WORLD_MODELS):
            assert hasattr(import_module(module), name), f"{module}.{name}"


def test_every_number_of_the_results_is_a_measured_one():
    """The section is what ``benchmarks/readme_results.py`` writes from the JSON of the benchmarks."""
    assert f"{readme_results.BEGIN}\n{readme_results.text()}\n{readme_results.END}" in README
