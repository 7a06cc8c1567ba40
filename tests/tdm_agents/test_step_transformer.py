"""A transformer of whole steps: what it sees, what it is trained on, and that it learns."""

import numpy as np
import pytest
import torch
from small_transformer import make_history, make_model, make_spec

from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import Batch
from tdm_agents.testing import recorded_episodes
from tdm_agents.training.prediction import prediction_error
from tdm_agents.update_settings import UpdateSettings
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.packing import Windows, pack
from tdm_agents.world_models.transformer.step_model import StepTransformer
from tdm_agents.world_models.transformer.token_batch import step_tokens
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig


def hidden(model, tokens):
    packed = pack([Windows(tokens, model.layout, model.context_steps)])
    with torch.no_grad():
        return model.network(packed).view(*tokens.shape, -1)


@pytest.mark.parametrize("steps", [4, 40])  # inside the band, and so long that it is cut into blocks
def test_a_token_sees_its_whole_step_and_the_band_before_it_and_nothing_later(steps):
    model = make_model(5, 2, context=36, kind=StepTransformer, layers=1)  # of four steps
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(16, (1, steps, 9), generator=generator)
    before = hidden(model, tokens)
    for step in (0, steps // 2, steps - 1):
        for changed in (0, 8):  # the first scalar, and the last action
            other = tokens.clone()
            other[0, step, changed] = 17
            moved = (hidden(model, other) - before).abs().amax(dim=-1)[0] > 1e-6  # [T, 9]
            seen = torch.arange(step, min(step + 4, steps))
            assert moved[seen].all() and moved.sum() == moved[seen].numel()


def test_the_loss_is_of_the_next_step_where_it_is_known():
    model = make_model(3, 2, kind=StepTransformer, spec=make_spec(3, 2, terminates=True))
    torch.nn.init.normal_(model.network.alive.weight)
    generator = torch.Generator().manual_seed(0)
    valid = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.bool)
    acted = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1]], dtype=torch.bool)
    reward = torch.randn((2, 4), generator=generator)
    reward[1, 2] = torch.nan
    batch = Batch(
        observation=torch.randn((2, 4, 3), generator=generator),
        action=torch.rand((2, 4, 2), generator=generator) * 2 - 1,
        reward=reward,
        alive=torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.bool),
        valid=valid,
        acted=acted,
    )
    loss, metrics = model(batch)
    tokenizer, network = model.tokenizer, model.network
    seen = hidden(model, step_tokens(tokenizer, batch.observation, batch.reward, batch.action))
    target = tokenizer.encode_target(batch.observation[:, :-1], batch.observation[:, 1:])
    observed, rewarded, ended = [], [], []
    for row, t in ((0, 0), (0, 1), (1, 0), (1, 2)):  # something was done, and the next step is there
        score = network.logits(seen[row, t]).log_softmax(-1)
        observed += [-score[i, target[row, t, i]] for i in range(3)]
        if not reward[row, t + 1].isnan():
            rewarded.append(-score[4, tokenizer.encode_reward(reward[row, t + 1])])
        goes_on = torch.sigmoid(network.alive(seen[row, t, 4]))[0]
        ended.append(-torch.log(goes_on if batch.alive[row, t + 1] else 1 - goes_on))
    expected = torch.stack(observed + rewarded).mean() + torch.stack(ended).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    assert metrics.keys() == {"nll_observation", "nll_reward", "nll_alive"}
    torch.testing.assert_close(metrics["nll_observation"], torch.stack(observed).mean())


def test_it_learns_linear_dynamics():
    data = recorded_episodes(episodes=40, steps=30)
    config = TransformerConfig(
        layers=1, width=32, heads=2, feedforward=32, context=30, tokenizer=TokenizerConfig(bins=256)
    )
    model = StepTransformer.build({"one": data.spec}, config, seed=0)
    model.fit({"one": data})
    settings = UpdateSettings(steps=300, learning_rate=1e-2, warmup_steps=10)
    optimizers = model.optimizers(settings)
    sampler = WindowSampler(data, steps=5, batch_size=16, seed=0)
    model.train()
    for step in range(settings.steps):
        model.update(
            sampler.batch(step), optimizers, step=step, settings=settings, generator=torch.Generator()
        )
    errors = prediction_error(model.eval(), data, horizons=(1, 5), starts=32, context_steps=2)
    assert errors["median@1"] < 0.1 and errors["median@5"] < 0.3
    assert np.isfinite(list(errors.values())).all()


def test_no_preset_searches_tokens():
    presets = StepTransformer.presets()
    assert "small" in presets
    assert all(preset.planner_settings.get("level") != "token" for preset in presets.values())


def test_it_is_saved_and_loaded(tmp_path):
    model = make_model(kind=StepTransformer)
    model.save(tmp_path)
    loaded = StepTransformer.load(tmp_path)
    history, actions = make_history(model, [2]), torch.linspace(-1, 1, 4).view(1, 4, 1)
    for one in (loaded, loaded.with_decoding(attention="products")):
        found = one.rollout(one.start(history, horizon=4), actions).observation
        expected = model.rollout(model.start(history, horizon=4), actions).observation
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-2)
