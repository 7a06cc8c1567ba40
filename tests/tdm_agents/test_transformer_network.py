"""Sizes, positions, causality and learning of the transformer."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tdm_agents.protocols import Batch, History, ModelSpec
from tdm_agents.storage import CheckpointError
from tdm_agents.world_models.model_files import SETTINGS_SHA256, settings_sha256
from tdm_agents.world_models.transformer.attention import band_mask, banded_attention
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.dropout import Dropout
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.network import TransformerNetwork, fourier_features, rotate
from tdm_agents.world_models.transformer.packing import Windows, pack
from tdm_agents.world_models.transformer.preparing import drop_rewards
from tdm_agents.world_models.transformer.presets import CONFIGS
from tdm_agents.world_models.transformer.token_batch import step_tokens
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

TINY = TransformerConfig(layers=2, width=32, heads=2, feedforward=48, context=24)


def make_spec(n=5, m=1, **changes):
    return ModelSpec(
        observation_space=spaces.Box(-np.inf, np.inf, (n,)),
        action_space=spaces.Box(-1.0, 1.0, (m,)),
        observation_dim=n,
        action_dim=m,
        **changes,
    )


def make_model(config=TINY, spec=None, seed=0):
    torch.manual_seed(seed)
    model = TransformerWorldModel(spec or make_spec(), config)
    data = torch.randn((512, model.spec.observation_dim), generator=torch.Generator().manual_seed(seed))
    model.tokenizer.fit(data, 0.1 * data, data[:, 0])
    return model.eval()


def random_batch(model, size=4, steps=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n, m = model.spec.observation_dim, model.spec.action_dim
    whole = torch.ones((size, steps), dtype=torch.bool)
    return Batch(
        observation=torch.randn((size, steps, n), generator=generator),
        reward=torch.rand((size, steps), generator=generator),
        action=torch.rand((size, steps, m), generator=generator) * 2 - 1,
        alive=whole,
        valid=whole,
        acted=whole,
    )


@pytest.mark.parametrize(
    ("preset", "count"),
    # embeddings 1026 d + 8 d, head 1024 d, blocks (4 d^2 + 3 d f + 4 d), last norm 2 d, alive d + 1
    [("gato-79m", 77_104_897), ("gato-364m", 456_224_257)],
)
def test_parameter_counts_of_the_papers_sizes(preset, count):
    network = TransformerNetwork(CONFIGS[preset].network(make_spec()), "meta")
    assert sum(p.numel() for p in network.parameters()) == count


def test_small_preset_fits_into_the_bundle():
    model = TransformerWorldModel(make_spec(), CONFIGS["small"])
    assert 4 * sum(p.numel() for p in model.parameters()) < 5e6


def test_fourier_features_make_neighbours_of_neighbours():
    features = fourier_features(1024, 128)
    assert features.shape == (1024, 128)
    torch.testing.assert_close(features.square().mean(dim=1), torch.ones(1024))
    similarity = features @ features[512] / 128
    assert similarity.argmax() == 512
    assert similarity[513] > similarity[530] > similarity[700]


def test_rotation_sees_differences_of_steps_only():
    network = TransformerNetwork(TINY.network(make_spec()))
    query, key = torch.randn((2, 1, 1, 2, 16)).unbind()

    def score(at_query, at_key):
        q = rotate(query, network.rotation(torch.tensor([at_query])))
        k = rotate(key, network.rotation(torch.tensor([at_key])))
        return (q * k).sum()

    torch.testing.assert_close(score(7, 4), score(903, 900), rtol=0, atol=1e-4)
    assert (score(7, 4) - score(7, 5)).abs() > 1e-3


@pytest.mark.parametrize("changed", [0, 9, 23, 40])
def test_no_token_sees_the_future_or_beyond_the_band(changed):
    config = replace(TINY, layers=1)
    model = make_model(config)
    steps, length = 6, model.layout.tokens
    tokens = torch.randint(0, 1024, (1, steps * length), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[0, changed] = (other[0, changed] + 100) % 1024
    with torch.no_grad():
        one, two = (
            model.network(pack([Windows(x.view(1, steps, length), model.layout, model.context_steps)]))
            for x in (tokens, other)
        )
    differs = (one - two).abs().amax(-1) > 0
    index = torch.arange(steps * length)
    sees = (index >= changed) & (index // length - changed // length < model.context_steps)
    assert torch.equal(differs, sees)


@pytest.mark.parametrize(
    ("steps", "context_steps"), [(5, 1), (50, 1), (13, 3), (60, 2), (101, 30), (130, 120), (4, 9)]
)
def test_blocks_equal_the_whole_band(steps, context_steps):
    query, key, value = torch.randn(
        (3, 2, 2, 4 * steps, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = banded_attention(query, key, value, step_tokens=4, context_steps=context_steps)
    mask = band_mask(steps, 4, context_steps, query.device)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_loss_is_the_likelihood_of_the_recorded_tokens():
    """Teacher forcing scores exactly what decoding step by step would have been asked for."""
    model = make_model()
    batch = random_batch(model, size=1, steps=3)
    loss, metrics = model(batch)
    n = model.spec.observation_dim
    tokens = step_tokens(model.tokenizer, batch.observation, batch.reward, batch.action)
    with torch.no_grad():
        hidden = model.network(pack([Windows(tokens, model.layout, model.context_steps)]))
        log_prob = model.network.logits(hidden).log_softmax(-1)  # [24, bins]
    targets = model.tokenizer.encode_target(batch.observation[0, :-1], batch.observation[0, 1:])
    observation = [
        log_prob[step * 8 + 7 if i == 0 else (step + 1) * 8 + i - 1, targets[step, i]]
        for step in range(2)
        for i in range(n)
    ]
    rewards = model.tokenizer.encode_reward(batch.reward[0])
    reward = [log_prob[step * 8 + n - 1, rewards[step]] for step in range(3)]
    actions = model.tokenizer.encode_action(batch.action[0])
    action = [log_prob[step * 8 + n + 1, actions[step, 0]] for step in range(3)]
    for name, values in (("observation", observation), ("reward", reward), ("action", action)):
        torch.testing.assert_close(metrics[f"nll_{name}"], -torch.stack(values).mean())
    torch.testing.assert_close(loss.detach(), -torch.stack(observation + reward + action).mean())


def test_padding_and_unknown_rewards_do_not_count():
    model = make_model()
    batch = random_batch(model, size=2, steps=5)
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    acted = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    padded = replace(batch, valid=valid, acted=acted, reward=batch.reward.masked_fill(~valid, float("nan")))
    garbage = replace(
        padded,
        observation=torch.where(valid[..., None], batch.observation, torch.full((), 7.0)),
        action=torch.where(acted[..., None], batch.action, torch.full((), -0.3)),
    )
    assert torch.equal(model(padded)[0], model(garbage)[0])
    unknown = replace(padded, reward=torch.full_like(batch.reward, float("nan")))
    assert torch.isfinite(model(unknown)[0])


def test_reward_dropout_is_a_rate_per_window():
    reward = torch.zeros((4000, 8))
    dropped = drop_rewards(reward, 1.0, torch.Generator().manual_seed(0)).isnan().float()
    assert abs(float(dropped.mean()) - 0.5) < 0.02
    assert dropped.mean(dim=1).std() > 0.25  # U(0, 1) rates, not one coin for all
    assert not drop_rewards(reward, 0.0, None).isnan().any()


@pytest.mark.parametrize("target", ["change", "absolute"])
def test_learns_a_simple_world(target):
    """o' = o + 0.1 a: after a little training the mean is right and far better than doing nothing."""
    config = replace(
        TINY, tokenizer=TokenizerConfig(target=target, bins=64), decoding=DecodingOptions(mean_window=4)
    )
    model = make_model(config, make_spec(1, 1))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)

    def simulate(size, steps):
        action = torch.rand((size, steps, 1), generator=generator) * 2 - 1
        first = torch.rand((size, 1, 1), generator=generator) * 2 - 1
        observation = torch.cat([first, first + 0.1 * action[:, :-1].cumsum(1)], dim=1)
        whole = torch.ones((size, steps), dtype=torch.bool)
        return Batch(observation, observation[..., 0].abs(), action, whole, whole, whole)

    data = simulate(500, 8)
    model.tokenizer.fit(
        data.observation.flatten(0, 1), data.observation.diff(dim=1).flatten(0, 1), data.reward.flatten()
    )
    for _ in range(150):
        loss, _ = model(simulate(32, 8), generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    start = torch.linspace(-0.8, 0.8, 16)[:, None]
    action = torch.linspace(1.0, -1.0, 16)[:, None]
    state = model.start(History.of_observation(start, action_dim=1), horizon=1)
    _, step = model.step(state, action)
    error = (step.observation - (start + 0.1 * action)).square().mean().sqrt()
    assert error < 0.5 * (0.1 * action).square().mean().sqrt()
    assert (step.reward - step.observation[:, 0].abs()).abs().mean() < 0.1


def test_bfloat16_imagines_like_float32():
    model = make_model()
    history = History.of_observation(torch.randn((3, 5)), action_dim=1)
    actions = torch.zeros((3, 2, 1))
    exact = model.rollout(model.start(history, horizon=2), actions).observation
    model.network.to(torch.bfloat16)
    rough = model.rollout(model.start(history, horizon=2), actions)
    assert rough.observation.dtype == rough.reward.dtype == torch.float32
    # an untrained network's means lie anywhere inside the range of changes: only their scale must agree
    assert (rough.observation - exact).abs().max() < 0.5


def test_save_and_load(tmp_path):
    model = make_model(replace(TINY, decoding=DecodingOptions(read="mode")))
    model.save(tmp_path)
    loaded = TransformerWorldModel.load(tmp_path)
    assert loaded.config == model.config
    assert loaded.spec == model.spec
    history = History.of_observation(torch.randn((2, 5)), action_dim=1)
    actions = torch.zeros((2, 3, 1))
    for one, other in zip(
        *(
            (r.observation, r.reward)
            for r in (m.rollout(m.start(history, horizon=3), actions) for m in (model, loaded))
        ),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_checkpoints_that_are_not_whole_are_refused(tmp_path):
    make_model().save(tmp_path)
    weights = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(weights[:-100])
    with pytest.raises(CheckpointError, match="truncated or was altered"):
        TransformerWorldModel.load(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(weights)
    described = json.loads((tmp_path / "model.json").read_text())
    for change, message in (
        ({"type": "mlp"}, "of type 'mlp'"),
        ({"schema": 99}, "schema 99"),
        ({"config": described["config"] | {"decoding": {"read": "sample"}}}, "it was altered"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(described | change))
        with pytest.raises(CheckpointError, match=message):
            TransformerWorldModel.load(tmp_path)
    for change, message in (
        ({"config": described["config"] | {"width": 64}}, "does not fit"),
        ({"config": described["config"] | {"colour": 1}}, "not readable"),
        ({"config": {}}, "not readable"),
    ):
        signed = described | change
        signed[SETTINGS_SHA256] = settings_sha256(signed)
        (tmp_path / "model.json").write_text(json.dumps(signed))
        with pytest.raises(CheckpointError, match=message):
            TransformerWorldModel.load(tmp_path)
    with pytest.raises(CheckpointError, match="missing"):
        TransformerWorldModel.load(tmp_path / "elsewhere")


def test_decoding_is_a_setting_over_the_same_weights():
    model = make_model()
    other = model.with_decoding(read="mode")
    assert other.network is model.network
    assert (model.config.decoding.read, other.config.decoding.read) == ("mean", "mode")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 30, "heads": 4}, "width 30 is not a multiple"),
        ({"layers": 0}, "layers is 0"),
        ({"reward_dropout": 1.5}, "reward_dropout is 1.5"),
        ({"context": 0}, "context is 0"),
        ({"action_weight": -1.0}, "action_weight is -1.0"),
        ({"max_observation": 4}, "max_observation is 4, but the environment has 5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_model(replace(TINY, **settings))


def test_dropout_is_a_function_of_the_generator_and_only_in_training():
    plain, dropping = make_model(), make_model(replace(TINY, dropout=0.3, reward_dropout=0.0))
    batch = random_batch(dropping)
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    first, again, other = (dropping(batch, generator=seed)[0].item() for seed in seeds)
    assert first == again != other
    without = plain(batch)[0].item()
    assert first != without == dropping(batch)[0].item()


def test_as_much_is_dropped_as_is_scaled_up():
    like = torch.empty(200, 500)
    first, second = itertools.islice(Dropout(0.2, seeds=(3, 4), tokens=(50, 150)).masks(like), 2)
    assert set(first.unique().tolist()) == {0.0, 1.25}
    assert first.mean().item() == pytest.approx(1.0, abs=0.01) and not torch.equal(first, second)
    (alone,) = itertools.islice(Dropout(0.2, seeds=(4,), tokens=(150,)).masks(like[50:]), 1)
    assert torch.equal(first[50:], alone)  # a window's draws are its own
    with pytest.raises(ValueError, match=r"dropout is 1\.0; expected a rate in \[0, 1\)"):
        TransformerConfig(dropout=1.0)
