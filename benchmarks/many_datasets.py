"""What training on thousands of data sets costs before the first update: files, memory, seconds.

Tiny Minari data sets of many walkers are made (one is written, the others are copies whose metadata name
other bodies), with an index over all. Processes of their own then start as ``tdm train`` does: the first
makes the caches of decision steps, the second finds them. Where there are more than a few hundred data sets,
their caches are copies as well. Open files, mappings, memory and seconds are counted after the start and
after some batches of the mixture. Everything is removed at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from keep import result

STEPS, EPISODES = 40, 4


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        counts: Numbers of data sets, the smallest first: with as many, a start makes all caches.
        batches: Batches that are read after the start.
        batch_size: Windows per batch.
        window_steps: Decisions per window.
        extrapolate: Number of data sets to which the largest measurement is extrapolated.
        terabytes: Size of all their decision steps.
        folder: Where the data are made; a temporary folder by default.
        out: The result.
    """

    counts: tuple[int, ...] = (100, 2000)
    batches: int = 20
    batch_size: int = 128
    window_steps: int = 8
    extrapolate: int = 10_000
    terabytes: float = 1.0
    folder: Path | None = None
    out: Path = Path("benchmarks/results/many_datasets.json")


def make(folder: Path, count: int, *, caches: bool) -> None:
    """``count`` data sets and their index; and their caches, where asked for."""
    import gymnasium as gym
    import numpy as np

    import tdm_envs  # noqa: F401  (registers the walkers)
    from tdm_agents.data.decisions import SCHEMA, cache_decisions
    from tdm_agents.data.index import IndexEntry, write_index
    from tdm_agents.data.minari_io import FlatEpisode, content_hash, write_dataset
    from tdm_agents.environments import EnvRef

    env = gym.make("tdm/WalkerTree-v0", dof=6, body=0)
    n, m = len(env.observation_space.sample()), len(env.action_space.sample())
    rng = np.random.default_rng(0)
    episodes = [
        FlatEpisode(
            rng.normal(size=(STEPS + 1, n)).astype(np.float32),
            rng.uniform(-1, 1, (STEPS, m)).astype(np.float32),
            rng.normal(size=STEPS).astype(np.float32),
            terminated=False,
        )
        for _ in range(EPISODES)
    ]
    kwargs: dict[str, Any] = {"dof": 6, "body": 0}
    said = {"env_id": "tdm/WalkerTree-v0", "env_kwargs": kwargs}
    metadata = {"collection": json.dumps({"settings": said})}
    first = write_dataset(folder / "body-0", env, episodes, description="synthetic", metadata=metadata)
    raw = json.loads((first / "metadata.json").read_text())
    cache = cache_decisions(first, action_repeat=1) if caches else None
    entries = []
    for body in range(count):
        data = folder / f"body-{body}" / "data"
        kwargs = {"dof": 6, "body": body}
        if body:
            shutil.copytree(first, data)
            told = {"settings": {**said, "env_kwargs": kwargs}}
            (data / "metadata.json").write_text(json.dumps({**raw, "collection": json.dumps(told)}))
        digest = content_hash(data)
        if cache is not None and body:
            key = hashlib.sha256(f"{SCHEMA}:1:{digest}".encode()).hexdigest()[:16]
            copied = shutil.copytree(cache, data.parent / cache.parent.name / key)
            info = json.loads((cache / "info.json").read_text())
            (copied / "info.json").write_text(json.dumps({**info, "env_kwargs": kwargs, "source": digest}))
        size = sum(file.stat().st_size for file in data.iterdir())
        ref = EnvRef.of("tdm/WalkerTree-v0", kwargs, source="")
        entries.append(IndexEntry(f"body-{body}/data", ref, EPISODES, EPISODES * STEPS, size, digest))
    write_index(folder, entries)


def used() -> dict[str, int]:
    """Open files, mappings, and memory that belongs to no file, of this process now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "open_files": len(os.listdir("/proc/self/fd")),
        "mappings": len(Path("/proc/self/maps").read_text().splitlines()),
        "anonymous_bytes": int(status["RssAnon"].split()[0]) * 1024,
        "peak_resident_bytes": int(status["VmHWM"].split()[0]) * 1024,
    }


def start(folder: Path, settings: dict[str, Any]) -> None:
    """Start as ``tdm train`` does, read batches, and print what that took as JSON."""
    from tdm_agents.data.mixture import MixtureSampler, by_environment
    from tdm_agents.data.trajectories import Trajectories

    before, began = used(), time.perf_counter()
    data = by_environment(Trajectories.each_from_minari([folder]))
    read = time.perf_counter()
    training = {name: t.split(0.25, 0)[0] for name, t in data.items()}
    specs = {name: t.spec for name, t in training.items()}
    size = {"steps": settings["window_steps"], "batch_size": settings["batch_size"], "seed": 0}
    sampler = MixtureSampler(training, **size)
    ready, started = time.perf_counter(), used()
    for index in range(settings["batches"]):
        sampler.batch(index)
    seconds = (time.perf_counter() - ready) / settings["batches"]
    found = {
        "environments": len(specs),
        "seconds_to_read": read - began,
        "seconds_to_start": ready - began,
        "seconds_per_batch": seconds,
        "after_imports": before,
        "after_start": started,
        "after_batches": used(),
    }
    print(json.dumps(found))


def measured(folder: Path, settings: Settings) -> dict[str, Any]:
    """What a process of its own prints; None where it failed, with its last words."""
    words = {"window_steps": settings.window_steps, "batch_size": settings.batch_size}
    given = json.dumps({**words, "batches": settings.batches})
    done = subprocess.run(
        [sys.executable, __file__, "--start", str(folder), given], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:300]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def extrapolated(few: dict[str, Any], many: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A start with more data sets: ``value(N) = value(b) + (N - b) (value(b) - value(a)) / (b - a)``."""
    a, b, count = few["environments"], many["environments"], settings.extrapolate

    def at(first: float, second: float) -> float:
        return float(second + (count - b) * (second - first) / (b - a))

    one, other = few["found_caches"], many["found_caches"]
    values: dict[str, Any] = {
        name: at(one[name], other[name]) for name in ("seconds_to_start", "seconds_per_batch")
    }
    values |= {
        name: round(at(one["after_batches"][name], other["after_batches"][name]))
        for name in ("open_files", "mappings", "anonymous_bytes")
    }
    return {
        "data_sets": count,
        "formula": "value(N) = value(b) + (N - b) (value(b) - value(a)) / (b - a), for a and b measured",
        "bytes_of_decision_steps": settings.terabytes * 1e12,
        "bytes_per_data_set": settings.terabytes * 1e12 / count,
        "bytes_of_steps_read_at_start": 0,
        "bytes_read_and_written_by_the_first_start": "every byte, to hash it and to make caches",
        "seconds_to_make_caches": few["first_start"]["seconds_to_start"] / a * count,
        **values,
    }


def main(settings: Settings) -> None:
    """Make, measure, remove."""
    rows = []
    for count in settings.counts:
        with tempfile.TemporaryDirectory(dir=settings.folder) as name:
            began = time.perf_counter()
            copied = count != min(settings.counts)
            make(Path(name), count, caches=copied)
            row: dict[str, Any] = {"environments": count, "seconds_to_make": time.perf_counter() - began}
            row["first_start"] = {"caches_are_copies": copied, **measured(Path(name), settings)}
            row["found_caches"] = measured(Path(name), settings)
            print(json.dumps(row, indent=1), flush=True)
            rows.append(row)
    result(settings.out, settings, rows=rows, extrapolated=extrapolated(rows[0], rows[-1], settings))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--start"]:
        start(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        main(tyro.cli(Settings))
