"""Is a collection that is killed time and again the same as an undisturbed one?

200 short episodes over 50 walkers are collected undisturbed by one worker and by two, then by two of which,
at random moments, one is killed (``kill -9``), or their parent is, ten times in all; a killed parent is
started again with the same command. Arrays, episode by episode, have to be equal. Then the peak memory of the
parent and of a worker is measured for growing numbers of episodes. Takes some minutes.

    python benchmarks/collection_kill.py
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.collection.collection_manifest import default_name, write_manifest
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.index import data_sets, read_index
from tdm_agents.data.minari_io import describe, read_episodes
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import write_json
from tdm_envs.walkers import FAMILIES, sample_bodies

PLANNER = PlannerPolicy("mppi", {"horizon": 4, "num_samples": 8, "iterations": 1})


@dataclass(frozen=True)
class Settings:
    """How much is collected, and how often it is killed."""

    out: Path = Path("benchmarks/results/collection_kill.json")
    """Where to write the result."""
    bodies: int = 50
    """Walkers, over all families."""
    random_episodes: int = 3
    """Of each body."""
    planner_episodes: int = 1
    """Of each body."""
    max_steps: int = 30
    """Environment steps of an episode."""
    kills: int = 10
    """SIGKILLs."""
    seed: int = 0
    """Of the bodies, the episodes, and the moments and victims of the kills."""
    memory_episodes: tuple[int, ...] = (50, 200, 800)
    """Episodes of the runs whose memory is measured, of 5 steps."""


def datasets(settings: Settings) -> list[DatasetSpec]:
    """The collection that is killed."""
    share, rest = divmod(settings.bodies, len(FAMILIES))
    envs = [
        EnvRef(key.env_id, {"dof": key.dof, "body": key.body})
        for i, family in enumerate(FAMILIES)
        for key in sample_bodies(family, share + (i < rest), "train", settings.seed)
    ]
    return [
        DatasetSpec(
            name=default_name(env),
            env=env,
            mix=((RandomPolicy(), settings.random_episodes), (PLANNER, settings.planner_episodes)),
            max_steps=settings.max_steps,
            seed=settings.seed,
        )
        for env in envs
    ]


class Run:
    """``tdm collect`` in a process of its own, whose memory is watched."""

    def __init__(self, manifest: Path, out: Path, workers: int) -> None:
        words = ["collect", "--manifest", str(manifest), "--out", str(out), "--workers", str(workers)]
        self.out = out
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tdm_agents.cli.main", *words], stdout=subprocess.PIPE, text=True
        )
        self.peak = {"parent": 0.0, "worker": 0.0}

    def workers(self) -> list[int]:
        """Process ids; the resource tracker of multiprocessing is none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            pids = [int(pid) for pid in children.read_text().split()]
        except FileNotFoundError:
            return []
        return [pid for pid in pids if b"spawn_main" in _read(f"/proc/{pid}/cmdline")]

    def watch(self) -> Iterator[tuple[int, int]]:
        """:func:`progress`, until the process ends."""
        while self.process.poll() is None:
            for role, pids in (("parent", [self.process.pid]), ("worker", self.workers())):
                for pid in pids:
                    self.peak[role] = max(self.peak[role], _peak_megabytes(pid))
            yield progress(self.out)
            time.sleep(0.02)

    def finish(self) -> str:
        """Wait for the end; what the process said.

        Raises:
            RuntimeError: If it failed.
        """
        for _ in self.watch():
            pass
        said = self.process.communicate()[0]
        if self.process.returncode:
            raise RuntimeError(f"tdm collect ended with status {self.process.returncode}: {said}")
        return said


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _peak_megabytes(pid: int) -> float:
    lines = _read(f"/proc/{pid}/status").decode().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def progress(out: Path) -> tuple[int, int]:
    """Episodes in files of their own, and data sets that were made of such files."""
    return sum(1 for _ in out.glob("*/.episodes/*.safetensors")), sum(1 for _ in out.glob("*/data"))


def digest(out: Path) -> dict[str, list[str]]:
    """A hash of the arrays and the metadata of every episode, by data set."""
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


def undisturbed(manifest: Path, out: Path, workers: int, episodes: int) -> dict[str, Any]:
    """Collect in peace."""
    run = Run(manifest, out, workers)
    seen: list[tuple[float, int]] = []
    for shards, sets in run.watch():
        if shards and not sets and (not seen or shards > seen[-1][1]):
            seen.append((time.monotonic(), shards))
    run.finish()
    (begin, first), (end, last) = seen[0], seen[-1]
    entries = read_index(out)
    return {
        "workers": workers,
        "seconds": time.monotonic() - run.began,
        "episodes_a_minute": 60 * (last - first) / (end - begin),
        "peak_megabytes": run.peak,
        "episodes": episodes,
        "data_bytes": sum(entry.bytes for entry in entries),
    }


def disturbed(settings: Settings, manifest: Path, out: Path, episodes: int) -> dict[str, Any]:
    """Collect, and kill a worker or the parent at random moments."""
    rng = random.Random(settings.seed)
    each = settings.random_episodes + settings.planner_episodes
    # while episodes are played, and while data sets are made of them
    moments = sorted(rng.sample(range(1, episodes + settings.bodies), settings.kills))
    kills: list[dict[str, Any]] = []
    reported, starts = 0, 1
    run = Run(manifest, out, 2)
    for moment in moments:
        for shards, sets in run.watch():
            workers = run.workers()
            played = shards + each * sets >= episodes
            if shards + (each + 1) * sets >= moment and (played or len(workers) == 2):
                break
        else:
            raise RuntimeError(f"it ended before kill {len(kills) + 1}")
        time.sleep(rng.uniform(0.0, 0.01 if played else 0.1))
        victim = rng.choice(["parent", "worker"]) if workers else "parent"
        os.kill(run.process.pid if victim == "parent" else rng.choice(workers), signal.SIGKILL)
        kills.append({"victim": victim, "shards": shards, "data_sets": sets})
        if victim == "parent":
            said = run.process.communicate()[0]  # ends when the workers, who hold the pipe too, have ended
            reported += said.count("SIGKILL")
            run = Run(manifest, out, 2)
            starts += 1
    reported += run.finish().count("SIGKILL")
    return {"kills": kills, "starts": starts, "deaths_reported": reported}


def memory(work: Path, episodes: int) -> dict[str, Any]:
    """Peak memory for a number of episodes of one walker."""
    manifest = work / f"memory{episodes}.json"
    kwargs = {"dof": 12, "body": 3}
    dataset = DatasetSpec(name="tree", env=EnvRef("tdm/WalkerTree-v0", kwargs),
                      mix=((RandomPolicy(), episodes),), max_steps=5)  # fmt: skip
    write_manifest(manifest, [dataset])
    run = Run(manifest, work / f"memory{episodes}", 1)
    run.finish()
    return {"episodes": episodes, "peak_megabytes": run.peak}


def main(settings: Settings) -> None:
    """Collect, kill, compare, and keep."""
    wanted = datasets(settings)
    episodes = sum(sum(dataset.counts.values()) for dataset in wanted)
    work = Path(tempfile.mkdtemp(prefix="collection_kill"))
    try:
        manifest = work / "manifest.json"
        write_manifest(manifest, wanted)
        rates = [undisturbed(manifest, work / f"{n}", n, episodes) for n in (1, 2)]
        for rate in rates:
            print(f"{rate['workers']} workers: {rate['episodes_a_minute']:.0f} episodes a minute")
        killed = disturbed(settings, manifest, work / "killed", episodes)
        digests = {name: digest(work / name) for name in ("1", "2", "killed")}
        hashes = [h for several in digests["killed"].values() for h in several]
        equal = digests["killed"] == digests["1"] == digests["2"]
        files = {name: [entry.sha256 for entry in read_index(work / name)] for name in digests}
        print(f"{len(killed['kills'])} kills, {killed['starts']} starts: arrays equal: {equal}")
        measured = [memory(work, n) for n in settings.memory_episodes]
        for row in measured:
            print(f"{row['episodes']} episodes: at most {row['peak_megabytes']} MB")
    finally:
        shutil.rmtree(work)
    value = {
        "schema": 1,
        "settings": asdict(settings) | {"out": str(settings.out), "planner": asdict(PLANNER)},
        "undisturbed": rates,
        "killed": killed,
        "episodes": len(hashes),
        "different_episodes": len(set(hashes)),
        "arrays_equal": equal,
        "files_equal": files["killed"] == files["1"] == files["2"],
        "arrays_sha256": hashlib.sha256("".join(hashes).encode()).hexdigest(),
        "memory": measured,
        "provenance": provenance(),
    }
    write_json(settings.out, value)
    print(f"kept in {settings.out}")
    if not equal or len(set(hashes)) != episodes:
        raise SystemExit("the killed collection differs from the undisturbed one")


if __name__ == "__main__":
    main(tyro.cli(Settings))
