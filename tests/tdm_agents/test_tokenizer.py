import copy
import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tdm_agents.world_models.transformer.tokenizer import Tokenizer, TokenizerConfig

N, M = 4, 2
SCHEMES = list(product(("mu_law", "quantile", "equal_counts"), ("absolute", "change")))
every_scheme = pytest.mark.parametrize(("observation", "target"), SCHEMES)
reasonable = st.floats(-1000, 1000, width=32)


def data(rows: int = 3000) -> tuple[Tensor, Tensor, Tensor]:
    """Columns of very different scale: unit, wide, far from zero, constant."""
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn(rows, N, generator=generator) * torch.tensor([1.0, 300.0, 0.01, 0.0])
    observation += torch.tensor([0.0, 0.0, 100.0, 7.0])
    return observation, observation.diff(dim=0), torch.rand(rows, generator=generator) * 3 - 1


def make(observation: str, target: str = "absolute", bins: int = 1024) -> Tokenizer:
    tokenizer = Tokenizer(TokenizerConfig(observation, target, bins), N, M)  # type: ignore[arg-type]
    tokenizer.fit(*data())
    return tokenizer


FITTED = {scheme: make(*scheme) for scheme in SCHEMES}


def every_token(columns: int, bins: int = 1024) -> Tensor:
    return torch.arange(bins)[:, None].expand(bins, columns)


def mu_law(x: np.ndarray) -> np.ndarray:
    """Gato's appendix B in float64, written from the paper."""
    return np.sign(x) * np.log(np.abs(x) * 100 + 1) / np.log(256 * 100 + 1)


# -- golden values ----------------------------------------------------------------------------------------


def test_the_papers_tokens_are_these():
    # by hand: log(101) / log(25601) = 4.615121 / 10.150387 = 0.454674, (1 + 0.454674) * 512 = 744.79
    golden = {
        0.0: 512,
        1.0: 744,
        -1.0: 279,
        0.01: 546,
        -0.01: 477,
        0.5: 710,
        10.0: 860,
        -100.0: 47,
        255.0: 1023,
        256.0: 1023,
        -256.0: 0,
        1e6: 1023,
        -1e6: 0,
    }
    values = torch.tensor(list(golden))
    tokens = FITTED["mu_law", "absolute"].encode_observation_scalar(0, values)
    assert tokens.tolist() == list(golden.values())
    reference = np.clip((mu_law(np.array(list(golden))) + 1) / 2 * 1024, 0, 1023).astype(int)
    assert tokens.tolist() == reference.tolist()


def test_the_papers_bin_centres_are_these():
    # centre of bin 744 on the scale: 744.5 / 512 - 1 = 0.454102; (25601^0.454102 - 1) / 100 = 0.99416
    decoded = FITTED["mu_law", "absolute"].decode_observation(torch.tensor([[744, 279, 512, 1023]]))
    assert decoded[0].tolist() == pytest.approx([0.99416, -0.99416, 9.9610e-05, 253.4779], rel=1e-4)


def test_actions_are_binned_without_mu_law_in_every_scheme():
    values = torch.tensor([[-1.0, -0.5], [0.0, 0.999], [1.0, -7.0]])
    for tokenizer in FITTED.values():
        assert tokenizer.encode_action(values).tolist() == [[0, 256], [512, 1023], [1023, 0]]
        assert tokenizer.decode_action(torch.tensor([0, 1023])).tolist() == [-1 + 1 / 1024, 1 - 1 / 1024]


def test_special_tokens_follow_the_bins():
    tokenizer = Tokenizer(TokenizerConfig(bins=100), N, M)
    assert (tokenizer.none, tokenizer.separator, tokenizer.vocabulary) == (100, 101, 102)


# -- tokens survive a round trip --------------------------------------------------------------------------


@every_scheme
@pytest.mark.parametrize("bins", [2, 37, 1024, 65536])
def test_every_token_is_the_token_of_its_centre(observation, target, bins):
    tokenizer = make(observation, target, bins)
    tokens = every_token(N, bins)
    assert torch.equal(tokenizer.encode_observation(tokenizer.decode_observation(tokens)), tokens)
    assert torch.equal(tokenizer.encode_reward(tokenizer.decode_reward(tokens[:, 0])), tokens[:, 0])
    actions = every_token(M, bins)
    assert torch.equal(tokenizer.encode_action(tokenizer.decode_action(actions)), actions)


@every_scheme
def test_every_target_token_survives_a_round_trip(observation, target):
    tokenizer = FITTED[observation, target]
    # where the change is not below the spacing of float32: the constant column moves by 1e-6 about 0 only
    previous = torch.tensor([0.5, -20.0, 1.0, 0.0])
    following = tokenizer.decode_target(previous, every_token(N))
    assert torch.equal(tokenizer.encode_target(previous, following), every_token(N))


@settings(deadline=None)
@given(low=st.floats(-1e6, 1e6, width=32), span=st.floats(0, 1e6, width=32))
def test_bins_stay_distinct_in_float32_whatever_the_range(low, span):
    tokenizer = Tokenizer(TokenizerConfig(), 1, 1)
    ends = torch.tensor([low, low + span])
    tokenizer.fit(ends[:, None], ends[:, None], ends)
    tokens = torch.arange(1024)
    observation = tokenizer.decode_observation(tokens[:, None])
    assert torch.equal(tokenizer.encode_observation(observation)[:, 0], tokens)
    assert torch.equal(tokenizer.encode_reward(tokenizer.reward_centres()), tokens)
    assert tokenizer.encode_reward(ends).min() > 0  # the ends of the data are inside, not cut
    assert tokenizer.encode_reward(ends).max() < 1023


# -- values come back with the resolution that the bins have ------------------------------------------------


@settings(deadline=None)
@given(fraction=st.floats(0, 1, width=32))
def test_linear_bins_err_by_half_a_bin_at_most(fraction):
    tokenizer = FITTED["quantile", "change"]
    centres = torch.stack([tokenizer.change.centres(i) for i in range(N)], dim=1)
    width = (centres[-1] - centres[0]) / 1023
    low = centres[0] - width / 2
    change = low + fraction * 1024 * width
    zero = torch.zeros(N)
    error = tokenizer.decode_target(zero, tokenizer.encode_target(zero, change)) - change
    assert (error.abs() <= width * (0.5 + 1e-3)).all()

    action = torch.full((M,), 2 * fraction - 1)
    error = tokenizer.decode_action(tokenizer.encode_action(action)) - action
    assert (error.abs() <= (0.5 + 1e-3) * 2 / 1024).all()


@settings(deadline=None)
@given(fraction=st.floats(0, 1, width=32))
def test_quantile_observations_and_rewards_err_by_half_a_bin_at_most(fraction):
    tokenizer = FITTED["quantile", "absolute"]
    observation, _, reward = data()
    value = torch.quantile(observation, 0.001 + 0.998 * fraction, dim=0)
    width = tokenizer.observation.width
    error = tokenizer.decode_observation(tokenizer.encode_observation(value)) - value
    assert (error.abs() <= width * (0.5 + 1e-3) + value.abs() * 2**-23).all()
    value = torch.quantile(reward, fraction)
    error = tokenizer.decode_reward(tokenizer.encode_reward(value)) - value
    assert error.abs() <= tokenizer.reward.width * (0.5 + 1e-3)


@settings(deadline=None)
@given(value=st.floats(-256, 256, width=32))
def test_mu_law_stays_within_the_values_own_bin(value):
    tokenizer = FITTED["mu_law", "absolute"]
    x = torch.tensor(value)
    token = tokenizer.encode_observation_scalar(0, x)
    decoded = tokenizer.observation.decode(token, 0).double().item()
    edges = (token.item() + np.array([0.0, 1.0])) / 512 - 1
    low, high = np.sign(edges) * np.expm1(np.abs(edges) * np.log(25601)) / 100  # in value space
    slack = 1e-5 * (abs(value) + 0.01)
    assert low - slack <= value <= high + slack
    assert low < decoded < high
    assert abs(decoded - value) <= (high - low) + slack
    # half a bin on the scale itself, which is where the bins are uniform
    assert abs(mu_law(np.array(decoded)) - mu_law(np.array(value))) <= (0.5 + 1e-3) * 2 / 1024


@settings(deadline=None)
@given(a=reasonable, b=reasonable)
def test_more_is_never_an_earlier_token(a, b):
    low, high = torch.tensor(min(a, b)), torch.tensor(max(a, b))
    for tokenizer in FITTED.values():
        for i in range(N):
            first, second = (tokenizer.encode_observation_scalar(i, x) for x in (low, high))
            assert 0 <= first <= second < 1024
        assert 0 <= tokenizer.encode_reward(low) <= tokenizer.encode_reward(high) < 1024
        tokens = [tokenizer.encode_action(x.expand(M)) for x in (low, high)]
        assert (tokens[0] <= tokens[1]).all()


@every_scheme
def test_values_out_of_range_clip_to_the_outer_bins(observation, target):
    tokenizer = FITTED[observation, target]
    far = torch.tensor([[-1e9], [1e9], [-math.inf], [math.inf]])
    ends = [0, 1023, 0, 1023]
    for tokens in (
        tokenizer.encode_observation(far.expand(4, N)),
        tokenizer.encode_target(torch.zeros(4, N), far.expand(4, N)),
        tokenizer.encode_action(far.expand(4, M)),
        tokenizer.encode_reward(far),
    ):
        assert (tokens == torch.tensor(ends)[:, None]).all()


# -- targets ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(previous=st.floats(-2, 2, width=32), change=st.floats(-1, 1, width=32))
def test_a_change_target_gives_the_next_value_within_half_a_bin(previous, change):
    tokenizer = FITTED["quantile", "change"]
    before, after = torch.full((N,), previous), torch.full((N,), previous + change)
    decoded = tokenizer.decode_target(before, tokenizer.encode_target(before, after))
    width = tokenizer.change.width[0].item()
    assert abs(decoded[0] - after[0]) <= 0.5 * width + 1e-6


def test_absolute_targets_are_observation_tokens_whatever_came_before():
    tokenizer = FITTED["quantile", "absolute"]
    observation = data()[0][:50]
    tokens = tokenizer.encode_target(torch.full_like(observation, math.nan), observation)
    assert torch.equal(tokens, tokenizer.encode_observation(observation))
    assert torch.equal(
        tokenizer.decode_target(torch.zeros_like(observation), tokens), tokenizer.decode_observation(tokens)
    )


@every_scheme
def test_centres_are_what_the_tokens_decode_to(observation, target):
    tokenizer = FITTED[observation, target]
    targets = tokenizer.decode_target(torch.zeros(N), every_token(N))
    for i in range(N):
        centres = tokenizer.target_centres(i)
        assert centres.shape == (1024,)
        assert (centres.diff() > 0).all()
        assert torch.equal(centres, targets[:, i])
    assert torch.equal(tokenizer.reward_centres(), tokenizer.decode_reward(torch.arange(1024)))


# -- rewards, shapes, columns -----------------------------------------------------------------------------


@every_scheme
def test_an_unknown_reward_is_the_none_token_and_nan_again(observation, target):
    tokenizer = FITTED[observation, target]
    reward = torch.tensor([[math.nan, 0.3], [-0.2, math.nan]])
    tokens = tokenizer.encode_reward(reward)
    assert (tokens == 1024).tolist() == [[True, False], [False, True]]
    assert torch.equal(tokenizer.decode_reward(tokens).isnan(), reward.isnan())


@every_scheme
def test_one_column_alone_gets_the_tokens_of_the_whole_row(observation, target):
    tokenizer = FITTED[observation, target]
    value = data()[0][:60].reshape(3, 20, N)
    tokens = tokenizer.encode_observation(value)
    assert tokens.shape == value.shape
    assert tokens.dtype == torch.int64
    for i in range(N):
        assert torch.equal(tokenizer.encode_observation_scalar(i, value[..., i]), tokens[..., i])


def test_a_last_axis_of_the_wrong_length_is_refused_not_broadcast():
    tokenizer = FITTED["quantile", "change"]
    with pytest.raises(ValueError, match=r"shape \(5, 1\); expected \[\.\.\., 4\]"):
        tokenizer.encode_observation(torch.zeros(5, 1))
    with pytest.raises(ValueError, match=r"expected \[\.\.\., 2\]"):
        tokenizer.encode_action(torch.zeros(N))


# -- ranges -----------------------------------------------------------------------------------------------


def test_ranges_are_the_datas_quantiles_moved_out():
    tokenizer = FITTED["quantile", "change"]
    observation, change, reward = data()
    for bins, values, tail, margin in (
        (tokenizer.observation, observation[:, :3], 0.0005, 0.1),
        (tokenizer.change, change[:, :3], 0.0002, 0.1),
        (tokenizer.reward, reward[:, None], 0.0, 0.05),
    ):
        values = values.double().numpy()
        low = np.quantile(values, tail, axis=0, method="lower")
        high = np.quantile(values, 1 - tail, axis=0, method="higher")
        moved = margin * (high - low)
        start, width = (x.reshape(-1)[:3].numpy() for x in (bins.low, bins.width))
        assert start == pytest.approx(low - moved, rel=1e-6)
        assert start + 1024 * width == pytest.approx(high + moved, rel=1e-5)


def test_no_reward_of_the_data_is_cut_off():
    _, _, reward = data()
    reward[17] = 50.0  # one success in three thousand is what a planner has to see
    tokenizer = Tokenizer(TokenizerConfig(), N, M)
    tokenizer.fit(*data()[:2], reward)
    best = tokenizer.encode_reward(reward[17])
    assert best < 1023
    assert abs(tokenizer.decode_reward(best) - 50.0) <= tokenizer.reward.width


def test_a_constant_column_has_a_short_range_about_its_value():
    tokenizer = FITTED["quantile", "change"]
    constant = torch.tensor([0.0, 0.0, 0.0, 7.0])
    decoded = tokenizer.decode_observation(tokenizer.encode_observation(constant))
    assert decoded[3] == pytest.approx(7.0, abs=1e-5)
    assert 0 < tokenizer.observation.width[3] < 1e-5
    unchanged = tokenizer.decode_target(constant, tokenizer.encode_target(constant, constant))
    assert unchanged[3] == pytest.approx(7.0)


def test_mu_law_takes_only_changes_from_the_data():
    fixed = Tokenizer(TokenizerConfig("mu_law", "absolute"), N, M)
    assert fixed.fitted
    before = copy.deepcopy(fixed.state_dict())
    fixed.fit(*data())
    assert all(torch.equal(before[k], v) for k, v in fixed.state_dict().items())

    changing = Tokenizer(TokenizerConfig("mu_law", "change"), N, M)
    assert not changing.fitted
    changing.fit(*data())
    assert changing.fitted
    value = data()[0]
    assert torch.equal(changing.encode_observation(value), fixed.encode_observation(value))


def test_bins_without_a_range_say_what_to_do():
    tokenizer = Tokenizer(TokenizerConfig(), N, M)
    assert not tokenizer.fitted
    for call in (
        lambda: tokenizer.encode_observation(torch.zeros(N)),
        lambda: tokenizer.encode_target(torch.zeros(N), torch.zeros(N)),
        tokenizer.reward_centres,
    ):
        with pytest.raises(RuntimeError, match=r"call Tokenizer\.fit"):
            call()


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("observation", torch.zeros(0, N), "S >= 1"),
        ("observation", torch.zeros(5, N + 1), r"expected \[S, 4\]"),
        ("observation", torch.zeros(N), r"expected \[S, 4\]"),
        ("observation", torch.full((5, N), math.nan), "observation has 20 NaN or inf of 20"),
        ("change", torch.zeros(0, N), "change has shape"),
        ("change", torch.full((5, N), math.inf), "change has 20 NaN or inf"),
        ("reward", torch.zeros(5, 1), r"expected \[S\]"),
        ("reward", torch.tensor([0.0, math.nan]), "reward has 1 NaN or inf of 2"),
        ("reward", torch.zeros(3, dtype=torch.int64), "int64; expected floating point"),
    ],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_fit_refuses_data_that_say_nothing_and_changes_nothing(scheme, name, bad, message):
    tokenizer = make(*scheme)
    before = copy.deepcopy(tokenizer.state_dict())
    good = dict(zip(("observation", "change", "reward"), data(), strict=True))
    with pytest.raises(ValueError, match=message):
        tokenizer.fit(**(good | {name: bad}))
    assert all(torch.equal(before[k], v) for k, v in tokenizer.state_dict().items())


# -- a module like any other ------------------------------------------------------------------------------


@every_scheme
def test_a_state_dict_restores_the_ranges(observation, target):
    fitted = FITTED[observation, target]
    loaded = Tokenizer(fitted.config, N, M)
    loaded.load_state_dict(fitted.state_dict())
    assert loaded.fitted
    value = data()[0]
    assert torch.equal(loaded.encode_observation(value), fitted.encode_observation(value))
    assert torch.equal(loaded.encode_target(value, value + 0.01), fitted.encode_target(value, value + 0.01))
    assert torch.equal(loaded.reward_centres(), fitted.reward_centres())


def test_a_state_dict_restores_the_ranges_inside_a_model_built_on_the_meta_device():
    fitted = FITTED["quantile", "change"]
    model = torch.nn.ModuleDict({"tokenizer": Tokenizer(fitted.config, N, M, device="meta")})
    model.load_state_dict({f"tokenizer.{k}": v for k, v in fitted.state_dict().items()}, assign=True)
    value = data()[0]
    assert torch.equal(model["tokenizer"].encode_observation(value), fitted.encode_observation(value))


def test_a_tokenizer_that_was_never_fitted_does_not_become_so_by_saving():
    loaded = make("quantile", "change")
    loaded.load_state_dict(Tokenizer(loaded.config, N, M).state_dict())
    assert not loaded.fitted


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16, torch.float64])
def test_ranges_stay_float32_when_a_model_is_cast(cast):
    tokenizer = make("quantile", "change")
    value = data()[0]
    expected = tokenizer.encode_observation(value)
    model = torch.nn.Sequential(tokenizer, torch.nn.Linear(1, 1)).to(cast)
    assert model[1].weight.dtype == cast
    assert tokenizer.observation.low.dtype == torch.float32
    assert torch.equal(tokenizer.encode_observation(value), expected)
    assert tokenizer.decode_observation(expected).dtype == torch.float32


def test_half_precision_values_are_read_as_what_they_are():
    tokenizer = FITTED["quantile", "absolute"]
    value = data()[0].to(torch.bfloat16)
    assert torch.equal(tokenizer.encode_observation(value), tokenizer.encode_observation(value.float()))
    column = tokenizer.encode_observation_scalar(0, value[:, 0])
    assert torch.equal(column, tokenizer.encode_observation_scalar(0, value[:, 0].float()))


def test_everything_follows_the_module_to_its_device():
    tokenizer = make("quantile", "change").to("meta")
    value = torch.zeros(5, N, device="meta")
    tokens = tokenizer.encode_observation(value)
    assert {str(b.device) for b in tokenizer.buffers()} == {"meta"}
    for tensor in (
        tokens,
        tokenizer.decode_observation(tokens),
        tokenizer.decode_target(value, tokens),
        tokenizer.encode_reward(value[:, 0]),
        tokenizer.target_centres(0),
        tokenizer.reward_centres(),
    ):
        assert tensor.device.type == "meta"


def test_there_is_nothing_to_train():
    assert not list(FITTED["quantile", "change"].parameters())


@every_scheme
def test_no_control_flow_depends_on_the_data(observation, target):
    tokenizer = FITTED[observation, target]

    def everything(value: Tensor, reward: Tensor, action: Tensor) -> tuple[Tensor, ...]:
        tokens = tokenizer.encode_target(value, value + 0.1)
        return (
            tokenizer.decode_observation(tokenizer.encode_observation(value)),
            tokenizer.encode_observation_scalar(1, value[..., 1]),
            tokenizer.decode_target(value, tokens),
            tokenizer.decode_reward(tokenizer.encode_reward(reward)),
            tokenizer.decode_action(tokenizer.encode_action(action)),
            tokenizer.target_centres(0),
        )

    arguments = (data()[0][:9], torch.tensor([0.1, math.nan]), torch.tensor([[0.5, -2.0]]))
    compiled = torch.compile(everything, backend="eager", fullgraph=True)  # a graph break would raise
    for one, other in zip(compiled(*arguments), everything(*arguments), strict=True):
        assert torch.equal(one.nan_to_num(9.0), other.nan_to_num(9.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"observation": "log"}, "observation='log'; expected 'mu_law', 'quantile' or 'equal_counts'"),
        ({"target": "delta"}, "target='delta'; expected 'absolute' or 'change'"),
        ({"bins": 1}, "bins=1; expected 2"),
        ({"bins": 1 << 20}, "bins=1048576"),
        ({"mu": 0.0}, "mu=0.0; expected a finite positive"),
        ({"limit": math.nan}, "limit=nan"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TokenizerConfig(**settings)


def test_a_body_without_scalars_is_refused():
    with pytest.raises(ValueError, match="observation_dim=0"):
        Tokenizer(TokenizerConfig(), 0, 1)


def test_bins_of_equal_counts_hold_equally_many_of_the_data():
    tokenizer = Tokenizer(TokenizerConfig("equal_counts", "absolute", bins=20), 2, 1)
    data = torch.stack(
        [torch.randn(5000, generator=torch.Generator().manual_seed(0)).exp(), torch.arange(5000.0)], dim=1
    )
    tokenizer.fit(data, data[1:] - data[:-1], torch.tensor([0.0, 1.0]))
    tokens = tokenizer.encode_observation(data)
    for column in tokens.unbind(1):
        assert column.bincount(minlength=20).float().sub(250).abs().max() <= 1
    edges = torch.quantile(data[:, 0], torch.linspace(0, 1, 21))
    torch.testing.assert_close(tokenizer.target_centres(0), (edges[:-1] + edges[1:]) / 2)
    assert tokenizer.decode_reward(tokenizer.encode_reward(torch.tensor(1.0))) == pytest.approx(1.0, abs=0.06)


def test_many_equal_data_have_one_bin_of_equal_counts():
    tokenizer = Tokenizer(TokenizerConfig("equal_counts", "absolute", bins=10), 2, 1)
    mostly = torch.cat([torch.zeros(900), torch.linspace(1, 2, 100)])
    data = torch.stack([mostly, torch.full((1000,), 3.0)], dim=1)  # and one that never changes
    tokenizer.fit(data, data[1:] - data[:-1], torch.tensor([0.0, 1.0]))
    found = tokenizer.decode_observation(tokenizer.encode_observation(data))
    assert found[:900].sub(data[:900]).abs().max() < 1e-4 and len(found[:900].unique(dim=0)) == 1
    every = torch.arange(10)[:, None].expand(-1, 2)
    assert (tokenizer.encode_observation(tokenizer.decode_observation(every)) == every).all()


def test_an_outlier_takes_no_bins_from_the_others():
    tokenizer = Tokenizer(TokenizerConfig("equal_counts", "absolute", bins=64), 1, 1)
    data = 0.01 * torch.randn((6400, 1), generator=torch.Generator().manual_seed(0))
    data[0] = 1e4
    tokenizer.fit(data, data[1:] - data[:-1], torch.tensor([0.0, 1.0]))
    tokens = tokenizer.encode_observation(data)[:, 0]
    assert tokens.bincount(minlength=64).float().sub(100).abs().max() <= 1


def test_bins_of_equal_counts_are_of_one_environment():
    with pytest.raises(ValueError, match="counts the data of one environment"):
        TokenizerConfig(observation="equal_counts", ranges="role")
