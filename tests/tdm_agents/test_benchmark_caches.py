"""The ways to imagine that are measured beside each other imagine the same."""

import sys
from dataclasses import replace

import pytest
import torch

from tdm_agents.benchmark import caches
from tdm_agents.benchmark.llama import Llama
from tdm_agents.benchmark.models import random_actions, random_history, random_model, with_rounds
from tdm_agents.benchmark.roofline import DecisionShape
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

CONFIG = TransformerConfig(
    layers=2,
    width=16,
    heads=2,
    feedforward=24,
    tokenizer=TokenizerConfig(observation="mu_law", target="absolute", bins=64),
    decoding=DecodingOptions(read="sample"),
)
SHAPE = DecisionShape(
    observation_dim=3, action_dim=2, num_samples=3, horizon=4, config=CONFIG, history_steps=3, batch=2
)
SHAPES = {"all in the band": SHAPE, "the band slides": replace(SHAPE, config=replace(CONFIG, context=21))}

each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def imagined(shape, model, way, **settings):
    """Observations ``[N, H, n]``; in float64, where no ties are near."""
    generator = torch.Generator().manual_seed(0)
    steps = list(way(model, random_history(shape), random_actions(shape), generator=generator, **settings))
    return torch.stack(steps, dim=1)


@each_shape
@pytest.mark.parametrize("way", [caches.copied, caches.concatenated])
def test_every_cache_gives_the_same_tokens(shape, way):
    model = random_model(shape)
    model.network.double()
    torch.testing.assert_close(imagined(shape, model, way), imagined(shape, model, caches.shared))


def test_no_cache_gives_the_same_tokens():
    model = random_model(SHAPE)
    model.network.double()
    torch.testing.assert_close(imagined(SHAPE, model, caches.uncached), imagined(SHAPE, model, caches.shared))


@each_shape
def test_parallel_decoding_gives_the_same_tokens(shape):
    model = random_model(shape)
    model.network.double()
    parallel = imagined(shape, model.with_decoding(parallel=True), caches.shared)
    torch.testing.assert_close(parallel, imagined(shape, model, caches.shared))


def test_replayed_steps_give_the_same_tokens():
    model = random_model(SHAPE)
    replayed = imagined(SHAPE, model.with_decoding(capture="eager"), caches.replayed)
    torch.testing.assert_close(replayed, imagined(SHAPE, model, caches.shared))


def test_rows_in_parts_are_all_rows():
    model = random_model(SHAPE)
    generator = torch.Generator().manual_seed(0)
    steps = list(
        caches.shared(model, random_history(SHAPE), random_actions(SHAPE), generator=generator, max_rows=4)
    )
    assert [len(step) for step in steps] == [4] * SHAPE.horizon + [2] * SHAPE.horizon


@pytest.mark.parametrize("rounds", [1.0, 1.5, 2.0, 3.0])
def test_guesses_settle_after_as_many_rounds_as_are_imposed(rounds):
    model = with_rounds(random_model(SHAPE), rounds)
    forwards = []
    model.network.norm.register_forward_hook(lambda *_: forwards.append(1))
    assert torch.isfinite(imagined(SHAPE, model, caches.shared)).all()
    assert len(forwards) == SHAPE.horizon * (1 + rounds)


def test_targets_of_change_are_refused():
    shape = replace(SHAPE, config=replace(CONFIG, tokenizer=TokenizerConfig()))
    with pytest.raises(ValueError, match="targets are changes"):
        imagined(shape, random_model(shape), caches.concatenated)


@each_shape
def test_a_llama_imagines_from_the_same_history(shape):
    pytest.importorskip("transformers")
    model = random_model(shape)
    llama = Llama(model, shape)
    generator = torch.Generator().manual_seed(0)
    steps = list(llama.imagine(random_history(shape), random_actions(shape), generator=generator))
    assert [step.shape for step in steps] == [(shape.rows, shape.observation_dim)] * shape.horizon


def test_without_transformers_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'tdm-agents\[bench\]'"):
        Llama(random_model(SHAPE), SHAPE)
