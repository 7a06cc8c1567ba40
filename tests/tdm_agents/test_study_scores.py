"""Normalised returns and planning gaps: known answers."""

import pytest

from tdm_agents.errors import TDMError
from tdm_agents.studies.scores import has_scale, middle, normalised, planning_gap

RANDOM = {"a": [0.0, 2.0], "b": [10.0, 10.0]}  # means 1 and 10
REFERENCE = {"a": [5.0, 7.0], "b": [30.0, 50.0]}  # means 6 and 40


def test_the_ends_of_the_scale_are_random_and_reference():
    scale = {"random": RANDOM, "reference": REFERENCE}
    assert normalised({"a": [1.0, 6.0], "b": [25.0]}, **scale) == {"a": [0.0, 1.0], "b": [0.5]}
    for ends, mean in ((RANDOM, 0.0), (REFERENCE, 1.0)):
        for scores in normalised(ends, **scale).values():
            assert sum(scores) / len(scores) == pytest.approx(mean)


def test_a_gap_is_taken_seed_by_seed():
    found = planning_gap({"a": [5.0, 2.0], "b": [0.0, 50.0]}, random=RANDOM, reference=REFERENCE)
    assert found == {"a": [0.0, 1.0], "b": [1.0, 0.0]}
    with pytest.raises(TDMError, match="expected the same seeds"):
        planning_gap({"a": [5.0]}, random=RANDOM, reference=REFERENCE)


def test_a_task_in_which_the_reference_is_no_better_has_no_scale():
    worse = {**REFERENCE, "b": [10.0, 10.0]}
    assert has_scale(["a"], random=RANDOM, reference=worse)
    assert not has_scale(["a", "b"], random=RANDOM, reference=worse)
    with pytest.raises(TDMError, match="b has no scale"):
        normalised({"b": [1.0]}, random=RANDOM, reference=worse)


def test_the_middle_pools_tasks_and_its_interval_is_stratified():
    # the interquartile mean of 0, 0, 0, 0, 1, 1, 1, 1 leaves two out at either end
    found = middle({"a": [0.0] * 4, "b": [1.0] * 4})
    assert (found.value, found.low, found.high, found.level) == (0.5, 0.5, 0.5, 0.95)
    spread = middle({"a": [0.0, 4.0, 8.0, 100.0]})
    assert spread.value == 6.0 and spread.low < 6.0 < spread.high
