import json
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.evaluation.statistics import interval, iqm, mean, share

SCORES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


def test_iqm_drops_a_quarter_at_either_end():
    assert iqm([100, 1, 2, 3, 4, 5, 6, -100]) == pytest.approx(3.5)
    assert iqm([0.0, 3.0, 6.0]) == 3.0
    np.testing.assert_allclose(iqm(np.array([[0, 1, 2, 9], [4, 4, 4, 4]])), [1.5, 4.0])


@settings(deadline=None)  # the first call imports scipy
@given(SCORES)
def test_iqm_is_scipys_trimmed_mean(scores):
    stats = pytest.importorskip("scipy.stats")
    assert iqm(scores) == pytest.approx(stats.trim_mean(scores, 0.25), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(SCORES, st.sampled_from([mean, iqm]))
def test_an_interval_lies_within_the_scores_and_repeats(scores, statistic):
    found = interval(scores, statistic, resamples=200, seed=3)
    slack = 1e-9 * max(1.0, *np.abs(scores))
    assert min(scores) - slack <= found.low <= found.high <= max(scores) + slack
    assert found == interval(scores, statistic, resamples=200, seed=3)


def test_an_interval_of_the_mean_agrees_with_theory():
    scores = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    found = interval(scores.tolist(), mean)
    error = scores.std() / np.sqrt(scores.size)
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(scores.mean() - 1.96 * error, abs=0.03)
    assert found.high == pytest.approx(scores.mean() + 1.96 * error, abs=0.03)


def test_tasks_are_resampled_within_themselves():
    # between the tasks lies all the spread, within them none: nothing is uncertain
    found = interval([[0.0] * 5, [100.0] * 5], mean, resamples=500)
    assert (found.value, found.low, found.high) == (50.0, 50.0, 50.0)
    pooled = interval([0.0] * 5 + [100.0] * 5, mean, resamples=500)
    assert pooled.low < 50.0 < pooled.high


def test_a_higher_level_is_wider():
    scores = list(np.random.default_rng(1).normal(size=20))
    narrow, wide = (interval(scores, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("scores", [[], [[]], [[1.0], []]])
def test_no_scores_are_refused(scores):
    with pytest.raises(ValueError, match="no scores"):
        interval(scores)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="expected finite returns"):
        interval([1.0, bad])


def test_a_level_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"level 95"):
        interval([1.0], level=95)


RLIABLE = json.loads((Path(__file__).parent / "rliable_reference.json").read_text())


def assert_close(found, theirs, *resamples):
    """Compares a value with rliable's, and an interval up to the randomness of so many resamples of either.

    An end is a quantile of random replicates: n draws of a normal distribution place it within this part of
    their deviation, which is a quarter of the interval.
    """
    assert found["value"] == pytest.approx(theirs["value"], abs=1e-12)
    tail, density = 0.025, np.exp(-(1.96**2) / 2) / np.sqrt(2 * np.pi)
    error = np.sqrt(tail * (1 - tail) * sum(1 / n for n in resamples)) / density
    slack = 4 * error * (theirs["high"] - theirs["low"]) / 4
    assert found["low"] == pytest.approx(theirs["low"], abs=slack)
    assert found["high"] == pytest.approx(theirs["high"], abs=slack)


@pytest.mark.parametrize("case", RLIABLE["cases"], ids=lambda case: case["name"])
@pytest.mark.parametrize("statistic", [mean, iqm])
def test_values_and_stratified_intervals_are_rliables(case, statistic):
    found = interval(case["scores"], statistic, level=RLIABLE["level"], resamples=30_000)
    ends = {"value": found.value, "low": found.low, "high": found.high}
    assert_close(ends, case[statistic.__name__], RLIABLE["resamples"], 30_000)


def test_the_reference_tells_strata_from_one_pool():
    # else agreement with it would say nothing about the strata
    case = next(c for c in RLIABLE["cases"] if c["name"] == "three tasks")
    pooled = interval(np.ravel(case["scores"]).tolist(), mean)
    assert pooled.high - pooled.low > 2 * (case["mean"]["high"] - case["mean"]["low"])


@pytest.mark.slow  # a minute, of which installing takes most; needs a package index
@pytest.mark.timeout(900)
def test_the_reference_is_what_rliable_says(tmp_path):
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / "bin" / "python"
    packages = [f"{name}=={version}" for name, version in RLIABLE["versions"].items() if name != "python"]
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    script = Path(__file__).parents[1] / "support" / "rliable_reference.py"
    said = json.loads(subprocess.run([python, script], capture_output=True, check=True).stdout)
    for own, theirs in zip(RLIABLE["cases"], said["cases"], strict=True):
        np.testing.assert_allclose(own["scores"], theirs["scores"])
        for name in ("mean", "iqm"):
            assert_close(theirs[name], own[name], RLIABLE["resamples"], RLIABLE["resamples"])


# Wilson's intervals as in Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I
@pytest.mark.parametrize(
    ("successes", "runs", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_share_has_wilsons_interval(successes, runs, low, high):
    found = share([1.0] * successes + [0.0] * (runs - successes))
    assert found.value == successes / runs
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    other = share([0.0] * successes + [1.0] * (runs - successes))
    assert (1.0 - other.high, 1.0 - other.low) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("bad", [[], [0.0, 0.5], [2.0]])
def test_what_is_no_success_or_failure_is_refused(bad):
    with pytest.raises(ValueError, match="each 0 or 1"):
        share(bad)
