"""Does fitting before training (of ranges or a normaliser) take more memory with more data?

    python benchmarks/fit_memory.py

Data sets of growing size are in memory-mapped files, as in training. Each fit runs in its own process, whose
anonymous memory (which cannot be given back to files) is watched. Random numbers of a walker's size stand in
for data: the measurement does not depend on their values.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from gymnasium import spaces

from keep import result
from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo

MODELS = ("mlp", "transformer")


@dataclass(frozen=True)
class Settings:
    """Sizes of the data, and files."""

    out: Path = Path("benchmarks/results/fit_memory.json")
    """Where to write the result."""
    steps: tuple[int, ...] = (2_000_000, 8_000_000, 32_000_000)
    """Recorded steps per data set."""
    observation_dim: int = 24
    """Scalars per observation."""
    episode_steps: int = 1000
    """Steps per episode."""


def write_data(folder: Path, steps: int, settings: Settings) -> None:
    """Write random episodes as ``.npy`` files, one block at a time."""
    rng = np.random.default_rng(0)
    shapes = {"observation": (steps, settings.observation_dim), "reward": (steps,), "action": (steps, 21)}
    for name, shape in shapes.items():
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
        for first in range(0, steps, 100_000):
            block = array[first : first + 100_000]
            block[...] = rng.standard_normal(block.shape, np.float32).clip(-1, 1)
        array.flush()
    np.lib.format.open_memmap(folder / "alive.npy", "w+", bool, (steps,))[...] = True


def read_data(folder: Path, settings: Settings) -> Trajectories:
    """The episodes, memory-mapped."""
    names = ("observation", "reward", "action", "alive")
    arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names}
    steps = len(arrays["reward"])
    box = spaces.Box(-np.inf, np.inf, (settings.observation_dim,)), spaces.Box(-1.0, 1.0, (21,))
    offsets = np.arange(0, steps + 1, settings.episode_steps)
    return Trajectories.from_arrays(
        Decisions(**arrays), offsets=offsets, info=TrajectoryInfo("", *box, 1, ("random",))
    )


def anonymous_bytes() -> int:
    """Bytes of this process's memory that belong to no file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon: this runs on Linux")


def fit(folder: Path, model: str, settings: Settings) -> None:
    """Fit in this process, and print its time and memory as JSON."""
    from tdm_agents.training.model_choice import chosen_preset, trainable_class

    data = read_data(folder, settings)
    kind = trainable_class(model)
    built = kind.build({"any": data.spec}, chosen_preset(model, kind, None).config, seed=0)
    before, most, done = anonymous_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    built.fit({"any": data})
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    print(json.dumps({"peak_bytes": most - before, "seconds": seconds}))


def main(settings: Settings) -> None:
    """Measure every model on every data set."""
    rows = []
    for steps in settings.steps:
        with tempfile.TemporaryDirectory() as name:
            write_data(Path(name), steps, settings)
            for model in MODELS:
                words = [
                    sys.executable,
                    __file__,
                    "--fit",
                    name,
                    model,
                    json.dumps(asdict(settings), default=str),
                ]
                found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
                rows.append({"model": model, "steps": steps, **found})
                megabytes = found["peak_bytes"] / 1e6
                print(f"{model:12} {steps:>10,} steps {megabytes:7.1f} MB {found['seconds']:7.1f} s")
    result(settings.out, settings, rows=rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fit"]:
        given = json.loads(sys.argv[4]) | {"out": Path(), "steps": ()}
        fit(Path(sys.argv[2]), sys.argv[3], Settings(**given))
    else:
        main(tyro.cli(Settings))
