"""What torch makes by default is the user's setting: nothing here depends on it."""

import ast
import io
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from rich.console import Console

import tdm_agents
import tdm_envs  # noqa: F401  (registers dm_control)
import tdm_planners
from tdm_agents import SimulatorModel, TDMAgent, make_planner
from tdm_agents.agent.prompt import of_episode
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import History
from tdm_agents.testing import (
    LinearQuadraticExpert,
    LinearQuadraticModel,
    check_planner,
    check_trainable_model,
    check_world_model,
    recorded_episodes,
)
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import train
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config
from tdm_agents.world_models.tdmpc2.tdmpc2_model import TDMPC2
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

CARTPOLE = "dm_control/cartpole-swingup-v0"
SMALL = TDMPC2Config(encoder_width=16, width=16, latent=16, members=3, learning_rate=3e-3)
TINY = TransformerConfig(
    layers=1, width=16, heads=2, feedforward=16, context=30, tokenizer=TokenizerConfig(bins=64)
)
DEFAULTS = ("float64", "meta")


@contextmanager
def torch_default(which):
    """As a user may have set it; a tensor that is made on ``meta`` holds nothing that could be read."""
    try:
        if which == "float64":
            torch.set_default_dtype(torch.float64)
        elif which == "meta":
            torch.set_default_device("meta")
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


@pytest.fixture(params=DEFAULTS)
def elsewhere(request):
    with torch_default(request.param):
        yield request.param


PLANNERS = {
    "cem": {},
    "cem, splines": {"noise_knots": 3},
    "cem, coloured": {"noise_beta": 1.0, "execute": "mean"},
    "mppi": {"execute": "sample"},
    "random_shooting": {},
    "proposal_shooting": {"noise_scale": 0.1, "random_share": 0.2},
    "beam_search": {},
    "beam_search, tokens": {"level": "token"},
    "policy": {},
}


def a_transformer(config=TINY, **data):
    episodes = recorded_episodes(**data)
    model = TransformerWorldModel.build({"": episodes.spec}, config, seed=3)
    model.fit({"": episodes})
    return model.eval()


def played(name, model):
    """Four actions of a planner."""
    kind, _, _ = name.partition(",")
    settings = PLANNERS[name] | ({"horizon": 4} if kind != "policy" else {"horizon": 1})
    agent = TDMAgent(model, make_planner(kind, **settings), seed=2)
    agent.reset()
    observations = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    return np.stack([agent.act(obs, reward=0.5 if i else None) for i, obs in enumerate(observations)])


@pytest.mark.parametrize("choices", [None, 3], ids=["continuous", "discrete"])
@pytest.mark.parametrize("name", PLANNERS)
def test_planners_act_the_same(name, choices):
    def act():
        made = {"model": LinearQuadraticModel(choices=choices)}
        models = [a_transformer(**made)]
        if name != "beam_search, tokens":
            models.append(LinearQuadraticExpert(choices=choices))
        return [played(name, model) for model in models]

    expected = act()
    for which in DEFAULTS:
        with torch_default(which):
            found = act()
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["cem", "mppi", "beam_search"])
def test_planners_keep_their_contract(name, elsewhere):
    model = LinearQuadraticExpert() if name == "beam_search" else None
    check_planner(lambda **settings: make_planner(name, **settings), model=model)


@pytest.mark.parametrize("read", ["mean", "sample"])
@pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "together"])
def test_world_models_keep_their_contract(parallel, read, elsewhere):
    decoding = replace(TINY.decoding, read=read, parallel=parallel)
    model = a_transformer(replace(TINY, decoding=decoding))
    past = torch.full((3, 4, 2), 0.1, dtype=torch.float32, device="cpu")
    history = History(
        past, past[:, :, 0], past[:, 1:, :1], torch.tensor([4, 1, 3], dtype=torch.int64, device="cpu")
    )
    check_world_model(model, history, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MLPWorldModel, {"config": MLPConfig(hidden=8, layers=1)}),
        (TransformerWorldModel, {"config": TINY}),
        (Generalist, {"config": TINY, "data": ("box", "levels")}),
        (TDMPC2, {"config": SMALL, "learning_rate": 3e-3}),
        (TDMPC2, {"config": SMALL, "data": ("levels",), "learning_rate": 3e-3}),
    ],
)
def test_models_are_trained_saved_and_loaded(kind, options, elsewhere):
    made = {"box": {}, "levels": {"model": LinearQuadraticModel(choices=3), "seed": 2}}
    data = {name: recorded_episodes(**made[name]) for name in options.get("data", ())}
    check_trainable_model(kind, **{**options, **({"data": data} if data else {})})


def trained(folder, kind, config):
    episodes = recorded_episodes(steps=40)
    model = kind.build({"": episodes.spec}, config, seed=1)
    model.fit({"": episodes})
    run = TrainConfig(steps=4, batch_size=4, window_steps=5, warmup_steps=1, evaluate_every=2)
    sampler = WindowSampler(episodes, steps=5, batch_size=4, seed=0)
    train(model, sampler, episodes, run, folder, console=Console(file=io.StringIO()))
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("kind", "config"), [(MLPWorldModel, MLPConfig(hidden=8, layers=1)), (TransformerWorldModel, TINY)]
)
def test_a_training_run_ends_with_the_same_weights(tmp_path, kind, config):
    expected = trained(tmp_path / "plain", kind, config)
    for which in DEFAULTS:
        with torch_default(which):
            found = trained(tmp_path / which, kind, config)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True)


def test_the_bundled_agent_acts_the_same():
    env = gym.make(CARTPOLE)
    obs, _ = env.reset(seed=0)

    def act():
        agent = TDMAgent.load("cartpole-swingup", num_samples=8, seed=0)
        agent.reset()
        return agent.act(obs)

    expected = act()
    for which in DEFAULTS:
        with torch_default(which):
            np.testing.assert_array_equal(act(), expected)


def test_the_simulator_and_a_prompt_do_the_same(elsewhere):
    env = gym.make(CARTPOLE)
    obs, _ = env.reset(seed=0)
    planner = make_planner("cem", horizon=3, num_samples=8)
    agent = TDMAgent(SimulatorModel(env), planner, reward_function=CARTPOLE)
    agent.reset()
    assert agent.act(obs) in env.action_space
    agent = TDMAgent(a_transformer(), planner)
    agent.reset(history=of_episode(recorded_episodes().episode(0)))
    assert np.isfinite(agent.act(np.zeros(2, np.float32))).all()


# ---------------------------------------------------------------------- every call

FLOATS = {"zeros", "ones", "full", "empty", "rand", "randn", "eye", "linspace", "rfftfreq"}
"""Of torch: they make numbers of the default dtype, on the default device."""
DEVICE_ONLY = {"tensor", "as_tensor", "arange", "randint", "randperm", "Generator"}
"""Of torch: the dtype follows from what is given."""
MODULES = {"Linear", "Embedding", "LayerNorm", "RMSNorm", "Conv1d"}


def lacking(call):
    """What a call that makes a tensor or module does not state."""
    if not isinstance(call.func, ast.Attribute):
        return set()
    name, owner = call.func.attr, ast.unparse(call.func.value)
    stated = {keyword.arg for keyword in call.keywords}
    if None in stated:  # **made
        return set()
    if (owner in ("torch", "torch.fft") and name in FLOATS) or (owner == "nn" and name in MODULES):
        return {"device", "dtype"} - stated
    if name == "Generator" and call.args:
        return set()
    return {"device"} - stated if owner == "torch" and name in DEVICE_ONLY else set()


@pytest.mark.parametrize("package", [tdm_agents, tdm_planners])
def test_every_tensor_and_module_states_its_dtype_and_device(package):
    folder = Path(package.__file__).parent
    found = [
        f"{path.relative_to(folder)}:{node.lineno} {ast.unparse(node)} lacks {sorted(lacks)}"
        for path in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and (lacks := lacking(node))
    ]
    assert not found, "\n".join(found)
