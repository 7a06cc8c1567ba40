"""The MLP baselines: absolute targets, tokens in and out, and the size of a transformer."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import History, ModelSpec, UpdateSettings
from tdm_agents.testing import (
    LinearQuadraticModel,
    check_trainable_model,
    check_world_model,
    recorded_episodes,
)
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.mlp_tokens import decoded
from tdm_agents.world_models.model_files import SETTINGS_SHA256, settings_sha256
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.presets import PRESETS

BASE = MLPConfig(hidden=32, layers=2, bins=128, token_width=8)
VARIANTS = {
    f"{target}, {inputs} in, {outputs} out": dataclasses.replace(
        BASE, target=target, inputs=inputs, outputs=outputs
    )
    for target, inputs, outputs in itertools.product(
        ("absolute", "change"), ("plain", "tokens"), ("plain", "tokens")
    )
}
VARIANTS["quantile bins"] = dataclasses.replace(BASE, inputs="tokens", outputs="tokens", scale="quantile")
VARIANTS["sampled"] = dataclasses.replace(BASE, outputs="tokens", read="sample")
each_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)


def fitted(config, world=None, seed=0):
    data = recorded_episodes(model=world)
    model = MLPWorldModel(data.spec, config, seed=seed)
    model.fit({"any": data})
    return model, data


def history(discrete=False):
    observation = torch.rand((3, 2), generator=torch.Generator().manual_seed(5)) * 2 - 1
    return History.of_observation(observation, action_dim=1, discrete=discrete)


@each_variant
def test_every_variant_keeps_the_contract_of_learned_models(config):
    check_trainable_model(MLPWorldModel, config=config)


@each_variant
@pytest.mark.parametrize("choices", [None, 3])
def test_every_variant_keeps_the_contract_of_world_models(config, choices):
    model, _ = fitted(config, LinearQuadraticModel(choices=choices))
    # a token may change from one bin to the next with the last bits of a number, and so with the batch
    check_world_model(model, history(discrete=choices is not None), rtol=1e-3, atol=1e-3)


@each_variant
def test_every_variant_learns(config):
    torch.set_num_threads(1)
    data = recorded_episodes(episodes=100)
    model = MLPWorldModel(data.spec, dataclasses.replace(config, bins=512))
    model.fit({"any": data})
    settings = UpdateSettings(steps=300, learning_rate=1e-2, warmup_steps=10)
    sampler, optimizers = WindowSampler(data, steps=8, batch_size=32, seed=0), model.optimizers(settings)
    generator = torch.Generator().manual_seed(0)
    for step in range(settings.steps):
        model.update(sampler.batch(step), optimizers, step=step, settings=settings, generator=generator)
    episode = data.episode(0)
    now, after = torch.from_numpy(episode.observation[:-1]), torch.from_numpy(episode.observation[1:])
    action, reward = torch.from_numpy(episode.action[:-1]), torch.from_numpy(episode.reward[1:])
    state = model.start(History.of_observation(now.repeat(20, 1), action_dim=1), horizon=1)
    _, step = model.step(state, action.repeat(20, 1), generator=generator)
    seen, earned = step.observation.view(20, -1, 2).mean(0), step.reward.view(20, -1).mean(0)  # of samples
    ignorant = after.mean(0) if config.target == "absolute" else now
    assert (seen - after).square().mean() < 0.15 * (ignorant - after).square().mean()
    assert (earned - reward).abs().mean() < 0.5 * reward.std()


@each_variant
def test_a_nan_stays_a_nan(config):
    model, _ = fitted(config)
    observation = torch.tensor([[0.1, math.nan], [0.1, 0.2]])
    state = model.start(History.of_observation(observation, action_dim=1), horizon=1)
    _, step = model.step(state, torch.zeros(2, 1), generator=torch.Generator().manual_seed(0))
    assert step.reward[0].isnan() and step.observation[0, 1].isnan()
    assert step.reward[1].isfinite() and step.observation[1].isfinite().all()


@pytest.mark.parametrize("config", [c for c in VARIANTS.values() if c.outputs == "tokens"])
def test_certain_tokens_are_read_as_their_numbers(config):
    model, data = fitted(config)
    now = torch.from_numpy(data.episode(0).observation[:3])
    after = torch.from_numpy(data.episode(0).observation[1:4])
    reward = torch.from_numpy(data.episode(0).reward[1:4])
    tokens = torch.cat(
        [model.tokenizer.encode_target(now, after), model.tokenizer.encode_reward(reward)[:, None]], 1
    )
    logits = torch.nn.functional.one_hot(tokens, config.bins) * 1e3
    for read in ("mean", "sample"):
        seen, earned = decoded(model.tokenizer, logits, now, read=read, generator=None)
        torch.testing.assert_close(seen, model.tokenizer.decode_target(now, tokens[:, :-1]))
        torch.testing.assert_close(earned, model.tokenizer.decode_reward(tokens[:, -1]))


def test_samples_follow_the_predicted_distribution():
    model, _ = fitted(dataclasses.replace(BASE, outputs="tokens", target="absolute"))
    share = torch.tensor([0.1, 0.2, 0.7])
    logits = torch.full((20_000, 3, 128), -math.inf)
    logits[..., 60:63] = share.log()
    now, generator = torch.zeros(20_000, 2), torch.Generator().manual_seed(0)
    seen, _ = decoded(model.tokenizer, logits, now, read="sample", generator=generator)
    counted = torch.bincount(model.tokenizer.encode_observation(seen)[:, 0], minlength=128) / 20_000
    torch.testing.assert_close(counted[60:63], share, rtol=0.0, atol=0.015)
    mean, _ = decoded(model.tokenizer, logits, now, read="mean", generator=None)
    torch.testing.assert_close(seen.mean(0), mean[0], rtol=0.0, atol=0.02)


# -- sizes ---------------------------------------------------------------------------------------------------


def spec(n, m):
    return ModelSpec(spaces.Box(-np.inf, np.inf, (n,)), spaces.Box(-1, 1, (m,)), n, m)


def size(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("sizes", [(5, 1), (24, 6), (67, 21)], ids=["cartpole", "walker", "humanoid"])
def test_the_large_preset_has_the_parameters_of_the_small_transformer(sizes):
    with torch.device("meta"):
        transformer = TransformerNetwork(PRESETS["small"].config.network(spec(*sizes)))
    model = MLPWorldModel(spec(*sizes), MLPWorldModel.presets()["large"].config)
    assert size(model) == pytest.approx(size(transformer), rel=0.02)


@each_variant
def test_no_width_comes_closer_to_a_number_of_parameters(config):
    wanted = 60_000
    model = MLPWorldModel(spec(5, 1), dataclasses.replace(config, parameters=wanted))
    width = model.hidden[0].out_features
    sizes = [
        size(MLPWorldModel(spec(5, 1), dataclasses.replace(config, hidden=w)))
        for w in range(width - 1, width + 2)
    ]
    assert size(model) == sizes[1]
    assert min(abs(s - wanted) for s in sizes) == abs(sizes[1] - wanted)


def test_too_few_parameters_are_refused():
    config = MLPConfig(outputs="tokens", parameters=5000)
    with pytest.raises(ValueError, match=r"parameters is 5000; expected at least \d+.*fewer bins \(1024\)"):
        MLPWorldModel(spec(5, 1), config)


# -- settings and files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"target": "delta"}, "target='delta'; expected 'absolute' or 'change'"),
        ({"inputs": "onehot"}, r"MLPConfig.inputs is 'onehot'; expected one of plain, tokens"),
        ({"read": "mode"}, r"MLPConfig.read is 'mode'; expected one of mean, sample"),
        ({"token_width": 0}, r"MLPConfig.token_width is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        MLPConfig(**wrong)


def test_a_file_of_before_the_variants_is_read(tmp_path):
    model, _ = fitted(MLPConfig(hidden=8, layers=1))
    model.save(tmp_path)
    path = tmp_path / "model.json"
    value = json.loads(path.read_text())
    value["config"] = {"hidden": 8, "layers": 1}
    path.write_text(json.dumps(value | {SETTINGS_SHA256: settings_sha256(value)}))
    loaded = MLPWorldModel.load(tmp_path)
    assert loaded.config == model.config
    assert set(loaded.state_dict()) == {
        "observation_mean", "observation_scale", "output_mean", "output_scale",
        "hidden.0.weight", "hidden.0.bias", "head.weight", "head.bias",
    }  # fmt: skip
