"""Named settings of whole agents."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import gymnasium as gym
import pytest

from tdm_agents.agent import TDMAgent
from tdm_agents.cli import train as command
from tdm_agents.registry import make_planner
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.testing import LinearQuadraticModel
from tdm_agents.world_models.transformer.layout import context_steps
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.presets import PRESETS
from tdm_agents.world_models.transformer.trajectory_model import TrajectoryTransformer

PAPER = {"paper-cartpole": (128, 100), "paper-walker": (64, 25), "paper-humanoid": (64, 20)}


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_preset_is_what_the_paper_says(name):
    preset = PRESETS[name]
    tokens = preset.config.tokenizer
    assert (tokens.observation, tokens.target, tokens.bins) == ("mu_law", "absolute", 1024)
    assert (tokens.mu, tokens.limit) == (100.0, 256.0)
    assert preset.config.decoding.read == "sample"
    assert preset.action_repeat == 1
    walker = gym.spaces.Box(-1, 1, (24,)), gym.spaces.Box(-1, 1, (6,))
    network = TransformerNetwork(preset.config.network(spec_of(*walker)), "meta")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(77e6, rel=0.01)


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_preset_imagines_as_many_transitions_as_the_paper(name):
    planner = command.planner_of(command.Train(data=(Path("any"),), out=Path("run")), PRESETS[name])
    agent = TDMAgent(LinearQuadraticModel(), planner, seed=0)
    agent.reset()
    agent.act(agent.model.spec.observation_space.sample())
    num_samples, horizon = PAPER[name]
    assert float(agent.last_plan.plan.stats["transitions"]) == num_samples * horizon
    assert agent.last_plan.plan.sequence.shape[1] == horizon


@pytest.mark.parametrize("name", PAPER)
def test_training_writes_down_how_the_paper_plans(name):
    args = command.Train(data=(Path("any"),), out=Path("run"))
    settings = command.agent_settings(args, command.planner_of(args, PRESETS[name]), None)
    num_samples, horizon = PAPER[name]
    expected = make_planner("random_shooting", num_samples=num_samples, horizon=horizon)
    assert settings.planner == "random_shooting"
    assert settings.planner_settings == asdict(expected)


def test_another_planner_beside_a_preset_has_its_own_defaults():
    args = command.Train(data=(Path("any"),), out=Path("run"), preset="paper-walker", planner="cem")
    settings = command.agent_settings(args, command.planner_of(args, PRESETS["paper-walker"]), None)
    assert settings.planner_settings == asdict(make_planner("cem"))
    plain = command.Train(data=(Path("any"),), out=Path("run"))
    assert command.planner_of(plain, PRESETS["small"]) == make_planner("mppi")
    assert next(iter(PRESETS)) == "small" and PRESETS["small"].action_repeat == 4


def test_the_trajectory_transformer_has_its_papers_sizes_and_search():
    preset = TrajectoryTransformer.presets()["paper"]
    hopper = spec_of(gym.spaces.Box(-1, 1, (11,)), gym.spaces.Box(-1, 1, (3,)))
    assert context_steps(preset.config.context, preset.config.layout(hopper)) == 10
    network = preset.config.network(hopper)
    assert (network.layers, network.heads, network.head_dim, network.bins) == (4, 4, 32, 100)
    block = 4 * 128 * 128 + 2 * 128 * 512  # its attention and feedforward weights
    ours = TransformerNetwork(network, "meta").blocks[0]
    assert sum(p.numel() for p in ours.parameters() if p.ndim == 2) == pytest.approx(block, rel=0.01)
    planner = make_planner(preset.planner, **preset.planner_settings)
    assert (planner.beam_width, planner.num_expand, planner.horizon) == (128, 2, 15)
