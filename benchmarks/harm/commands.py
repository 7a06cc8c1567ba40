"""Commands of ``tdm`` in processes of their own, which start in a moment because the imports are done."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tdm_agents.cli.main import main
from tdm_agents.data.index import data_sets
from tdm_agents.data.minari_io import describe, read_episodes
from tdm_agents.training import run_state

# before a process is forked, so that it starts in a moment
IMPORTED = [
    "harm.commands",
    "tdm_agents.cli.train",
    "tdm_agents.cli.compare",
    "tdm_agents.cli.collect",
    "tdm_agents.comparison.comparison_plot",
    "tdm_agents.world_models.mlp",
    "tdm_agents.world_models.transformer.model",
    "tdm_planners.random_shooting",
    "tdm_envs",
    "gymnasium.envs.classic_control.pendulum",
    "torch._dynamo",  # which the first optimizer imports
]
ENV_ID = "Pendulum-v1"
TRANSFORMER = (
    *("--model", "transformer", "--model-settings", "layers", "1", "width", "16", "heads", "2"),
    *("feedforward", "16", "context", "40", "tokenizer.bins", "64"),
)
MLP = ("--model", "mlp", "--model-settings", "hidden", "8", "layers", "1")


def train_words(data: Path, out: Path, model: str, *, steps: int = 60) -> list[str]:
    """A small training that writes a checkpoint at every update."""
    kind = MLP if model == "mlp" else TRANSFORMER
    return [
        *("train", "--data", str(data), "--out", str(out), *kind, "--action-repeat", "1"),
        *("--steps", str(steps), "--checkpoint-every", "1", "--batch-size", "4", "--window-steps", "4"),
        *("--horizons", "1", "2", "--starts", "4", "--context-steps", "2", "--held-out-fraction", "0.3"),
        *("--evaluate-batches", "1", "--planner", "random_shooting"),
    ]


def collect_words(out: Path, episodes: int, *, workers: int = 1) -> list[str]:
    """Short random episodes."""
    return [
        *("collect", "--env-id", ENV_ID, "--out", str(out), "--random-episodes", str(episodes)),
        *("--planner-episodes", "0", "--action-repeat", "1", "--max-steps", "20"),
        *("--workers", str(workers)),
    ]


def compare_words(out: Path, episodes: int = 60) -> list[str]:
    """Two contestants, whose batches of one episode are kept one by one."""
    return [
        *("compare", "--entry", "random", "--entry", "random label=again", "--env-id", ENV_ID),
        *("--episodes", str(episodes), "--batch", "1", "--max-steps", "20", "--out", str(out)),
    ]


class Started:
    """A command under way.

    Args:
        words: After ``tdm``.
        said: File of what it says.
    """

    def __init__(self, words: Iterable[str], said: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        self.said = said
        self.process: BaseProcess = context.Process(target=_run, args=(list(words), str(said)))
        self.process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def until(self, when: Callable[[], bool], *, seconds: float = 120.0) -> bool:
        """Wait until ``when()``; whether the process was alive then."""
        end = time.monotonic() + seconds
        while self.process.is_alive() and time.monotonic() < end:
            if when():
                return True
            time.sleep(0.001)
        return False

    def send(self, number: int) -> None:
        """Send a signal to the process alone."""
        os.kill(self.pid, number)

    def end(self, *, seconds: float = 900.0) -> tuple[int | None, str]:
        """Wait for the end; the exit status, and what was said. None: it hung, and was killed."""
        self.process.join(seconds)
        status = self.process.exitcode
        if status is None:
            self.process.kill()
            self.process.join()
        text = self.said.read_text() if self.said.exists() else ""
        return status, f"{text}\n(status {status})"

    def workers(self) -> list[int]:
        """Process ids of a collection's workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        pids = children.read_text().split() if children.exists() else []
        return [int(pid) for pid in pids if "spawn_main" in _command_line(int(pid))]


def complete(words: Iterable[str], said: Path) -> tuple[int | None, str]:
    """Run a command to its end."""
    return Started(words, said).end()


def step_of(out: Path) -> int:
    """Updates that the checkpoint in a folder holds; -1 without one. Checks that it is whole."""
    return run_state.load(out).step if run_state.exists(out) else -1


def played(out: Path) -> int:
    """Episodes that a collection keeps until it is done."""
    return sum(1 for _ in out.glob(".episodes/*.safetensors"))


def progress_of(out: Path) -> int:
    """How far a training (updates), collection (episodes) or comparison (batches) has got; -1: nowhere."""
    pointer = out / "checkpoint.json"
    if pointer.exists():  # it alone is read: a training that runs replaces what it points to
        return int(json.loads(pointer.read_text())["step"])
    return (played(out) or sum(1 for _ in out.glob("parts/*.json"))) or -1


def pointer_time(out: Path) -> int:
    """When the present checkpoint was switched to; 0 without one."""
    try:
        return (out / "checkpoint.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def weights_of(out: Path) -> str:
    """A hash of the trained weights."""
    return hashlib.sha256((out / "weights.safetensors").read_bytes()).hexdigest()


def episodes_of(out: Path) -> list[str]:
    """A hash of each collected episode."""
    found = []
    for path in data_sets(out):
        for episode in read_episodes(describe(path)):
            arrays = (episode.observation, episode.action, episode.reward)
            found.append(hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())
    return found


def scores_of(out: Path) -> Any:
    """The returns of a comparison, by contestant."""
    value = json.loads((out / "comparison.json").read_text())
    return _returns(value)


def litter(out: Path) -> list[str]:
    """Half-written files in a folder."""
    return sorted(str(path.relative_to(out)) for path in out.rglob("*.partial*"))


def _returns(value: Any) -> Any:
    if isinstance(value, dict):
        if "return" in value:
            return value["return"]
        found = {key: _returns(one) for key, one in value.items()}
        return {key: one for key, one in found.items() if one not in (None, {}, [])}
    if isinstance(value, list):
        return [one for one in map(_returns, value) if one not in (None, {}, [])]
    return None


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _run(words: list[str], said: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the fork server ignores it
    os.environ["COLUMNS"] = "1000"  # no line is broken
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(main(words))
