from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler, sequential, starts
from tdm_agents.protocols import Batch

NAN = float("nan")
INFO = TrajectoryInfo(
    env_id="",
    observation_space=spaces.Box(-np.inf, np.inf, (1,)),
    action_space=spaces.Box(-1.0, 1.0, (1,)),
    action_repeat=1,
    source=("",),
)


def trajectories(*lengths: int, terminated: bool = False) -> Trajectories:
    """Episodes of so many steps; the observation is the step's number, the action 1/100 of it."""
    offsets = np.append(0, np.cumsum(lengths))
    number = np.arange(offsets[-1], dtype=np.float32)
    reward, action, alive = -number, number[:, None] / 100, np.ones(len(number), bool)
    reward[offsets[:-1]] = np.nan
    action[offsets[1:] - 1] = 0
    alive[offsets[1:] - 1] = not terminated
    return Trajectories.from_arrays(
        Decisions(number[:, None], reward, action, alive), offsets=offsets, info=INFO
    )


def tensors(batch: Batch) -> list[torch.Tensor]:
    return [getattr(batch, name) for name in Batch.__slots__ if name not in ("example", "rows", "counts")]


def test_windows_golden():
    data = trajectories(3, 5, terminated=True)
    got = data.windows(np.array([0, 1, 1]), np.array([1, 0, 3]), steps=4)

    expected = Batch(
        observation=torch.tensor([[1.0, 2, 0, 0], [3, 4, 5, 6], [6, 7, 0, 0]])[..., None],
        reward=torch.tensor([[-1, -2, NAN, NAN], [NAN, -4, -5, -6], [-6, -7, NAN, NAN]]),
        action=torch.tensor([[0.01, 0, 0, 0], [0.03, 0.04, 0.05, 0.06], [0.06, 0, 0, 0]])[..., None],
        alive=torch.tensor([[True, False, False, False], [True] * 4, [True, False, False, False]]),
        valid=torch.tensor([[True, True, False, False], [True] * 4, [True, True, False, False]]),
        acted=torch.tensor([[True, False, False, False], [True] * 4, [True, False, False, False]]),
    )
    for mine, theirs in zip(tensors(got), tensors(expected), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


def test_an_end_earns_what_it_is_said_to_earn_and_a_cut_does_not():
    ended, cut = trajectories(3, 5, terminated=True), trajectories(4)
    both = Trajectories.concatenate([ended, cut])
    other = both.with_terminal_reward(-100.0)
    for index, (last, expected) in enumerate([(-2.0, -102.0), (-7.0, -107.0), (-3.0, -3.0)]):
        before, after = both.episode(index).reward, other.episode(index).reward
        assert (before[-1], after[-1]) == (last, expected)
        np.testing.assert_array_equal(before[:-1], after[:-1])
    window = other.with_returns(0.5).windows(np.array([0]), np.array([0]), steps=3)
    assert window.to_go.tolist() == [[-1.0 + 0.5 * -102.0, -102.0, 0.0]]
    with pytest.raises(ValueError, match="the terminal reward is nan; expected a finite number"):
        both.with_terminal_reward(NAN)
    with pytest.raises(ValueError, match=r"returns are there already; expected with_returns\(\) afterwards"):
        both.with_returns(0.5).with_terminal_reward(-1.0)


def test_windows_of_several_parts_equal_those_of_each():
    a, b = trajectories(3, 5), trajectories(4)
    both = Trajectories.concatenate([a, b]).with_returns(0.9)
    a, b = a.with_returns(0.9), b.with_returns(0.9)
    got = both.windows(np.array([2, 1]), np.array([1, 0]), steps=4)
    for mine, first, second in zip(
        tensors(got),
        tensors(b.windows(np.array([0]), np.array([1]), steps=4)),
        tensors(a.windows(np.array([1]), np.array([0]), steps=4)),
        strict=True,
    ):
        torch.testing.assert_close(mine, torch.cat([first, second]), equal_nan=True)


def test_a_batch_is_a_function_of_seed_and_index():
    data = trajectories(30, 50, 20)
    sampler = WindowSampler(data, steps=8, batch_size=16, seed=3)
    later = sampler.batch(7)
    sampler.batch(0)
    fresh = WindowSampler(data, steps=8, batch_size=16, seed=3).batch(7)
    for mine, theirs in zip(tensors(later), tensors(fresh), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(later.observation, sampler.batch(8).observation)
    other = WindowSampler(data, steps=8, batch_size=16, seed=4).batch(7)
    assert not torch.equal(later.observation, other.observation)


def test_every_step_with_a_successor_starts_windows_equally_often():
    batch = WindowSampler(trajectories(3, 1, 5), steps=2, batch_size=60_000, seed=0).batch(0)
    number, count = np.unique(batch.observation[:, 0, 0].numpy(), return_counts=True)
    np.testing.assert_array_equal(number, [0, 1, 4, 5, 6, 7])  # not the last steps 2, 3, 8
    np.testing.assert_allclose(count, 10_000, rtol=0.05)
    assert batch.valid.all()


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    steps=st.integers(2, 9),
    batch_size=st.integers(1, 5),
)
def test_sequential_sees_every_transition_once(lengths, steps, batch_size):
    data = trajectories(*lengths)
    seen: list[int] = []
    for batch in sequential(data, steps=steps, batch_size=batch_size):
        transition = batch.acted[:, :-1] & batch.valid[:, 1:]
        seen += batch.observation[:, :-1, 0][transition].int().tolist()
        assert batch.valid[:, :2].all() and len(batch.observation) <= batch_size
    ends = set(np.cumsum(lengths) - 1)
    assert seen == [step for step in range(sum(lengths)) if step not in ends]


def test_starts_are_distinct_whole_windows():
    data = trajectories(6, 3, 8)
    batch = starts(data, count=6, steps=5, seed=1)  # 2 + 0 + 4 exist
    assert batch.valid.all() and batch.acted[:, :-1].all()
    assert batch.observation[:, 0, 0].tolist() == [0, 1, 9, 10, 11, 12]
    few = starts(data, count=3, steps=5, seed=1).observation
    torch.testing.assert_close(few, starts(data, count=3, steps=5, seed=1).observation)
    with pytest.raises(ValueError, match="6 exist in 3 episodes"):
        starts(data, count=7, steps=5, seed=1)
    with pytest.raises(ValueError, match="longest has 8"):
        starts(data, count=1, steps=9, seed=1)


def test_senseless_settings_are_refused():
    data = trajectories(4)
    with pytest.raises(ValueError, match="steps=1"):
        WindowSampler(data, steps=1, batch_size=4, seed=0)
    with pytest.raises(ValueError, match="no episode has 2 steps"):
        WindowSampler(trajectories(1, 1), steps=4, batch_size=4, seed=0)
    with pytest.raises(ValueError, match="offsets run from"):
        Trajectories.from_arrays(data.parts[0], offsets=np.array([0, 3]), info=INFO)
