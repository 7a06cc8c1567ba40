"""Memory of a decision is what the formula says, counted as tensors that exist at once."""

from dataclasses import replace

import pytest
import torch

from speed.memory import decision_bytes
from speed.models import random_actions, random_history, random_model
from speed.roofline import DecisionShape
from speed.tensor_bytes import TensorBytes
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

CONFIG = TransformerConfig(
    layers=3,
    width=32,
    heads=4,
    feedforward=64,
    context=1023,
    tokenizer=TokenizerConfig(observation="mu_law", target="absolute", bins=64),
    decoding=DecodingOptions(read="sample"),
)
SHAPE = DecisionShape(
    observation_dim=5, action_dim=1, num_samples=64, horizon=8, config=CONFIG, history_steps=10
)
SHAPES = {
    "cartpole": SHAPE,
    "a long history": replace(SHAPE, history_steps=60, num_samples=16),
    "several environments": replace(SHAPE, batch=4, num_samples=16),
    "the band slides": replace(SHAPE, config=replace(CONFIG, context=16), history_steps=2),
    "walker": replace(SHAPE, observation_dim=24, action_dim=6, num_samples=16, horizon=2),
    "logits count": replace(SHAPE, config=replace(CONFIG, tokenizer=TokenizerConfig(bins=1024)), horizon=3),
    "a deep network": replace(
        SHAPE, config=replace(CONFIG, layers=8, width=64), history_steps=60, num_samples=2
    ),
    "weights count": replace(SHAPE, config=replace(CONFIG, width=128, feedforward=512), num_samples=2),
}


def imagined(shape, model):
    """The state after a decision's imagination."""
    state = model.start(random_history(shape), horizon=shape.horizon)
    state = model.take(state, torch.arange(shape.batch).repeat_interleave(shape.num_samples))
    actions = random_actions(shape)
    return model.rollout(state, actions, generator=torch.Generator().manual_seed(0)).state


def measured(shape, dtype=torch.float32, **options):
    """The most bytes at once, weights included, and those of both caches."""
    model, other = (random_model(shape, dtype=dtype).with_decoding(**options) for _ in range(2))
    imagined(shape, other)  # compiles, and what compiles holds on to tensors meanwhile
    with TensorBytes() as counter:
        state = imagined(shape, model)
    weights = sum(weight.nbytes for weight in model.network.parameters())
    return counter.peak + weights, state.history.nbytes, state.imagined.nbytes


@pytest.mark.parametrize("attention", ["fused", "products"])
@pytest.mark.parametrize(
    ("name", "parallel"), [*((name, False) for name in SHAPES), ("cartpole", True), ("logits count", True)]
)
def test_a_decision_needs_what_the_formula_says(name, parallel, attention):
    shape = SHAPES[name]
    shape = replace(
        shape, config=replace(shape.config, decoding=DecodingOptions(read="sample", attention=attention))
    )
    total, history, imagined = measured(shape, parallel=parallel)
    formula = decision_bytes(shape, parallel=parallel)
    assert (formula.history_cache, formula.imagined_cache) == (history, imagined)
    assert formula.total == pytest.approx(total, rel=0.1)


@pytest.mark.parametrize("name", list(SHAPES))
def test_captured_steps_need_what_the_formula_says(name):
    shape = SHAPES[name]
    total, _, _ = measured(shape, capture="eager")
    formula = decision_bytes(
        shape, captured=True
    ).total  # graphs keep what they work on, which is not seen here
    assert 0.95 * total < formula < 1.7 * total


def test_weights_are_those_of_the_network():
    network = random_model(SHAPE).network
    assert decision_bytes(SHAPE).weights == sum(weight.nbytes for weight in network.parameters())


def test_bfloat16_halves_what_is_not_float32():
    total, history, imagined = measured(SHAPE, torch.bfloat16)
    formula = decision_bytes(SHAPE, number_bytes=2)
    assert (formula.history_cache, formula.imagined_cache) == (history, imagined)
    assert formula.total == pytest.approx(total, rel=0.1)


def test_the_history_does_not_multiply_with_candidates():
    short, long = (replace(SHAPE, history_steps=steps, horizon=3) for steps in (2, 60))
    more = {}
    for name, shape in (("short", short), ("long", long)):
        few, many = (measured(replace(shape, num_samples=k)) for k in (2, 32))
        assert few[1] == many[1]
        more[name] = many[2] - few[2]
    assert more["short"] == more["long"]


def test_storages_count_once_and_until_nothing_refers_to_them():
    with TensorBytes() as counter:
        first = torch.zeros(1000)
        view = first[:10]
        assert counter.now == 4000
        first += 1.0
        second = first + 1.0
        assert counter.now == 8000
        del first
        assert counter.now == 8000
        del view
        assert counter.now == 4000
        second = second.view(10, 100).T.contiguous()
        assert counter.now == 4000
    assert counter.peak == 8000
