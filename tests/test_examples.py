"""The scripts and the notebook of examples/ do what they say, with small numbers."""

import json
from importlib import import_module
from pathlib import Path

import markdown_pages as pages
import matplotlib.pyplot as plt
import pytest

from tdm_agents import registry

EXAMPLES = Path(__file__).parents[1] / "examples"
FEW = {"num_samples": 4, "horizon": 3}
SMALL = {
    "drop_in": {"max_steps": 6, **FEW},
    "own_environment": {"episodes": 10, "steps": 3, "play": 1},
    "own_reward": {"steps": 6, **FEW},
    "own_planner": {"steps": 6, "episodes": 1, **FEW},
    "beside_sb3": {"train_steps": 16, "max_steps": 6, "episodes": 1, **FEW},
    "zero_shot_walker": {"bodies": 2, "episodes": 5, "steps": 2, "length": 26},
}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Imports an example, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    return import_module


def test_there_is_a_test_of_every_script():
    modules = {"drive"}  # the environment of own_environment.py
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SMALL.keys() | modules
    assert [path.stem for path in EXAMPLES.glob("*.ipynb")] == ["first_hour"]


@pytest.mark.parametrize("name", ["drop_in", "own_reward", "beside_sb3"])
def test_an_example_runs(name, example, capsys):
    example(name).main(**SMALL[name])
    assert capsys.readouterr().out


def test_a_planner_of_ones_own_is_known_by_name(example, capsys, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    returns = example("own_planner").main(**SMALL["own_planner"])
    assert set(returns) == {"halving", "random_shooting"}
    assert "halving" in registry.names(registry.PLANNERS)


def test_an_environment_of_ones_own_is_collected_trained_on_and_compared(example, capsys, tmp_path):
    example("own_environment").main(**SMALL["own_environment"])
    report = json.loads((tmp_path / "runs/drive/compared/comparison.json").read_text())
    assert report["env_ids"] == ["drive:Drive-v0 wind=0.5"]
    assert "own_environment" not in capsys.readouterr().err


def test_a_generalist_plays_in_a_body_that_it_has_not_seen(example, capsys):
    returns = example("zero_shot_walker").main(**SMALL["zero_shot_walker"])
    assert list(returns) == ["generalist, zero-shot", "true dynamics", "random actions"]
    assert "which is not among the 2 that were learned from" in capsys.readouterr().out


@pytest.fixture
def notebook():
    return json.loads((EXAMPLES / "first_hour.ipynb").read_text())


def test_the_notebook_prints_what_it_shows(notebook, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    names = {"__name__": "first_hour"}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            capsys.readouterr()
            exec(compile("".join(cell["source"]), "first_hour.ipynb", "exec"), names)
            printed = capsys.readouterr().out
            shown += ["".join(out["text"]) for out in cell["outputs"] if out["output_type"] == "stream"]
            # returns differ a little from machine to machine
            assert bool(printed) == any(out["output_type"] == "stream" for out in cell["outputs"])
            if "imagined transitions" in printed:
                pages.assert_shown(shown[-1], printed, "first_hour.ipynb")
    assert "".join(shown).count("returns") == 2


def test_the_notebook_was_run_from_top_to_bottom(notebook):
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert notebook["nbformat"] == 4 and all(cell["id"] for cell in notebook["cells"])
