"""The parts of the recurrent state-space model against known answers."""

import dataclasses

import pytest
import torch
from torch.distributions import Categorical, Independent, kl_divergence

from tdm_agents.data.windows import WindowSampler
from tdm_agents.testing import recorded_episodes
from tdm_agents.world_models.rssm.filtering import filtered
from tdm_agents.world_models.rssm.one_hot import (
    balanced_divergence,
    divergence,
    drawn,
    expected,
    likeliest,
    straight_through,
)
from tdm_agents.world_models.rssm.recurrent_networks import LayerNormGRU, RSSMNetworks
from tdm_agents.world_models.rssm.rssm_config import RSSMConfig
from tdm_agents.world_models.rssm.rssm_model import RSSMWorldModel

TINY = RSSMConfig(deterministic=8, hidden=8, latents=3, classes=4, units=8, layers=1)
DATA = recorded_episodes()


def logits(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


# -- latents -------------------------------------------------------------------------------------------------


def test_the_divergence_is_that_of_torch_distributions():
    p, q = logits(5, 3, 4), logits(5, 3, 4, seed=1)
    first, second = (Independent(Categorical(logits=x), 1) for x in (p, q))
    torch.testing.assert_close(divergence(p, q), kl_divergence(first, second))


def test_the_prior_follows_the_divergence_with_weight_08_and_the_posterior_with_02():
    p, q = logits(5, 3, 4).requires_grad_(), logits(5, 3, 4, seed=1).requires_grad_()
    loss, mean = balanced_divergence(p, q, balance=0.8, free_nats=0.0)
    plain = divergence(p, q).mean()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(mean, plain.detach())
    (into_posterior, into_prior), (of_p, of_q) = gradients(loss, p, q), gradients(plain, p, q)
    torch.testing.assert_close(into_posterior, 0.2 * of_p)
    torch.testing.assert_close(into_prior, 0.8 * of_q)


def test_below_the_free_nats_nothing_pulls_and_above_them_every_row_does():
    p, q = logits(2, 3, 4).requires_grad_(), logits(2, 3, 4, seed=1).requires_grad_()
    rows = divergence(p, q).detach()
    loss, mean = balanced_divergence(p, q, balance=0.8, free_nats=float(rows.mean()) + 0.1)
    assert loss.item() == pytest.approx(rows.mean().item() + 0.1) and mean < loss
    assert all((g == 0).all() for g in gradients(loss, p, q))
    between = float(rows.min() + rows.mean()) / 2  # above one row, below the mean of both
    loss, _ = balanced_divergence(p, q, balance=0.8, free_nats=between)
    assert all((g.abs().amax(dim=(1, 2)) > 0).all() for g in gradients(loss, p, q))


def test_the_gradient_of_a_drawn_latent_is_that_of_its_probabilities():
    x, weight = logits(5, 3, 4).requires_grad_(), logits(5, 12, seed=1)
    chosen = drawn(x, torch.rand(5, 3, generator=torch.Generator().manual_seed(2)))
    latent = straight_through(x, chosen)
    assert torch.equal(latent, torch.nn.functional.one_hot(chosen, 4).float().flatten(1))
    (found,) = gradients((latent * weight).sum(), x)
    p, w = x.detach().softmax(-1), weight.view(5, 3, 4)
    torch.testing.assert_close(found, p * (w - (p * w).sum(-1, keepdim=True)))  # closed form of softmax
    step = 1e-3 * logits(5, 3, 4, seed=3)
    ahead, behind = ((expected(x.detach() + s) * weight).sum() for s in (step, -step))
    assert float((found * step).sum()) == pytest.approx(float(ahead - behind) / 2, rel=1e-2)


def test_classes_are_drawn_as_often_as_their_probabilities_say():
    x = logits(3, 4)
    x[0, 2] = -torch.inf
    uniform = torch.rand((40_000, 3), generator=torch.Generator().manual_seed(0))
    counts = torch.nn.functional.one_hot(drawn(x.expand(40_000, 3, 4), uniform), 4).float().mean(0)
    torch.testing.assert_close(counts, x.softmax(-1), rtol=0, atol=0.01)
    assert counts[0, 2] == 0


def test_the_ends_of_the_unit_interval_are_classes():
    x = logits(3, 4)
    last = torch.full((3,), torch.nextafter(torch.ones(()), torch.zeros(())).item())
    assert drawn(x, torch.zeros(3)).tolist() == [0, 0, 0]
    assert drawn(x, last).tolist() == [3, 3, 3]
    never = -torch.inf
    certain = torch.tensor([[never, 0.0, never], [0.0, never, never]])
    assert drawn(certain, torch.zeros(2)).tolist() == likeliest(certain).tolist() == [1, 0]


def test_nan_is_not_hidden_behind_a_class():
    x = logits(2, 3, 4)
    x[1, 1, 1] = torch.nan
    latent = straight_through(x, likeliest(x))
    assert latent[0].isfinite().all() and latent[1].isnan().any()


# -- the recurrent state and filtering -----------------------------------------------------------------------


def test_the_recurrent_unit_is_a_gru_over_normalised_gates():
    cell, inputs, state = LayerNormGRU(3, 2), logits(4, 3), logits(4, 2, seed=1)
    parts = torch.nn.functional.layer_norm(
        torch.cat([inputs, state], 1) @ cell.gates.weight.T + cell.gates.bias, (6,)
    )
    reset, candidate, update = parts[:, :2].sigmoid(), parts[:, 2:4], (parts[:, 4:] - 1).sigmoid()
    wanted = update * (reset * candidate).tanh() + (1 - update) * state
    torch.testing.assert_close(cell(inputs, state), wanted)


def networks():
    return RSSMNetworks(2, 1, TINY, seed=0)


def test_filtering_is_the_posterior_step_by_step_from_each_rows_first_step():
    net, observation, action = networks(), logits(3, 5, 2), logits(3, 4, 1, seed=1)
    lengths = [5, 2, 1]
    known = torch.arange(5) >= 5 - torch.tensor(lengths)[:, None]
    found = filtered(net, observation, action, known)
    for row, length in enumerate(lengths):
        state, latent = torch.zeros(1, 8), torch.zeros(1, 12)
        led = torch.zeros(1, 1)
        for t in range(5 - length, 5):
            state = net.recur(state, latent, led)
            posterior = net.posterior(state, net.encoder(observation[row : row + 1, t]))
            latent = expected(posterior)
            torch.testing.assert_close(found.deterministic[row, t], state[0])
            torch.testing.assert_close(found.posterior[row, t], posterior[0])
            torch.testing.assert_close(found.latent[row, t], latent[0])
            led = action[row : row + 1, t] if t < 4 else None


def test_an_action_matters_only_to_the_states_after_it():
    net, observation, action = networks(), logits(1, 5, 2), logits(1, 4, 1, seed=1)
    other = action.clone()
    other[:, 2] += 1.0
    one, two = (filtered(net, observation, a, torch.ones(1, 5, dtype=torch.bool)) for a in (action, other))
    same = (one.deterministic == two.deterministic).all(-1)[0]
    assert same.tolist() == [True, True, True, False, False]


def test_drawn_latents_do_not_depend_on_how_many_steps_follow():
    net, observation, action = networks(), logits(16, 5, 2), logits(16, 4, 1, seed=1)
    known = torch.ones(16, 5, dtype=torch.bool)
    long = filtered(net, observation, action, known, generator=torch.Generator().manual_seed(0))
    short = filtered(
        net, observation[:, :3], action[:, :2], known[:, :3], generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(long.latent[:, :3], short.latent)
    assert ((long.latent == 0) | (long.latent == 1)).all()


# -- the loss ------------------------------------------------------------------------------------------------


def model(config=TINY, **changes):
    made = RSSMWorldModel(dataclasses.replace(DATA.spec, **changes), config)
    made.fit({"any": DATA})
    return made


def batch(steps=6):
    return WindowSampler(DATA, steps=steps, batch_size=8, seed=0).batch(0)


def cut(windows, last):
    """The same windows, whose rows end at different steps."""
    gone = torch.arange(windows.valid.shape[1]) > torch.tensor(last)[:, None]
    return dataclasses.replace(
        windows,
        observation=windows.observation.masked_fill(gone[:, :, None], 0.0),
        reward=windows.reward.masked_fill(gone, torch.nan),
        action=windows.action.masked_fill(gone[:, :, None], 0.0),
        valid=windows.valid & ~gone,
        acted=windows.acted & ~gone,
    )


def loss_and_gradients(made, windows):
    made.zero_grad()
    loss, metrics = made(windows)
    loss.backward()
    return [loss.detach(), *metrics.values(), *(p.grad for p in made.parameters() if p.grad is not None)]


def test_padding_changes_neither_loss_nor_gradient():
    made, windows = model(terminates=True), cut(batch(), [5, 4, 3, 2, 1, 5, 2, 4])
    gone = ~windows.valid
    filled = dataclasses.replace(
        windows,
        observation=torch.where(gone[..., None], 9.0, windows.observation),
        reward=torch.where(gone, 9.0, windows.reward),
        action=torch.where(gone[..., None], 9.0, windows.action),
        alive=windows.alive & ~gone,
    )
    longer = dataclasses.replace(
        windows,
        **{
            f.name: torch.cat([value, torch.zeros_like(value)], dim=1)
            for f in dataclasses.fields(windows)
            for value in [getattr(windows, f.name)]
            if value is not None
        },
    )
    wanted = loss_and_gradients(made, windows)
    for other in (filled, longer):
        torch.testing.assert_close(loss_and_gradients(made, other), wanted)


def test_a_reward_counts_only_where_an_action_of_the_window_led_to_it():
    made, windows = model(), batch()
    other = windows.reward.clone()
    other[:, 0] = 7.0
    first = dataclasses.replace(windows, reward=other)
    torch.testing.assert_close(made(first)[0], made(windows)[0])
    second = dataclasses.replace(windows, reward=windows.reward + 7.0 * made.reward_scale)
    assert made(second)[0] > made(windows)[0] + 0.1
    unknown = dataclasses.replace(windows, reward=torch.full_like(windows.reward, torch.nan))
    values = loss_and_gradients(made, unknown)
    assert all(value.isfinite().all() for value in values) and made(unknown)[1]["reward"] == 0


def test_heads_that_say_nothing_have_the_loss_of_the_spread():
    made, windows = model(dataclasses.replace(TINY, kl_scale=0.5), terminates=True), batch()
    with torch.no_grad():
        for head in (made.networks.decoder, made.networks.reward_head, made.networks.alive_head):
            head[-1].weight.zero_()
            head[-1].bias.zero_()
    loss, metrics = made(windows)
    seen = windows.valid
    rewards = (windows.reward[:, 1:][seen[:, 1:]] - made.reward_mean) / made.reward_scale
    observations = (windows.observation[seen] - made.observation_mean) / made.observation_scale
    wanted = {
        "observation": 0.5 * observations.square().sum(-1).mean(),
        "reward": 0.5 * rewards.square().mean(),
        "alive": torch.tensor(2.0).log(),
    }
    for name, value in wanted.items():
        torch.testing.assert_close(metrics[name], value)
    torch.testing.assert_close(
        loss.detach(), sum(wanted.values()) + 0.5 * metrics["kl"].clamp(min=TINY.free_nats)
    )


def test_what_is_not_there_is_not_learned():
    assert set(model()(batch())[1]) == {"kl", "observation", "reward"}
    silent = model(dataclasses.replace(TINY, imagines_observations=False))
    assert silent.networks.decoder is None and set(silent(batch())[1]) == {"kl", "reward"}


def test_windows_without_a_transition_are_refused():
    with pytest.raises(ValueError, match="no transition: windows need at least 2 steps"):
        model()(cut(batch(), [0] * 8))
