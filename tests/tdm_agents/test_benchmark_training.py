"""Training is measured beside a plain transformer of as many weights; gaps are what no kernel covers."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tdm_agents.benchmark.plain_gpt import PlainGpt
from tdm_agents.benchmark.training import TrainingShape, measure_training, training_flops
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.presets import CONFIGS

TINY = TrainingShape(
    config=TransformerConfig(layers=2, width=32, heads=2, feedforward=64, context=64),
    observation_dim=3,
    action_dim=1,
    windows=2,
    bf16=False,
)
GAPS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "launch_gaps.py"))


def test_the_plain_one_has_as_many_weights():
    config = CONFIGS["small"]
    plain = PlainGpt(config, 24)
    blocks = sum(weight.numel() for weight in plain.blocks.parameters() if weight.ndim == 2)
    assert blocks == config.layers * (4 * config.width**2 + 3 * config.width * config.feedforward)


def test_the_plain_one_is_causal():
    plain = PlainGpt(CONFIGS["small"], 24).eval()
    tokens = torch.randint(1024, (1, 24))
    changed = tokens.clone()
    changed[0, 20] = (changed[0, 20] + 1) % 1024
    assert torch.allclose(plain(tokens)[:, :20], plain(changed)[:, :20], atol=1e-5)
    assert not torch.allclose(plain(tokens)[:, 20:], plain(changed)[:, 20:], atol=1e-5)


def test_flops_are_six_a_weight_and_token_and_attention():
    long = replace(TINY, config=replace(TINY.config, context=640))
    weights = 2 * (4 * 32**2 + 3 * 32 * 64) + 32 * 1024
    assert TINY.length == 60 and long.length == 636  # whole steps of 6 tokens
    for shape in (TINY, long):
        token = 6 * weights + 12 * 2 * 32 * shape.length
        assert training_flops(shape) == token * 2 * shape.length


@pytest.mark.parametrize("bf16", [False, True])
def test_both_are_timed(bf16):
    found = measure_training(replace(TINY, bf16=bf16), torch.device("cpu"), repeats=2, ways=("plain", "tdm"))
    for row in found["ways"].values():
        assert len(row["seconds"]) == 2 and row["mfu"] > 0
        assert row["tokens_per_second"] == pytest.approx(
            row["mfu"] * found["square_flops_per_second"] * 120 / found["flops"]
        )


@pytest.mark.parametrize(
    ("intervals", "length"),
    [([], 0), ([(1, 2)], 1), ([(1, 3), (2, 4)], 3), ([(5, 6), (1, 4), (2, 3)], 4)],
)
def test_what_is_covered_twice_counts_once(intervals, length):
    assert GAPS["busy"](intervals) == length
