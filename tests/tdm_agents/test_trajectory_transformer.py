"""The Trajectory Transformer's return to go: what it is, that it is learned, and where it is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_transformer import make_history, make_model, make_spec

from tdm_agents.data.returns import as_read_by
from tdm_agents.data.windows import WindowSampler
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Batch, HasValue, History
from tdm_agents.testing import check_trainable_model, check_world_model, recorded_episodes
from tdm_agents.update_settings import UpdateSettings
from tdm_agents.world_models.transformer.beginning import fit_returns
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.step_model import StepTransformer
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig
from tdm_agents.world_models.transformer.trajectory_model import TrajectoryTransformer

GAMMA = 0.9
TOKENS = TokenizerConfig(bins=64, reward_to_go=GAMMA)


def made(*, terminates=False, **settings):
    spec = replace(make_spec(2, 1), terminates=terminates)
    model = make_model(2, 1, spec=spec, kind=TrajectoryTransformer, tokenizer=TOKENS, **settings)
    model.tokenizer.fit_to_go([torch.tensor([-3.0, 1.0])])
    return model


def test_returns_are_the_discounted_rewards_of_the_rest_of_each_episode():
    data = recorded_episodes(3, 6).with_returns(GAMMA)
    batch = data.windows(np.array([0, 2, 2]), np.array([0, 4, 1]), 4)
    for row, (episode, start) in enumerate([(0, 0), (2, 4), (2, 1)]):
        reward = data.episode(episode).reward
        for t in range(4):
            later = reward[start + t + 1 :]
            expected = sum(GAMMA**k * value for k, value in enumerate(later))
            assert batch.to_go[row, t].item() == pytest.approx(expected, rel=1e-5)
    assert not batch.to_go[1, 2:].any()  # padding
    kept, _ = data.split(0.4, seed=0)
    assert kept.windows(np.array([0]), np.array([0]), 2).to_go is not None
    with pytest.raises(WrongValueError, match=r"discount is 0; expected"):
        data.with_returns(0)


def test_only_those_who_read_returns_get_them():
    data = {"one": recorded_episodes(3, 6)}
    assert as_read_by(make_model(2, 1), data)["one"].to_go == ()
    (returns,) = as_read_by(made(), data)["one"].to_go
    assert returns.shape == (18,)


def test_the_loss_is_that_of_the_others_and_of_the_returns_where_steps_are_real():
    data = recorded_episodes(6, 5).with_returns(GAMMA)
    model = made()
    plain = make_model(2, 1, tokenizer=TokenizerConfig(bins=64))
    plain.load_state_dict(
        {k: v for k, v in model.state_dict().items() if "returns" not in k and "to_go" not in k}
    )
    batch = data.windows(np.arange(6), np.array([0, 0, 1, 2, 2, 3]), 4)  # some run past their end
    loss, metrics = model(batch)
    without, expected = plain(batch)
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value)
    hidden = model.network(model.preparation(batch, generator=None).packed).view(6, 4, 5, -1)
    logits = model.network.returns(hidden[:, :, 1])  # after the last observation scalar
    target = model.tokenizer.to_go.encode(batch.to_go)
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    torch.testing.assert_close(metrics["nll_to_go"], nll[batch.valid.flatten()].mean().detach())
    steps, moved = batch.valid.sum(), (batch.valid[:, 1:] & batch.acted[:, :-1]).sum()
    known, acted = (batch.valid & ~batch.reward.isnan()).sum(), batch.acted.sum()
    others = 2 * moved + known + acted
    torch.testing.assert_close(
        loss, (others * without + steps * metrics["nll_to_go"]) / (others + steps), rtol=1e-5, atol=1e-6
    )


def test_the_value_is_the_mean_of_the_predicted_returns_wherever_it_is_read():
    model = made()
    assert isinstance(model, HasValue) and not isinstance(make_model(2, 1), HasValue)
    history = make_history(model, [3, 1, 2])
    state = model.start(history, horizon=2)
    centres = model.tokenizer.to_go.centres()
    with torch.no_grad():
        for row, length in enumerate([3, 1, 2]):
            seen = history.observation[row, -length:], history.reward[row, -length:]
            action = torch.cat([history.action[row], torch.zeros(1, 1)])[-length:]
            batch = recorded_batch(*seen, action)
            packed = model.preparation(batch, generator=None).packed
            hidden = model.network(packed).view(length, 5, -1)[-1, 1]
            expected = model.network.returns(hidden).softmax(-1) @ centres
            torch.testing.assert_close(model.value(state)[row], expected, rtol=1e-4, atol=1e-5)
    actions = torch.zeros(3, 2, 1)
    ended = model.rollout(model.take(state, torch.arange(3)), actions)
    stepped, _ = model.step(model.take(state, torch.arange(3)), actions[:, 0])
    stepped, _ = model.step(stepped, actions[:, 1])
    torch.testing.assert_close(model.value(ended.state), model.value(stepped))
    twice = model.take(stepped, torch.tensor([2, 2, 0]))
    torch.testing.assert_close(model.value(twice), model.value(stepped)[[2, 2, 0]])
    assert (model.value(stepped) != model.value(state)).any()


def recorded_batch(observation, reward, action):
    steps = len(reward)
    yes = torch.ones(1, steps, dtype=torch.bool)
    acted = yes.clone()
    acted[:, -1] = False
    nothing = torch.zeros(1, steps)
    return Batch(observation[None], reward[None], action[None], yes, yes, acted, to_go=nothing)


def test_the_value_is_that_of_an_episode_that_goes_on_in_the_present_as_in_imagination():
    model = made(terminates=True)
    history = make_history(model, [3, 1])
    with torch.no_grad():
        model.network.alive.weight.zero_()
        model.network.alive.bias.fill_(40.0)
        certain = model.start(history, horizon=1)
        model.network.alive.bias.fill_(0.0)  # every other episode ends
        doubtful = model.start(history, horizon=1)
    torch.testing.assert_close(model.value(doubtful), 2.0 * model.value(certain))


def test_a_transition_written_token_by_token_ends_in_the_same_value():
    model = made(read="mode", parallel=False)
    state = model.start(make_history(model, [2]), horizon=3)
    draft = model.draft(model.take(state, torch.tensor([0])))
    for _ in range(1 + 2 + 1):
        draft = draft.push(draft.log_probs().argmax(-1))
    after, action, _ = draft.finish()
    stepped, _ = model.step(model.take(state, torch.tensor([0])), action)
    torch.testing.assert_close(model.value(after), model.value(stepped))


def test_captured_steps_end_in_the_same_value():
    model, captured = made(), made(capture="eager")
    history, actions = make_history(model, [2, 2]), torch.rand(2, 3, 1) * 2 - 1
    values = [
        of.value(of.rollout(of.take(of.start(history, horizon=3), torch.arange(2)), actions).state)
        for of in (model, captured)
    ]
    torch.testing.assert_close(*values)


def test_it_learns_returns():
    data = recorded_episodes(48, 8)
    model = made(layers=1)
    model.fit({"": data})
    data = as_read_by(model, {"": data})[""]
    settings = UpdateSettings(steps=300, learning_rate=3e-3, warmup_steps=10)
    optimizers = model.optimizers(settings)
    sampler = WindowSampler(data, steps=4, batch_size=32, seed=0)
    first = model(sampler.batch(1000))[1]["nll_to_go"]
    model.train()
    for step in range(settings.steps):
        model.update(
            sampler.batch(step), optimizers, step=step, settings=settings, generator=torch.Generator()
        )
    model.eval()
    assert model(sampler.batch(1000))[1]["nll_to_go"] < 0.75 * first
    # ends are worth nothing, and starts what is still to come
    episode = data.windows(np.arange(48), np.zeros(48, int), 8)
    history = History(
        episode.observation[:, :2], episode.reward[:, :2], episode.action[:, :1], torch.full((48,), 2)
    )
    value = model.value(model.start(history, horizon=1))
    assert np.corrcoef(value.numpy(), episode.to_go[:, 1].numpy())[0, 1] > 0.6


def test_windows_without_returns_are_refused_with_the_remedy():
    batch = recorded_episodes(3, 6).windows(np.array([0]), np.array([0]), 4)
    with pytest.raises(WrongValueError, match=r"no to_go.*with_returns\(model\.return_discount\)"):
        made()(batch)


@pytest.mark.parametrize("kind", [TransformerWorldModel, StepTransformer])
def test_other_transformers_predict_no_returns(kind):
    with pytest.raises(WrongValueError, match=r"reward_to_go is 0\.9; expected none; trajectory_transformer"):
        make_model(2, 1, kind=kind, tokenizer=TOKENS)


def test_it_needs_a_discount_and_ranges_of_its_environment():
    with pytest.raises(WrongValueError, match="reward_to_go is None; expected a discount"):
        make_model(2, 1, kind=TrajectoryTransformer)
    with pytest.raises(WrongValueError, match=r"reward_to_go=1\.5; expected a discount in \(0, 1\]"):
        TokenizerConfig(reward_to_go=1.5)
    with pytest.raises(WrongValueError, match="expected ranges='environment'"):
        TokenizerConfig(reward_to_go=0.9, ranges="role")
    config = TrajectoryTransformer.presets()["small"].config
    with pytest.raises(WrongValueError, match="trajectory_transformer predicts returns"):
        Generalist({"a": make_model(2, 1).spec}, config)


def test_it_is_saved_and_loaded(tmp_path):
    model = made()
    fit_returns(model.tokenizer, recorded_episodes(3, 6).with_returns(GAMMA))
    model.save(tmp_path)
    loaded = TrajectoryTransformer.load(tmp_path)
    history = make_history(model, [2])
    values = [of.value(of.start(history, horizon=1)) for of in (model, loaded)]
    assert torch.equal(*values) and loaded.return_discount == GAMMA


def test_it_keeps_the_contracts():
    model = made(reward_dropout=0.0)
    check_world_model(model, make_history(model, [3, 1, 2]))
    check_trainable_model(
        TrajectoryTransformer, config=replace(model.config, dropout=0.1), learning_rate=3e-3
    )


def test_token_by_token_rewards_are_means_and_returns_those_of_who_goes_on():
    model = made(parallel=False, terminates=True)
    state = model.start(make_history(model, [2]), horizon=3)
    draft = model.draft(model.take(state, torch.tensor([0])))
    for _ in range(1 + 2 + 1):
        draft = draft.push(draft.log_probs().argmax(-1))
    rewards = draft.decoder.network.logits(draft.hidden).softmax(-1)
    returns = draft.decoder.read_to_go(draft.hidden, draft.state.centres, None)
    after, _, step = draft.finish()
    torch.testing.assert_close(step.reward, rewards @ model.tokenizer.reward_centres())
    assert 0.0 < step.survival.item() < 1.0
    torch.testing.assert_close(model.value(after) * step.survival, returns)
