"""A collection that is killed time and again is the same as an undisturbed one, and its memory is bounded.

`tdm collect` in processes of its own: undisturbed with one worker, then with two of which, at random moments,
one is killed (`kill -9`), or their parent is; a killed parent is started again with the same command.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.collection.collection_manifest import default_name, write_manifest
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.index import data_sets, read_index
from tdm_agents.data.minari_io import describe, read_episodes
from tdm_agents.environments import EnvRef
from tdm_envs.walkers import FAMILIES, sample_bodies

pytestmark = [
    pytest.mark.slow,  # a minute of processor time together
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc"),
]
PLANNER = PlannerPolicy("mppi", {"horizon": 4, "num_samples": 8, "iterations": 1})
RANDOM_EPISODES, PLANNER_EPISODES = 3, 1
EACH = RANDOM_EPISODES + PLANNER_EPISODES
BODIES = 20
KILLS = 6


def datasets():
    """Short episodes over walkers of every family."""
    keys = [key for family in FAMILIES for key in sample_bodies(family, BODIES // len(FAMILIES), "train", 0)]
    envs = [EnvRef(key.env_id, {"dof": key.dof, "body": key.body}) for key in keys]
    return [
        DatasetSpec(
            name=default_name(env),
            env=env,
            mix=((RandomPolicy(), RANDOM_EPISODES), (PLANNER, PLANNER_EPISODES)),
            max_steps=30,
        )
        for env in envs
    ]


class Run:
    """`tdm collect` in a process of its own, whose memory is watched."""

    def __init__(self, manifest, out, workers):
        words = ["collect", "--manifest", str(manifest), "--out", str(out), "--workers", str(workers)]
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tdm_agents.cli.main", *words], stdout=subprocess.PIPE, text=True
        )
        self.peak_megabytes = 0.0

    def workers(self):
        """Process ids; the resource tracker of multiprocessing is none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = [int(pid) for pid in read(children).split()]
        return [pid for pid in pids if b"spawn_main" in read(f"/proc/{pid}/cmdline")]

    def watch(self):
        """Episodes in files of their own, and data sets made of such files, until the process ends."""
        while self.process.poll() is None:
            lines = read(f"/proc/{self.process.pid}/status").decode().splitlines()
            peak = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
            self.peak_megabytes = max(self.peak_megabytes, peak)
            yield (
                sum(1 for _ in self.out.glob("*/.episodes/*.safetensors")),
                sum(1 for _ in self.out.glob("*/data")),
            )
            time.sleep(0.02)

    def finish(self):
        """Wait for the end; what the process said."""
        for _ in self.watch():
            pass
        said = self.process.communicate()[0]
        assert self.process.returncode == 0, said
        return said


def read(path):
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def digest(out):
    """A hash of the arrays and the ends of every episode, by data set."""
    found = {}
    for path in data_sets(out):
        hashes = []
        for episode in read_episodes(describe(path)):
            content = hashlib.sha256(str(episode.terminated).encode())
            for array in (episode.observation, episode.action, episode.reward):
                content.update(str((array.dtype, array.shape)).encode() + array.tobytes())
            hashes.append(content.hexdigest())
        found[path.relative_to(out).as_posix()] = hashes
    return found


def collect_and_kill(manifest, out):
    """Collect, and kill a worker or the parent at random moments; who was killed, and deaths reported."""
    rng = random.Random(0)
    episodes = BODIES * EACH
    # while episodes are played, and while data sets are made of them
    moments = sorted(rng.sample(range(1, episodes + BODIES), KILLS))
    victims, reported = [], 0
    run = Run(manifest, out, 2)
    for moment in moments:
        for shards, sets in run.watch():
            workers = run.workers()
            played = shards + EACH * sets >= episodes
            if shards + (EACH + 1) * sets >= moment and (played or len(workers) == 2):
                break
        else:
            pytest.fail(f"it ended before kill {len(victims) + 1}")
        time.sleep(rng.uniform(0.0, 0.01 if played else 0.1))
        victim = "parent" if not workers else rng.choice(["parent", "worker"])
        os.kill(run.process.pid if victim == "parent" else rng.choice(workers), signal.SIGKILL)
        victims.append(victim)
        if victim == "parent":
            said = run.process.communicate()[0]  # ends when the workers, who hold the pipe too, have ended
            reported += said.count("SIGKILL")
            run = Run(manifest, out, 2)
    return victims, reported + run.finish().count("SIGKILL")


def test_a_collection_killed_again_and_again_equals_an_undisturbed_one(tmp_path):
    manifest = tmp_path / "manifest.json"
    write_manifest(manifest, datasets())
    Run(manifest, tmp_path / "one", 1).finish()
    victims, reported = collect_and_kill(manifest, tmp_path / "killed")
    assert set(victims) == {"parent", "worker"} and reported <= victims.count("worker")
    undisturbed, killed = digest(tmp_path / "one"), digest(tmp_path / "killed")
    assert killed == undisturbed
    hashes = [one for several in killed.values() for one in several]
    assert len(set(hashes)) == len(hashes) == BODIES * EACH
    files = [[entry.sha256 for entry in read_index(tmp_path / name)] for name in ("one", "killed")]
    assert files[0] == files[1]


def test_memory_does_not_grow_with_the_number_of_episodes(tmp_path):
    peaks = []
    for episodes in (50, 400):
        tree = DatasetSpec(
            name="tree",
            env=EnvRef("tdm/WalkerTree-v0", {"dof": 12, "body": 3}),
            mix=((RandomPolicy(), episodes),),
            max_steps=5,
        )
        manifest = tmp_path / f"{episodes}.json"
        write_manifest(manifest, [tree])
        run = Run(manifest, tmp_path / f"{episodes}", 1)
        run.finish()
        peaks.append(run.peak_megabytes)
    few, many = peaks
    assert 0 < many < few + 20, peaks  # MB; 350 episodes more
