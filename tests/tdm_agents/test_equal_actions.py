"""The loops of ``benchmarks/equal_actions.py``, in small: environments execute the same in all of them."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "equal_actions.py"
SMALL = {"batches": (1, 2), "steps": 6, "horizon": 2, "num_samples": 4}


@pytest.fixture(scope="module")
def benchmark_module():
    spec = importlib.util.spec_from_file_location("equal_actions", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["equal_actions"] = module  # where dataclasses look annotations up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["equal_actions"]


@pytest.mark.parametrize("model", ["simulator", "tdm"])
def test_a_sampling_planner_acts_the_same_in_every_loop_of_a_batch_size(model, benchmark_module):
    arena = benchmark_module.Arena(benchmark_module.Settings(models=(model,), **SMALL))
    for batch in (1, 2):
        rows = list(arena.in_every_loop(model, batch))
        loops = {(row["loop"], row["mode"], row["told_rewards"]) for row in rows}
        assert len(loops) == len(rows) == (15 if batch == 1 else 12)
        assert {"evaluate_policy", "evaluate", "act, vector loop", "attach, vector loop"} <= {
            row["loop"] for row in rows
        }
        for row in rows:
            episodes = 1 if row["loop"] == "evaluate" else 2
            assert row["equal"] == row["actions"] == batch * episodes * SMALL["steps"], row


def test_with_the_simulator_an_environment_is_acted_in_as_if_alone(benchmark_module):
    arena = benchmark_module.Arena(benchmark_module.Settings(models=("simulator",), **SMALL))
    rows = list(arena.across_batches("simulator"))
    assert len(rows) == 5
    for row in rows:
        assert row["equal"] == row["actions"] == 2 * 2 * SMALL["steps"], row


def test_another_seed_and_other_news_are_seen(benchmark_module):
    """That equal actions say something: what differs is counted."""
    arena = benchmark_module.Arena(benchmark_module.Settings(models=("tdm",), **SMALL))
    told, untold = (
        next(
            loop
            for loop in benchmark_module.loops()
            if loop.name == "act, plain loop" and loop.rewards == rewards
        )
        for rewards in (True, False)
    )
    both = [arena.play("tdm", arena.planner, loop, arena.courses[:1]) for loop in (told, untold)]
    row = benchmark_module.row("tdm", untold, 1, told.name, *both)
    assert 0 < row["equal"] < row["actions"] and row["largest_difference"] > 0
