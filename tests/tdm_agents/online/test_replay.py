"""The replay memory: what is sampled, what is forgotten, and what a run that was killed finds again."""

import errno
import os

import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents.online.replay import PlayedEpisode, Replay
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.storage import CheckpointError

SPEC = spec_of(spaces.Box(-1e3, 1e3, (2,)), spaces.Box(-1, 1, (1,)))


def memory(folder, *, capacity=100, slack=100, fresh=True):
    return Replay(folder, SPEC, capacity=capacity, slack=slack, fresh=fresh)


def episode(number, decisions, *, terminated=False):
    """An episode in which every number tells the episode and the step."""
    step = np.arange(decisions + 1, dtype=np.float32)
    return PlayedEpisode(
        observation=np.stack([np.full_like(step, number), step], axis=1),
        action=(step[:-1, None] + 1) / 100,
        reward=10 * number + step[1:],
        terminated=terminated,
    )


def equal(one, other):
    return (
        np.array_equal(one.observation, other.observation)
        and np.array_equal(one.action, other.action)
        and np.array_equal(one.reward, other.reward)
        and one.terminated == other.terminated
    )


def test_windows_are_of_one_episode_and_padded_beyond_its_end(tmp_path):
    replay = memory(tmp_path)
    replay.add([episode(1, 5, terminated=True), episode(2, 3), episode(3, 1, terminated=True)])
    batch = replay.batch(np.random.default_rng(0), 500, 4)
    numbers, steps = batch.observation.numpy()[..., 0], batch.observation.numpy()[..., 1]
    valid, acted, alive = batch.valid.numpy(), batch.acted.numpy(), batch.alive.numpy()
    length = np.array([0, 5, 3, 1])[numbers[:, 0].astype(int)][:, None]  # in decisions
    step = steps[:, :1] + np.arange(4)
    assert (valid == (step <= length)).all() and (acted == (step < length)).all()
    assert (numbers[valid] == np.broadcast_to(numbers[:, :1], valid.shape)[valid]).all()
    assert (steps[valid] == step[valid]).all() and not batch.observation.numpy()[~valid].any()
    ended = valid & (step == length) & (numbers[:, :1] != 2)  # episode 2 was cut off
    assert (alive == (valid & ~ended)).all()
    assert np.allclose(batch.action.numpy()[..., 0], np.where(acted, (step + 1) / 100, 0))
    expected = np.where(valid & (step > 0), 10 * numbers[:, :1] + step, np.nan)
    assert np.array_equal(batch.reward.numpy(), expected.astype(np.float32), equal_nan=True)


def test_windows_begin_at_all_decisions_equally_often(tmp_path):
    replay = memory(tmp_path)
    replay.add([episode(0, 1), episode(1, 7), episode(2, 2)])
    assert (replay.decisions, replay.episodes) == (10, 3)
    first = replay.batch(np.random.default_rng(0), 20_000, 2).observation.numpy()[:, 0].astype(int)
    starts, counts = np.unique(first, axis=0, return_counts=True)
    assert {tuple(s) for s in starts} == {(n, t) for n, d in ((0, 1), (1, 7), (2, 2)) for t in range(d)}
    assert abs(counts - 2000).max() < 200


def test_the_oldest_episodes_are_forgotten_and_the_arrays_do_not_grow(tmp_path):
    replay = memory(tmp_path, capacity=20, slack=10)
    size = (tmp_path / "observation.npy").stat().st_size
    all_of_them = [episode(i, 1 + i % 7, terminated=i % 2 == 0) for i in range(60)]
    for i, one in enumerate(all_of_them):
        replay.add([one])
        kept = [replay.episode(j) for j in range(replay.episodes)]
        latest = all_of_them[i + 1 - len(kept) : i + 1]
        assert all(equal(a, b) for a, b in zip(kept, latest, strict=True))
        entries = [len(e.reward) + 1 for e in all_of_them[: i + 1]]
        fits = max(n for n in range(1, i + 2) if sum(entries[-n:]) <= 20)
        assert len(kept) == fits
    assert (tmp_path / "observation.npy").stat().st_size == size


def test_a_batch_is_a_function_of_its_generator_and_the_episodes(tmp_path):
    one, other = memory(tmp_path / "one"), memory(tmp_path / "other", capacity=50)
    for replay in (one, other):
        replay.add([episode(1, 5), episode(2, 3)])
    batches = [replay.batch(np.random.default_rng(7), 9, 3) for replay in (one, other)]
    assert (batches[0].observation == batches[1].observation).all()
    assert not (batches[0].observation == one.batch(np.random.default_rng(8), 9, 3).observation).all()


def test_a_record_is_found_again_whatever_was_added_after_it(tmp_path):
    replay = memory(tmp_path, capacity=20, slack=12)
    for i in range(9):
        replay.add([episode(i, 4)])
    record, kept = replay.record(), [replay.episode(j) for j in range(replay.episodes)]
    replay.add([episode(70, 5), episode(71, 5)])  # 12 entries: as many as the slack
    again = memory(tmp_path, capacity=20, slack=12, fresh=False)
    again.restore(record)
    assert all(equal(again.episode(j), one) for j, one in enumerate(kept))
    again.add([episode(9, 4)])
    assert equal(again.episode(again.episodes - 1), episode(9, 4))


def test_what_was_altered_is_refused(tmp_path):
    replay = memory(tmp_path)
    replay.add([episode(1, 5), episode(2, 5)])
    record = replay.record()
    with pytest.raises(CheckpointError, match="expected float32 \\(150, 2\\)"):
        memory(tmp_path, slack=50, fresh=False)
    reward = np.lib.format.open_memmap(tmp_path / "reward.npy", "r+")
    reward[8] += 1
    reward.flush()
    with pytest.raises(CheckpointError, match="differs from its record at entry 6"):
        memory(tmp_path, fresh=False).restore(record)
    with pytest.raises(CheckpointError, match="not readable"):
        replay.restore({"next": 3})
    (tmp_path / "action.npy").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"action.npy cannot be read"):
        memory(tmp_path, fresh=False)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="of Linux")
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path, monkeypatch):
    replay = memory(tmp_path)

    def full(file, offset, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        replay.add([episode(1, 3)])
    assert replay.episodes == 0


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="of Linux")
def test_room_is_taken_for_what_is_added_also_where_it_goes_on_at_the_beginning(tmp_path, monkeypatch):
    replay = memory(tmp_path, capacity=20, slack=10)
    replay.add([episode(1, 19)])
    taken = []
    monkeypatch.setattr(os, "posix_fallocate", lambda _file, offset, length: taken.append((offset, length)))
    replay.add([episode(2, 14)])  # entries 20 to 34 of 30
    header = np.load(tmp_path / "observation.npy", mmap_mode="r").offset
    assert taken[:2] == [(header + 20 * 8, 10 * 8), (header, 5 * 8)]  # two float32 per entry
    assert len(taken) == 6  # observations, actions, rewards


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="of Linux")
def test_a_file_system_that_cannot_take_room_is_used_without(tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unable)
    replay = memory(tmp_path)
    replay.add([episode(1, 3)])
    assert equal(replay.episode(0), episode(1, 3))


def test_an_episode_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="20 decisions does not fit in a replay memory of 20 entries"):
        memory(tmp_path, capacity=20).add([episode(0, 20)])
