"""Several environments as one source of windows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from tdm_agents.data.decisions import Decisions
from tdm_agents.data.minari_io import DataError
from tdm_agents.data.mixture import MixtureSampler, by_environment, shares
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo


def trajectories(env_id="", n=1, *, steps=10, count=2, value=0.0, **env_kwargs):
    flat = Decisions(
        np.full((count * steps, n), value, np.float32),
        np.zeros(count * steps, np.float32),
        np.zeros((count * steps, 1), np.float32),
        np.ones(count * steps, bool),
    )
    info = TrajectoryInfo(env_id, spaces.Box(-1, 1, (n,)), spaces.Box(-1, 1, (1,)), 1, ("",), env_kwargs)
    return Trajectories.from_arrays(flat, offsets=np.arange(count + 1) * steps, info=info)


def test_data_sets_of_one_environment_are_joined_and_others_kept_apart():
    a, b, c = trajectories("A-v0", 2), trajectories("B-v0", 3), trajectories("A-v0", 2, count=5)
    found = by_environment([a, b, c])
    assert list(found) == ["A-v0", "B-v0"]
    assert (found["A-v0"].num_episodes, found["B-v0"].num_episodes) == (7, 2)


def test_bodies_are_named_by_the_arguments_that_are_not_registered():
    import tdm_envs  # noqa: F401  (registers the walkers)

    bodies = [
        trajectories("tdm/WalkerTree-v0", family="tree", dof=5, body=1),
        trajectories("tdm/WalkerTree-v0", body=2, dof=5, family="tree"),
        trajectories("Unknown-v0", dof=5),
    ]
    names = ["tdm/WalkerTree-v0 body=1 dof=5", "tdm/WalkerTree-v0 body=2 dof=5", "Unknown-v0 dof=5"]
    assert list(by_environment(bodies)) == names


def test_environments_that_only_their_spaces_tell_apart_are_refused():
    with pytest.raises(
        DataError, match=r"several data sets are of 'A-v0' .*data set 1 .*has observation_space"
    ):
        by_environment([trajectories("A-v0", 2), trajectories("A-v0", 3)])
    with pytest.raises(DataError, match="name at least one"):
        by_environment([])


def test_shares_are_the_transitions_unless_weights_are_given():
    data = {"a": trajectories(steps=11, count=3), "b": trajectories(steps=11, count=1)}
    assert shares(data) == {"a": 0.75, "b": 0.25}
    assert shares(data, {"b": 3, "a": 1}) == {"a": 0.25, "b": 0.75}
    with pytest.raises(ValueError, match="weights are for a; expected one for each of a, b"):
        shares(data, {"a": 1})
    with pytest.raises(ValueError, match=r"the weight of b is 0; expected a positive number"):
        shares(data, {"a": 1, "b": 0})


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    batch_size=st.integers(1, 40),
    index=st.integers(0, 1000),
)
def test_every_batch_is_whole_and_near_the_shares(weights, batch_size, index):
    names = [f"e{i}" for i in range(len(weights))]
    data = {name: trajectories(n=i + 1, value=i) for i, name in enumerate(names)}
    sampler = MixtureSampler(
        data, weights=dict(zip(names, weights, strict=True)), steps=3, batch_size=batch_size, seed=0
    )
    batch = sampler.batch(index)
    assert batch.windows == batch_size
    for i, name in enumerate(names):
        part = batch.parts.get(name)
        count = 0 if part is None else len(part.reward)
        assert abs(count - sampler.shares[name] * batch_size) < 1 + 1e-6
        if part is not None:
            assert part.observation.shape == (count, 3, i + 1)
            assert (part.observation[part.valid] == i).all()


def test_shares_are_kept_on_average_where_a_batch_is_too_small_for_all():
    data = {name: trajectories(n=i + 1) for i, name in enumerate("abc")}
    sampler = MixtureSampler(data, weights={"a": 1, "b": 2, "c": 7}, steps=2, batch_size=2, seed=1)
    counts = dict.fromkeys(data, 0)
    for index in range(2000):
        for name, part in sampler.batch(index).parts.items():
            counts[name] += len(part.reward)
    np.testing.assert_allclose([counts[name] / 4000 for name in "abc"], [0.1, 0.2, 0.7], atol=0.01)


def test_a_batch_is_a_function_of_seed_and_index():
    rng = np.random.default_rng(0)
    data = {}
    for i, name in enumerate("ab"):
        one = trajectories(n=i + 1, steps=30)
        noise = rng.normal(size=one.parts[0].observation.shape).astype(np.float32)
        parts = (dataclasses.replace(one.parts[0], observation=noise),)
        data[name] = dataclasses.replace(one, parts=parts)

    def batches(seed):
        return MixtureSampler(data, steps=4, batch_size=6, seed=seed).batch(7).parts

    first, again, other = batches(3), batches(3), batches(4)
    assert all(torch.equal(first[name].observation, again[name].observation) for name in first)
    assert not torch.equal(first["a"].observation[:2], other["a"].observation[:2])
