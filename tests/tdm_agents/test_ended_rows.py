"""Rows whose episode ended are no longer imagined, and nobody else notices."""

import pytest
import torch
from small_transformer import make_history, make_model, make_spec

from tdm_agents.protocols import looped_rollout
from tdm_agents.protocols.values import LEAST_SURVIVAL
from tdm_agents.testing import check_world_model
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.wrappers import WithoutAlive
from tdm_agents.wrappers.base import Wrapper


def mortal(logit, *, spread=0.3, **settings):
    """A model that ends episodes: alive has about this logit, more or less by what is seen."""
    model = make_model(4, spec=make_spec(4, 1, terminates=True), **settings)
    model.network.double()
    torch.nn.init.normal_(model.network.alive.weight, std=spread, generator=torch.Generator().manual_seed(0))
    torch.nn.init.constant_(model.network.alive.bias, logit)
    return model


def fresh(model, lengths, rows, horizon):
    state = model.start(make_history(model, lengths), horizon=horizon)
    return model.take(state, torch.arange(len(lengths)).repeat_interleave(rows))


def actions_of(rows, horizon):
    return torch.rand((rows, horizon, 1), generator=torch.Generator().manual_seed(2)) * 2 - 1


def fed_rows(model, counts):
    """Note of every forward how many rows it has."""
    return model.network.norm.register_forward_hook(lambda _, inputs, __: counts.append(len(inputs[0])))


@pytest.mark.parametrize("read", ["sample", "mean"])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(("lengths", "context"), [([3], 1023), ([3, 1], 24)])
def test_those_that_live_see_the_same(lengths, context, parallel, read):
    logit, spread = (1.0, 0.3) if read == "sample" else (-1.0, 1.0)
    model = mortal(logit, spread=spread, read=read, parallel=parallel, context=context)
    actions = actions_of(8 * len(lengths), 8)
    everybody = []
    with fed_rows(model, everybody):
        plain = looped_rollout(
            model, fresh(model, lengths, 8, 8), actions, generator=torch.Generator().manual_seed(3)
        )
    counts = []
    with fed_rows(model, counts):
        found = model.rollout(
            fresh(model, lengths, 8, 8), actions, generator=torch.Generator().manual_seed(3)
        )
    assert torch.equal(found.alive, plain.alive)
    assert found.alive[:, 0].any() and not found.alive[:, -1].all()
    lived = torch.cat([torch.ones_like(plain.alive[:, :1]), plain.alive[:, :-1]], dim=1)
    torch.testing.assert_close(found.observation[lived], plain.observation[lived], rtol=0, atol=2e-4)
    torch.testing.assert_close(found.reward[lived], plain.reward[lived], rtol=0, atol=2e-4)
    going = found.survival >= LEAST_SURVIVAL
    assert (sum(counts) < sum(everybody)) == bool(2 * going[:, -2].sum() <= len(actions))
    if read == "mean":  # rows that are dropped count as 0 there
        torch.testing.assert_close(found.survival[going], plain.survival[going], rtol=0, atol=1e-6)
        assert (plain.survival[~going] < LEAST_SURVIVAL).all()
    assert found.state.rows == len(actions)


def test_who_has_probably_ended_is_not_alive_though_no_step_was_the_likely_end():
    model = mortal(0.4, spread=0.0)  # 0.6 per step
    actions = actions_of(6, 10)
    found = model.rollout(fresh(model, [3], 6, 10), actions)
    plain = looped_rollout(model, fresh(model, [3], 6, 10), actions)
    for one in (found, plain):
        assert one.alive.sum(dim=1).tolist() == [5] * 6
    torch.testing.assert_close(found.survival[:, :6], plain.survival[:, :6], rtol=0, atol=1e-6)


def test_they_stand_still_and_earn_nothing():
    model = mortal(0.0, read="sample")
    found = model.rollout(
        fresh(model, [3], 16, 8), actions_of(16, 8), generator=torch.Generator().manual_seed(0)
    )
    assert not found.alive[:, -1].all()
    assert (found.reward[:, -1][~found.alive[:, -2]] == 0).any()
    assert found.observation.isfinite().all() and found.state.rows == 16


def test_nothing_is_imagined_once_all_have_ended():
    model, counts = mortal(-50.0), []
    with fed_rows(model, counts):
        found = model.rollout(fresh(model, [2], 5, 6), actions_of(5, 6))
    assert not found.alive.any()
    assert len(counts) == 1 + model.layout.observation_dim  # of one step
    assert torch.equal(found.observation[:, 0], found.observation[:, -1])
    assert not found.reward[:, 1:].any()


def test_a_state_is_left_of_all_rows_whoever_lives():
    model, left = mortal(0.0, read="sample"), set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        found = model.rollout(fresh(model, [3], 8, 6), actions_of(8, 6), generator=generator)
        left.add(int(found.alive[:, -1].sum()))
        assert found.state.rows == 8
    assert 0 in left and len(left) > 1


class Immortal(Wrapper):
    """A user's wrapper whose rows live on."""

    def _alive(self, predicted):
        return torch.ones_like(predicted)


@pytest.mark.parametrize("wrapper", [Immortal, WithoutAlive])
def test_wrappers_that_let_rows_live_see_what_they_do(wrapper):
    model = wrapper(mortal(-50.0))
    actions = actions_of(3, 6)

    def start():
        return model.take(model.start(make_history(model, [2]), horizon=6), torch.zeros(3, dtype=torch.int64))

    found, plain = model.rollout(start(), actions), looped_rollout(model, start(), actions)
    assert torch.equal(found.observation, plain.observation) and torch.equal(found.reward, plain.reward)


def test_a_model_of_ones_own_steps_is_stepped():
    class Counted(TransformerWorldModel):
        steps = 0

        def step(self, *args, **kwargs):
            self.steps += 1
            return super().step(*args, **kwargs)

    one = mortal(-50.0)
    model = Counted(one.spec, one.config, one.network)
    model.tokenizer = one.tokenizer
    model.rollout(fresh(model, [2], 3, 6), actions_of(3, 6))
    assert model.steps == 6


def test_without_alive_all_go_on():
    model, counts = mortal(-50.0), []
    immortal = WithoutAlive(model)
    state = immortal.start(make_history(model, [2]), horizon=6)
    state = immortal.take(state, torch.zeros(5, dtype=torch.int64))
    with fed_rows(model, counts):
        found = immortal.rollout(state, actions_of(5, 6))
    assert found.alive.all() and len(counts) == 6 * (1 + model.layout.observation_dim)


@pytest.mark.parametrize("read", ["sample", "mean"])
def test_contract(read):
    check_world_model(mortal(0.5, read=read), make_history(mortal(0.5), [3, 1, 2]))


def test_the_state_that_is_left_goes_on():
    model = mortal(0.0, spread=1.0, read="mean")
    actions = actions_of(16, 8)
    plain = looped_rollout(model, fresh(model, [3], 16, 8), actions)
    found = model.rollout(fresh(model, [3], 16, 8), actions[:, :5])
    lives = found.alive[:, -1]
    assert lives.any() and not lives.all()
    rest = looped_rollout(model, found.state, actions[:, 5:])
    torch.testing.assert_close(rest.observation[lives], plain.observation[lives, 5:], rtol=0, atol=2e-4)
