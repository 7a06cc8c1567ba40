"""The commands of docs/collecting.md, one after another, with fewer and shorter episodes and updates."""

from dataclasses import replace
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
    capsys.readouterr()
    smallest = min(
        (entry.env for entry in read_index(tmp_path / "runs/walkers")), key=lambda env: env.kwargs["dof"]
    )
    for entry in read_index(tmp_path / "runs/walkers"):
        agent = TDMAgent.load("runs/generalist", env_id=str(entry.env))
        assert agent.model.spec.history_steps >= 3
    unseen = replace(smallest, kwargs={**smallest.kwargs, "body": 0}).make()
    agent = TDMAgent.load("runs/generalist", env=unseen, horizon=2, num_samples=4)
    agent.reset()
    assert unseen.action_space.contains(agent.act(unseen.reset(seed=0)[0]))
