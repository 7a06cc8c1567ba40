"""Guessing the scalars of a step together gives what one after another gives, in fewer forwards."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_transformer import options_of

from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.protocols import History, ModelSpec
from tdm_agents.testing import check_world_model
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding import imagine as imagining
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig


def make_model(n, *, context=48, terminates=False, parallel=True, **settings):
    torch.manual_seed(0)
    spec = ModelSpec(
        observation_space=spaces.Box(-np.inf, np.inf, (n,)),
        action_space=spaces.Box(-1.0, 1.0, (1,)),
        observation_dim=n,
        action_dim=1,
        terminates=terminates,
    )
    settings["parallel"] = parallel
    decoding = options_of(settings)
    config = TransformerConfig(
        layers=2, width=32, heads=2, feedforward=48, context=context, decoding=decoding, **settings
    )
    model = TransformerWorldModel(spec, config)
    data = torch.randn((512, n), generator=torch.Generator().manual_seed(0))
    model.tokenizer.fit(data, 0.1 * data, data[:, 0])
    return model.eval()


def make_history(model, lengths):
    generator = torch.Generator().manual_seed(1)
    shape = (len(lengths), max(lengths))
    return History(
        observation=torch.randn((*shape, model.spec.observation_dim), generator=generator),
        reward=torch.randn(shape, generator=generator),
        action=torch.rand((shape[0], shape[1] - 1, 1), generator=generator) * 2 - 1,
        length=torch.tensor(lengths),
    )


def imagine(model, history, actions):
    """A rollout of ``N / B`` rows a history."""
    state = model.start(history, horizon=actions.shape[1])
    state = model.take(state, torch.arange(history.batch).repeat_interleave(len(actions) // history.batch))
    return model.rollout(state, actions, generator=torch.Generator().manual_seed(3))


def actions_of(rows, horizon):
    return torch.rand((rows, horizon, 1), generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("read", ["sample", "mode", "mean"])
@pytest.mark.parametrize("target", ["change", "absolute"])
@pytest.mark.parametrize(("n", "context"), [(1, 8), (6, 20), (6, 1023)])
def test_together_equals_one_by_one(n, context, target, read):
    model = make_model(n, context=context, read=read, tokenizer=TokenizerConfig(target=target))
    model.network.double()  # in float32 the order of a sum decides near ties between bins
    history, actions = make_history(model, [3, 1]), actions_of(8, 5)
    together = imagine(model, history, actions)
    one_by_one = imagine(model.with_decoding(parallel=False), history, actions)
    # one token off would be further away: a bin of change is 0.001 wide here, one of observations 0.007
    torch.testing.assert_close(together.observation, one_by_one.observation, rtol=0, atol=2e-4)
    torch.testing.assert_close(together.reward, one_by_one.reward, rtol=0, atol=2e-4)


@pytest.mark.parametrize("read", ["sample", "mean"])
def test_contract(read):
    model = make_model(4, read=read, terminates=True)
    check_world_model(model, make_history(model, [3, 1, 2]))


@pytest.mark.parametrize(("rows", "way"), [(1, "together"), (2, "sequential")])
def test_by_default_a_single_row_is_guessed_together(rows, way, monkeypatch):
    written = []

    def listen(name, write):
        monkeypatch.setattr(imagining, name, lambda *args: written.append(name) or write(*args))

    listen("together", imagining.together)
    listen("sequential", imagining.sequential)
    model = make_model(4, parallel=None)
    state = model.start(make_history(model, [2]), horizon=1)
    model.step(model.take(state, torch.zeros(rows, dtype=torch.int64)), torch.zeros(rows, 1))
    assert written == [way]


def test_a_trained_model_needs_fewer_forwards():
    model = load_model(resolve("cartpole-swingup"))
    assert isinstance(model, TransformerWorldModel)
    model = model.with_decoding(bf16=False)  # whose forwards can be counted
    angle = torch.linspace(0.0, 6.2, 16)
    still = torch.zeros_like(angle)
    history = History(
        observation=torch.stack([still, angle.cos(), angle.sin(), still, still], dim=1)[:, None],
        reward=torch.full((16, 1), float("nan")),
        action=torch.zeros((16, 0, 1)),
        length=torch.ones(16, dtype=torch.int64),
    )
    forwards = []
    model.network.norm.register_forward_hook(lambda *_: forwards.append(1))
    actions = actions_of(16, 10)
    one_by_one = imagine(model, history, actions)
    sequential = len(forwards)
    together = imagine(model.with_decoding(parallel=True), history, actions)
    assert sequential == 10 * 6
    assert len(forwards) - sequential < sequential
    torch.testing.assert_close(together.observation, one_by_one.observation, rtol=0, atol=1e-4)
