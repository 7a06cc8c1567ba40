from __future__ import annotations

import hashlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tdm_agents.actors.behaviour import BehaviourPolicy, PlannerPolicy, RandomPolicy
from tdm_agents.cli.collect_progress import Progress
from tdm_agents.cli.main import main
from tdm_agents.collection import seeds
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.collection_check import check
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.episode import play
from tdm_agents.collection.shard_store import ShardStore
from tdm_agents.collection.workers import EpisodeDone
from tdm_agents.data.minari_io import DataError, FlatEpisode, describe, read_episodes
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef, make_env

PENDULUM = "Pendulum-v1"
# real workers need a real main module; the delay makes sure that the parent can be killed half-way
SCRIPT = """
    import os, sys, time
    from dataclasses import dataclass
    from tdm_agents.collection.collecting import collect
    from tdm_agents.actors.behaviour import RandomPolicy
    from tdm_agents.collection.dataset_spec import DatasetSpec
    from tdm_agents.environments import EnvRef

    @dataclass(frozen=True)
    class Slow(RandomPolicy):
        def start(self, *args, **kwargs):
            time.sleep(float(os.environ["DELAY"]))
            return RandomPolicy.start(self, *args, **kwargs)

    if __name__ == "__main__":
        mix = ((Slow(), 4), (Slow(name="bold", min_scale=2.0), 2))
        dataset = DatasetSpec(env=EnvRef("Pendulum-v1"), mix=mix, action_repeat=4, seed=7, max_steps=50)
        collect(dataset, sys.argv[1], workers=2,
                watch=lambda done: print(done.policy, done.index, done.played, os.getpid(), flush=True))
"""


def start(script: Path, out: Path, *, delay: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), str(out)],
        env={**os.environ, "DELAY": str(delay)},
        stdout=subprocess.PIPE,
        text=True,
    )


def digests(episodes: list[FlatEpisode]) -> list[str]:
    return [
        hashlib.sha256(e.observation.tobytes() + e.action.tobytes() + e.reward.tobytes()).hexdigest()
        for e in episodes
    ]


def pendulum(*mix: tuple[BehaviourPolicy, int], **settings: Any) -> DatasetSpec:
    return DatasetSpec(env=EnvRef(PENDULUM), mix=mix or ((RandomPolicy(), 1),), **settings)


def alone(policy: BehaviourPolicy, index: int, **settings: Any) -> FlatEpisode:
    dataset = pendulum((policy, index + 1), action_repeat=4, **settings)
    return play(dataset.make_env(), dataset, policy, index)


def test_killed_and_resumed_equals_undisturbed(tmp_path):
    script, out = tmp_path / "script.py", tmp_path / "pendulum"
    script.write_text(textwrap.dedent(SCRIPT))

    first = start(script, out, delay=1.0)
    assert first.stdout is not None
    first.stdout.readline()  # one episode is done; the others wait
    first.send_signal(signal.SIGKILL)
    first.stdout.read()  # ends when the workers, who hold it too, have ended
    first.wait()
    kept = list((out / ".episodes").glob("*.safetensors"))
    assert 1 <= len(kept) < 6 and not (out / "data").exists()
    with pytest.raises(DataError, match="interrupted"):
        Trajectories.from_minari(out)

    second = start(script, out, delay=0.0)
    told, _ = second.communicate()
    assert second.returncode == 0
    assert told.count("False") == len(kept) and told.count("True") == 6 - len(kept)
    assert not (out / ".episodes").exists()

    undisturbed = [alone(RandomPolicy(), i, seed=7, max_steps=50) for i in range(4)]
    undisturbed += [alone(RandomPolicy("bold", min_scale=2.0), i, seed=7, max_steps=50) for i in range(2)]
    assert digests(list(read_episodes(describe(out / "data")))) == digests(undisturbed)
    assert len(set(digests(undisturbed))) == 6

    got = Trajectories.from_minari(out, action_repeat=4)
    assert got.info.env_id == PENDULUM
    assert got.num_decisions == 6 * 12  # 50 // 4


def test_a_finished_or_other_collection_is_recognised(tmp_path, capsys):
    dataset = pendulum((RandomPolicy(), 2), max_steps=8)
    told: list[EpisodeDone] = []
    with ThreadPool(1) as pool:  # in this process, through the interface of multiprocessing's
        out = collect(dataset, tmp_path / "p", pool=pool, watch=told.append)
    assert [done.env_steps for done in told] == [8, 8]
    before = (out / "main_data.hdf5").stat().st_mtime_ns
    assert collect(dataset, tmp_path / "p") == out
    command = ["collect", "--env-id", PENDULUM, "--random-episodes", "2", "--planner-episodes", "0"]
    command += ["--action-repeat", "1"]
    assert main([*command, "--max-steps", "8", "--out", str(tmp_path / "p")]) == 0
    assert "complete already" in " ".join(capsys.readouterr().out.split())
    assert (out / "main_data.hdf5").stat().st_mtime_ns == before
    assert main([*command, "--max-steps", "9", "--out", str(tmp_path / "p")]) == 2
    assert "max_steps 8, now 9" in capsys.readouterr().err
    with pytest.raises(DataError, match="was collected with seed 0, now 1"):
        collect(replace(dataset, seed=1), tmp_path / "p")
    with pytest.raises(DataError, match="episodes"):
        collect(pendulum((RandomPolicy(), 3), max_steps=8), tmp_path / "p")
    with pytest.raises(ValueError, match="different names"):
        replace(dataset, mix=dataset.mix * 2)


def test_data_from_before_a_planner_had_a_setting_are_still_its_own(tmp_path):
    policy = PlannerPolicy("random_shooting", {"horizon": 2, "num_samples": 3})
    dataset = DatasetSpec(env=EnvRef("InvertedPendulum-v5"), mix=((policy, 1),), max_steps=4)
    metadata = collect(dataset, tmp_path / "p") / "metadata.json"
    stored = json.loads(metadata.read_text())
    collection = json.loads(stored["collection"])
    settings = collection["settings"]["policies"]["planner"]["settings"]
    assert settings.pop("noise_scale") == math.sqrt(2.0)
    metadata.write_text(json.dumps({**stored, "collection": json.dumps(collection)}))
    assert check([dataset], tmp_path / "p") == []
    other = PlannerPolicy("random_shooting", {**policy.settings, "noise_scale": 2.0})
    with pytest.raises(DataError, match=r"noise_scale 1\.41.*, now 2\.0"):
        check([replace(dataset, mix=((other, 1),))], tmp_path / "p")


def test_episodes_differ_by_key_and_avoid_evaluation_seeds():
    policy = RandomPolicy()
    base = alone(policy, 0, seed=0)
    assert len(base.reward) == 200 and not base.terminated
    assert digests([base]) == digests([alone(policy, 0, seed=0)])
    others = [alone(policy, 1, seed=0), alone(policy, 0, seed=1), alone(replace(policy, name="x"), 0, seed=0)]
    assert len(set(digests([base, *others]))) == 4
    for episode in (base, *others):
        assert episode.seed is not None
        assert seeds.COLLECTION_FIRST <= episode.seed <= seeds.COLLECTION_LAST
    assert seeds.EVALUATION_LAST < seeds.TUNING_FIRST <= seeds.TUNING_LAST < seeds.COLLECTION_FIRST


def test_recorded_actions_are_those_executed_and_held():
    episode = alone(RandomPolicy(), 3, seed=0)
    assert episode.action.shape == (200, 1) and np.abs(episode.action).max() <= 2.0
    np.testing.assert_array_equal(episode.action[::4], episode.action[3::4])

    env = make_env(PENDULUM)
    observation, _ = env.reset(seed=episode.seed)
    np.testing.assert_array_equal(observation, episode.observation[0])
    for step, action in enumerate(episode.action):
        observation, reward, *_ = env.step(action)
        np.testing.assert_array_equal(observation, episode.observation[step + 1])
        assert np.float32(reward) == episode.reward[step]


def test_random_policy_ranges_from_gentle_to_bang_bang_and_is_correlated():
    env = make_env(PENDULUM)
    sizes, steps = [], []
    for index in range(60):
        actor = RandomPolicy().start(env, np.random.default_rng(index), ref=EnvRef(PENDULUM), action_repeat=4)
        moves = [actor.actor.act([np.zeros(3, np.float32)], [0.0], [True]) for _ in range(200)]
        actions = np.stack([move.codes[0] for move in moves])[:, 0]
        assert actions.dtype == np.float32 and np.abs(actions).max() <= 1
        sizes.append((np.abs(actions) == 1).mean())
        steps.append((actor.drawn["correlation"], np.corrcoef(actions[1:], actions[:-1])[0, 1]))
    assert min(sizes) == 0 and max(sizes) > 0.6
    drawn, measured = np.transpose(steps)
    assert np.corrcoef(drawn, measured)[0, 1] > 0.9
    with pytest.raises(ValueError, match="max_correlation"):
        RandomPolicy(max_correlation=1.0)


def test_planner_policy_plays_and_repeats_itself():
    env_id = "dm_control/cartpole-swingup-v0"
    settings = {"horizon": 5, "num_samples": 4, "iterations": 1}
    policy = PlannerPolicy("mppi", settings, noise_sds=(0.3,), burst_episodes=1.0, burst_rate=0.2)
    dataset = DatasetSpec(env=EnvRef(env_id), mix=((policy, 1),), action_repeat=4, max_steps=80)
    env = dataset.make_env()
    played = [play(env, dataset, policy, 0) for _ in range(2)]
    assert digests(played[:1]) == digests(played[1:])
    assert played[0].metadata["noise_sd"] == 0.3 and played[0].metadata["burst_rate"] == 0.2
    assert np.abs(played[0].action).max() <= 1
    assert policy.settings["num_samples"] == 4 and "temperature" in policy.settings
    with pytest.raises(TypeError, match="no setting"):
        PlannerPolicy("mppi", {"samples": 4})


def test_progress_shows_rate_time_left_and_returns():
    times = iter([0.0, 30.0])
    progress = Progress({"random": 4, "planner": 2}, clock=lambda: next(times))
    progress.add(EpisodeDone("", "random", 0, 10, 5.0, (), played=False))
    progress.add(EpisodeDone("", "planner", 0, 10, 600.0, (), played=True))
    screen = io.StringIO()
    Console(file=screen, width=80).print(progress.table())
    assert "2 of 6 episodes, 2.0 per minute, 120 s left" in screen.getvalue()
    assert "600.0" in screen.getvalue() and "1/4" in screen.getvalue()


def test_the_folder_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPool(1) as pool:
        out = collect(pendulum(max_steps=4), Path("a/b"), pool=pool)
    assert Trajectories.from_minari("a/b").num_decisions == 4
    assert out.exists()


class ElsewherePool:
    """Plays in this process, as machines do that do not see the folder of the collection."""

    def __init__(self, fail_at=None):
        self.fail_at = fail_at

    def imap_unordered(self, func, iterable, chunksize=1):
        for number, job in enumerate(iterable):
            if number == self.fail_at:
                raise KeyboardInterrupt
            yield func(replace(job, shards=Path("/nowhere/to/be/seen")))


FEW = DatasetSpec(env=EnvRef(PENDULUM), mix=((RandomPolicy(), 5),), max_steps=20)


def test_machines_without_a_common_folder_hand_over_episodes_at_a_url(tmp_path):
    collect(FEW, tmp_path / "one")
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    (bucket / "other.safetensors").write_text("of somebody else")
    store = ShardStore(f"file://{bucket}")
    with pytest.raises(KeyboardInterrupt):
        collect(FEW, tmp_path / "lost", pool=ElsewherePool(fail_at=2), store=store)
    assert len(list(bucket.glob("*-0*.safetensors"))) == 2
    # goes on in another folder, as after the loss of the machine that collected
    played = []
    collect(FEW, tmp_path / "two", pool=ElsewherePool(), store=store, watch=played.append)
    assert sum(not done.played for done in played) == 2
    one, two = (list(read_episodes(describe(tmp_path / name / "data"))) for name in ("one", "two"))
    assert digests(one) == digests(two)
    assert [path.name for path in bucket.iterdir()] == ["other.safetensors"]
    # episodes of other settings are refused
    with pytest.raises(KeyboardInterrupt):
        collect(FEW, tmp_path / "three", pool=ElsewherePool(fail_at=1), store=store)
    with pytest.raises(DataError, match="was collected with seed"):
        collect(replace(FEW, seed=99), tmp_path / "four", pool=ElsewherePool(), store=store)
