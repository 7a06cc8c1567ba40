"""The formulas of a decision's cost count what the model's forwards do."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tdm_agents.benchmark.models import random_actions, random_history, random_model
from tdm_agents.benchmark.roofline import DecisionShape, decision_cost
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding import products
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

CONFIG = TransformerConfig(
    layers=3,
    width=32,
    heads=2,
    feedforward=40,
    context=1023,
    tokenizer=TokenizerConfig(observation="mu_law", target="absolute", bins=64),
    decoding=DecodingOptions(read="sample"),
)
SHAPE = DecisionShape(
    observation_dim=4, action_dim=2, num_samples=3, horizon=5, config=CONFIG, history_steps=4, batch=2
)
SHAPES = {
    "nothing leaves the band": SHAPE,
    "the band slides": replace(SHAPE, config=replace(CONFIG, context=24), horizon=7),
    "the history leaves the band": replace(SHAPE, config=replace(CONFIG, context=16), horizon=6),
    "no history": replace(SHAPE, history_steps=1, batch=1),
    "longer than the band": replace(SHAPE, history_steps=6, config=replace(CONFIG, context=24)),
}

each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def imagine(shape, model):
    """FLOPs that are counted: of plain products, of batched ones, and of those that attention masks."""
    masked, plain = [], products.attend

    def attend(query, own, shared, grouping, visible, mask):
        if mask is not None:
            masked.append(4 * shape.config.width * len(grouping.history_of) * int(mask.isinf().sum()))
        return plain(query, own, shared, grouping, visible, mask)

    state = model.start(random_history(shape), horizon=shape.horizon)
    rows = torch.arange(shape.batch).repeat_interleave(shape.num_samples)
    with FlopCounterMode(display=False) as counter, pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "attend", attend)
        state = model.take(state, rows)
        model.rollout(state, random_actions(shape), generator=torch.Generator().manual_seed(0))
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    return counts.pop("aten.mm"), sum(counts.values()), sum(masked)


def projected(shape, calls):
    """FLOPs of queries, keys and values: a batched product, though a linear layer."""
    return 6 * shape.config.layers * shape.config.width**2 * sum(call.count * call.tokens for call in calls)


@each_shape
def test_imagining_costs_what_the_formula_says(shape):
    config = shape.config
    plain, batched, masked = imagine(shape, random_model(shape).with_decoding(attention="products"))
    history, *calls = decision_cost(shape).calls
    cost = replace(decision_cost(shape), calls=tuple(calls))
    linear = projected(shape, calls)
    # once a step the weights of queries, keys and values are rotated, a matrix a head
    rotated = 6 * config.layers * config.width**2 * (config.width // config.heads) * (shape.horizon + 1)
    assert plain + linear == cost.linear_flops
    assert batched - linear == cost.attention_flops + masked + rotated
    assert history.tokens == shape.batch * shape.prefix_tokens


@each_shape
def test_rounds_cost_what_the_formula_says(shape):
    """Random weights do not settle before the last round, whose scalars need not be read again."""
    model = random_model(shape).with_decoding(parallel=True, attention="products")
    counted = []
    model.network.norm.register_forward_hook(lambda *_: counted.append(1))
    plain, _, _ = imagine(shape, model)
    rounds = len(counted) / shape.horizon - 1
    cost = decision_cost(shape, rounds=rounds)
    calls = cost.calls[1:]
    assert cost.forwards == 1 + len(counted)
    bins = 2 * shape.config.width * shape.config.tokenizer.bins
    unread = shape.horizon * shape.rows * (shape.observation_dim - 1) * bins
    measured = replace(cost, calls=calls).linear_flops
    linear = plain + projected(shape, calls)
    assert linear == pytest.approx(measured - unread * (rounds == shape.observation_dim), rel=0.01)


def test_known_numbers():
    """Worked out by hand for one row, one scalar, one step, two blocks of width 2."""
    config = TransformerConfig(
        layers=2, width=2, heads=1, feedforward=1, context=100, tokenizer=TokenizerConfig(bins=8)
    )
    shape = DecisionShape(observation_dim=1, action_dim=1, num_samples=1, horizon=1, config=config)
    cost = decision_cost(shape)
    # fed: o | r SEP a | o'; the last block projects all of them and finishes the last of a forward
    project, finish = 6 * 4, 2 * 4 + 6 * 2 * 1
    first, last = 5 * (project + finish), 5 * project + 2 * finish
    assert cost.linear_flops == first + last + 2 * (2 * 2 * 8)  # logits of o' and r'
    assert cost.forwards == 3
    # pairs: 1 | 2 + 3 + 4 | 5 in the first block, 4 | 5 in the last
    assert cost.attention_flops == 4 * 2 * ((1 + 9 + 5) + (4 + 5))
    # read: the history's token and the row's own 3, then 4; keys and values of two blocks
    assert cost.cache_numbers == 2 * 2 * 2 * ((1 + 3) + (1 + 4))


def test_the_history_is_read_once_for_all_candidates():
    few, many = (decision_cost(replace(SHAPE, num_samples=k, history_steps=40)) for k in (1, 64))
    own = decision_cost(replace(SHAPE, num_samples=1, history_steps=1))
    more = decision_cost(replace(SHAPE, num_samples=64, history_steps=1))
    assert many.cache_numbers - few.cache_numbers == more.cache_numbers - own.cache_numbers


def test_seconds_are_products_then_memory_and_the_floor_the_longer_of_both():
    cost = decision_cost(SHAPE)
    flops = cost.linear_flops + cost.attention_flops
    both = cost.seconds(flops_per_second=1.0, bytes_per_second=1.0)
    assert both == flops + 4 * cost.cache_numbers
    assert cost.seconds(flops_per_second=2.0, bytes_per_second=1.0, number_bytes=2) == pytest.approx(both / 2)
    floor = cost.call_floor_seconds(flops_per_second=1.0, bytes_per_second=1e12)
    assert floor == pytest.approx(flops)
    # with weights: each forward reads them once
    memory = cost.call_floor_seconds(flops_per_second=1e15, bytes_per_second=1.0)
    assert memory > 4 * cost.cache_numbers


@pytest.mark.parametrize("name", ["observation_dim", "num_samples", "horizon", "history_steps", "batch"])
def test_a_shape_without_anything_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        replace(SHAPE, **{name: 0})


def test_a_band_without_a_step_is_refused():
    with pytest.raises(ValueError, match="context of 7 tokens"):
        replace(SHAPE, config=replace(CONFIG, context=7))


@pytest.mark.parametrize("rounds", [0.5, 5])
def test_impossible_rounds_are_refused(rounds):
    with pytest.raises(ValueError, match="rounds is"):
        decision_cost(SHAPE, rounds=rounds)
