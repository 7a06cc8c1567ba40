import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_planners.noise import ar1_noise, brownian_walk, coloured_noise, spline_noise, white_noise
from tdm_planners.splines import knot_steps, spline_matrix

ROWS = 4000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=20, deadline=None)
@given(horizon=st.integers(1, 31), beta=st.floats(0.0, 3.0))
def test_coloured_noise_has_zero_mean_and_unit_variance_at_every_step(horizon, beta):
    noise = coloured_noise((ROWS, horizon, 1), beta=beta, generator=seeded())
    assert noise.mean(dim=0).abs().max() < 5 / math.sqrt(ROWS)
    assert (noise.var(dim=0) - 1).abs().max() < 6 * math.sqrt(2 / ROWS)


@settings(max_examples=20, deadline=None)
@given(horizon=st.integers(2, 20), alpha=st.floats(0.0, 0.95))
def test_ar1_noise_has_unit_variance_and_its_correlation(horizon, alpha):
    noise = ar1_noise((ROWS, horizon, 1), alpha=alpha, generator=seeded())[..., 0]
    expected = alpha ** (torch.arange(horizon)[:, None] - torch.arange(horizon)).abs().double()
    covariance = torch.cov(noise.T).double().view(horizon, horizon)
    assert (covariance - expected).abs().max() < 7 * math.sqrt(2 / ROWS)


def test_ar1_noise_follows_its_recursion():
    draws = white_noise((3, 9, 2), generator=seeded())
    expected = [draws[:, 0]]
    for t in range(1, 9):
        expected.append(0.7 * expected[-1] + math.sqrt(1 - 0.49) * draws[:, t])
    noise = ar1_noise((3, 9, 2), alpha=0.7, generator=seeded())
    torch.testing.assert_close(noise, torch.stack(expected, dim=1))


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_the_power_spectrum_falls_as_the_frequency_to_minus_beta(beta):
    noise = coloured_noise((ROWS, 64, 1), beta=beta, generator=seeded())[..., 0]
    power = torch.fft.rfft(noise).abs().square().mean(dim=0)[1:-1]
    frequency = torch.fft.rfftfreq(64)[1:-1]
    slope = torch.linalg.lstsq(
        torch.stack([frequency.log(), torch.ones_like(frequency)], dim=1), power.log()[:, None]
    ).solution[0]
    assert slope.item() == pytest.approx(-beta, abs=0.05)


def test_a_brownian_walk_is_the_sum_of_its_increments_from_zero():
    increments = white_noise((5, 7, 2), generator=seeded())
    torch.testing.assert_close(brownian_walk((5, 7, 2), generator=seeded()), increments.cumsum(dim=1))


@pytest.mark.parametrize("spline", ["zero", "linear", "cubic"])
def test_spline_noise_passes_through_independent_draws_at_its_knots(spline):
    noise = spline_noise((ROWS, 16, 1), knots=4, spline=spline, generator=seeded())[..., 0]
    knots = knot_steps(16, 4, spline).long()  # whole steps here
    assert torch.equal(noise[:, knots], white_noise((ROWS, 4, 1), generator=seeded())[..., 0])
    expected = spline_matrix(16, 4, spline).square().sum(dim=1)  # of unit draws
    assert (noise.var(dim=0) / expected - 1).abs().max() < 6 * math.sqrt(2 / ROWS)
    assert noise.mean(dim=0).abs().max() < 5 / math.sqrt(ROWS)


def test_spline_noise_with_a_knot_a_step_is_white():
    white = white_noise((3, 5, 2), generator=seeded())
    torch.testing.assert_close(spline_noise((3, 5, 2), knots=5, spline="cubic", generator=seeded()), white)


@pytest.mark.parametrize(
    "noise",
    [
        white_noise,
        brownian_walk,
        lambda *a, **k: ar1_noise(*a, alpha=0.5, **k),
        lambda *a, **k: coloured_noise(*a, beta=1.0, **k),
        lambda *a, **k: spline_noise(*a, knots=3, spline="cubic", **k),
    ],
    ids=["white", "brownian", "ar1", "coloured", "spline"],
)
def test_noise_has_its_shape_and_dtype_and_comes_from_the_generator_alone(noise):
    torch.manual_seed(0)
    first = noise((2, 3, 5, 2), generator=seeded(7), dtype=torch.float64)
    torch.manual_seed(1)
    assert first.shape == (2, 3, 5, 2)
    assert first.dtype == torch.float64
    assert torch.equal(first, noise((2, 3, 5, 2), generator=seeded(7), dtype=torch.float64))
    assert not torch.equal(first, noise((2, 3, 5, 2), generator=seeded(8), dtype=torch.float64))


def test_settings_that_make_no_noise_are_refused():
    with pytest.raises(ValueError, match=r"alpha is 1\.0; expected 0"):
        ar1_noise((1, 3, 1), alpha=1.0, generator=seeded())
    with pytest.raises(ValueError, match=r"beta is -1; expected"):
        coloured_noise((1, 3, 1), beta=-1, generator=seeded())
    with pytest.raises(ValueError, match="knots is 4; expected at least 1 and at most the horizon"):
        spline_noise((1, 3, 1), knots=4, spline="zero", generator=seeded())
