"""Environments without a time limit: whoever plays them comes to an end, and says why."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents import evaluate
from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.cli.main import main
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.minari_io import describe, read_episodes
from tdm_agents.environments import ENDLESS_STEPS, EndlessWarning, EnvRef, episode_limit, steps_at_most


class Endless(gym.Env[Any, Any]):
    """Never ends, unless ``ends`` says after how many steps."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, ends: int | None = None) -> None:
        self.ends = ends

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.played = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.played += 1
        return np.zeros(1, np.float32), 1.0, self.played == self.ends, False, {}


gym.register("endless/Endless-v0", entry_point=Endless)


class Here:
    """Plays in this process."""

    def imap_unordered(self, function: Callable[[Any], Any], work: Iterable[Any]) -> Iterator[Any]:
        return map(function, work)


def _still(observation: Any) -> int:
    return 0


def test_an_evaluation_is_cut_and_says_so():
    with pytest.warns(EndlessWarning, match=f"no time limit.*cut after {ENDLESS_STEPS:,}.*max_steps"):
        played = evaluate(_still, Endless, [0])
    assert (played.episodes[0].length, played.episodes[0].end) == (ENDLESS_STEPS, "cut")


@pytest.mark.parametrize(("env", "max_steps", "length"), [
    (Endless, 7, 7),
    (lambda: Endless(ends=5), None, 5),
    (lambda: gym.wrappers.TimeLimit(Endless(), 9), None, 9),
    (lambda: gym.wrappers.TimeLimit(Endless(), ENDLESS_STEPS + 5), None, ENDLESS_STEPS + 5),
])  # fmt: skip
def test_what_ends_otherwise_is_let_alone(env: Any, max_steps: int | None, length: int):
    with warnings.catch_warnings():
        warnings.simplefilter("error", EndlessWarning)
        assert evaluate(_still, env, [0], max_steps=max_steps).episodes[0].length == length


def test_a_collection_is_cut_and_says_so(tmp_path: Path):
    dataset = DatasetSpec(env=EnvRef("endless/Endless-v0"), mix=((RandomPolicy(), 1),))
    with pytest.warns(EndlessWarning, match=r"endless/Endless-v0 has no time limit"):
        data = collect(dataset, tmp_path / "out", pool=Here())
    (episode,) = read_episodes(describe(data))
    assert (len(episode.reward), episode.terminated) == (ENDLESS_STEPS, False)


@pytest.mark.parametrize("given", [[], ["--max-steps", "30"]])
@pytest.mark.parametrize("command", ["evaluate", "compare", "collect"])
def test_the_commands_say_it_before_they_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, given: list[str]
):
    env = ["--env-id", "endless/Endless-v0 ends=20"]
    words = {
        "evaluate": ["--random", "--episodes", "1"],
        "compare": ["--entry", "random", "--episodes", "1", "--out", str(tmp_path / "out")],
        "collect": ["--random-episodes", "1", "--planner-episodes", "0", "--out", str(tmp_path / "out")],
    }[command]
    code = main([command, *env, *words, *given])
    assert code == 0 or command == "collect"  # whose worker processes do not know the id
    said = "".join(capsys.readouterr().err.split())
    assert (f"cutafter{ENDLESS_STEPS:,}environmentsteps;--max-steps" in said) == (not given)


@pytest.mark.parametrize(
    ("env", "limit"), [("CartPole-v1", 500), ("Blackjack-v1", None), ("dm_control/cartpole-swingup-v0", 1000)]
)
def test_limits(env: str, limit: int | None):
    made = EnvRef(env).make()
    assert episode_limit(made) == limit
    assert steps_at_most(made, None) == (None if limit else ENDLESS_STEPS)
    assert steps_at_most(made, 3) == 3
