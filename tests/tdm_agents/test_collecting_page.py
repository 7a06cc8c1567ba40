"""The commands of docs/collecting.md, one after another, with fewer and shorter episodes and updates."""

from pathlib import Path

import markdown_pages as pages

from tdm_agents import TDMAgent
from tdm_agents.cli.main import main
from tdm_agents.data.index import read_index

PAGE = (Path(__file__).parents[2] / "docs" / "collecting.md").read_text()
SMALLER = {
    "envs": "--count 1 --families line tree",
    "collect": "--random-episodes 2 --planner-episodes 1 --max-steps 6 --workers 1",
    "train": "--steps 1 --batch-size 2 --held-out-fraction 0.3 --starts 1 --horizons 1 --context-steps 2"
    " --evaluate-batches 1",
}


def test_from_bodies_to_a_generalist(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    chain = pages.commands(PAGE, "tdm")[:4]
    assert [words[1] for words in chain] == ["envs", "collect", "data", "train"]
    for _, command, *options in chain:
        assert main([command, *options, *SMALLER.get(command, "").split()]) == 0, capsys.readouterr().err
    largest = max(entry.env.kwargs["dof"] for entry in read_index(tmp_path / "runs/walkers"))
    tokens = 13 + 2 * largest + largest + 2
    assert f"a context of {3 * tokens} tokens" in " ".join(capsys.readouterr().err.split())
    for entry in read_index(tmp_path / "runs/walkers"):
        agent = TDMAgent.load("runs/generalist", env_id=str(entry.env))
        assert agent.model.spec.history_steps >= 3
