"""Is training by two processes of one thread as fast as by one of two threads, and does it learn the same?

Both use the same cores, data and settings, in turn: the two together, then the first of them alone with two
threads while the other waits. The time is that of the updates after the first few. Then a run by two
processes is asked to end in the middle (SIGTERM), and goes on; its weights are compared with those of the run
that was left alone. The reading of windows and the making of tokens are timed for themselves. The data are
random numbers of a walker's sizes: what is measured does not depend on them.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from keep import result

SKIPPED = 3


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        preset: Preset of the transformer.
        observation: ``n``.
        action: ``m``.
        batch_size: Windows per update.
        window_steps: Decisions per window.
        steps: Updates per run.
        rounds: Runs of each kind, in turn.
        out: The result.
    """

    preset: str = "small"
    observation: int = 24
    action: int = 6
    batch_size: int = 8
    window_steps: int = 8
    steps: int = 10
    rounds: int = 5
    out: Path = Path("benchmarks/results/torchrun_training.json")

    @property
    def tokens(self) -> int:
        """Tokens per update."""
        return self.batch_size * self.window_steps * (self.observation + self.action + 2)


def random_data(settings: Settings) -> Any:
    """Episodes of random numbers."""
    import numpy as np
    from gymnasium import spaces

    from tdm_agents.data.decisions import Decisions
    from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo

    rng, n, m, length, count = np.random.default_rng(0), settings.observation, settings.action, 60, 40
    observation, action = spaces.Box(-np.inf, np.inf, (n,), np.float32), spaces.Box(-1, 1, (m,), np.float32)
    rows = length * count
    steps = Decisions(
        rng.normal(size=(rows, n)).astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
        rng.uniform(-1, 1, (rows, m)).astype(np.float32),
        np.ones(rows, bool),
    )
    info = TrajectoryInfo("", observation, action, 1, ("random",))
    return Trajectories.from_arrays(steps, offsets=np.arange(count + 1) * length, info=info)


def member(folder: Path, settings: Settings) -> None:
    """One of the two processes: both train together, then the first alone, in turn; it prints JSON."""
    import io

    import torch
    from rich.console import Console
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from tdm_agents.data.windows import WindowSampler
    from tdm_agents.training.team import ALONE, launched
    from tdm_agents.training.train_config import TrainConfig
    from tdm_agents.training.trainer import train
    from tdm_agents.world_models.transformer.model import TransformerWorldModel
    from tdm_agents.world_models.transformer.presets import PRESETS

    data = random_data(settings)

    class Timed(WindowSampler):
        """Notes when each batch is asked for; ends the process softly at one of them."""

        def __init__(self, stop_at: int) -> None:
            super().__init__(data, steps=settings.window_steps, batch_size=settings.batch_size, seed=0)
            self.stop_at, self.times = stop_at, list[float]()

        def batch(self, index: int, *, part: int = 0, parts: int = 1) -> Any:
            self.times.append(time.perf_counter())
            if index == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(index, part=part, parts=parts)

    def trained(out: Path, team: Any, stop_at: int = -1) -> dict[str, Any]:
        config = TrainConfig(
            steps=settings.steps,
            batch_size=settings.batch_size,
            window_steps=settings.window_steps,
            warmup_steps=5,
            threads=2 // team.size,
            log_every=1,
            checkpoint_every=10**6,
        )
        model: Any = TransformerWorldModel.build({"": data.spec}, PRESETS[settings.preset].config, seed=0)
        model.fit({"": data})
        sampler = Timed(stop_at)
        train(model, sampler, None, config, out, team=team, console=Console(file=io.StringIO()))
        sampler.stop_at = -1
        if not team.first:
            return {}
        events = EventAccumulator(str(out))
        events.Reload()
        digest = hashlib.sha256()
        for value in model.state_dict().values():
            digest.update(value.numpy().tobytes())
        counted = sampler.times[SKIPPED:]
        return {
            "processes": team.size,
            "threads": 2 // team.size,
            "seconds_per_update": (counted[-1] - counted[0]) / (len(counted) - 1) if counted[1:] else None,
            "losses": [point.value for point in events.Scalars("train/loss")],
            "weights_sha256": digest.hexdigest(),
            **before_the_network(model, sampler),
        }

    rows = []
    with launched(torch.device("cpu"), wait_minutes=14.0) as team:
        for number in range(settings.rounds):
            rows.append({"round": number, **trained(folder / f"two-{number}", team)})
            if team.first:
                rows.append({"round": number, **trained(folder / f"one-{number}", ALONE)})
                print(
                    f"round {number}: {rows[-2]['seconds_per_update']:.3f} s with two processes",
                    file=sys.stderr,
                )
            team.wait()
        trained(folder / "resumed", team, settings.steps // 2)
        resumed = trained(folder / "resumed", team)
        if team.first:
            print(json.dumps({"rows": rows, "resumed": resumed}))


def before_the_network(model: Any, sampler: Any) -> dict[str, float]:
    """Seconds per update in which windows are read, and in which inputs and targets become tokens."""
    from tdm_agents.world_models.transformer.token_batch import step_tokens

    reading, tokens = [], []
    for index in range(20):
        began = time.perf_counter()
        batch = sampler.batch(index)
        read = time.perf_counter()
        step_tokens(model.tokenizer, batch.observation, batch.reward, batch.action)
        model.tokenizer.encode_target(batch.observation[:, :-1], batch.observation[:, 1:])
        model.tokenizer.encode_reward(batch.reward)
        model.tokenizer.encode_action(batch.action)
        reading.append(read - began)
        tokens.append(time.perf_counter() - read)
    return {"reading_seconds": statistics.median(reading), "token_seconds": statistics.median(tokens)}


def measured(folder: Path, settings: Settings) -> dict[str, Any]:
    """What the first of two processes says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    given = json.dumps(asdict(settings), default=str)
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--member", str(folder), given],
            env={**os.environ, **told, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError(f"a process of the benchmark failed: {said}")
    found: dict[str, Any] = json.loads(said[0])
    return found


def main(settings: Settings) -> None:
    """Runs in turn, then one that is interrupted."""
    with tempfile.TemporaryDirectory() as name:
        found = measured(Path(name), settings)
    rows, resumed = found["rows"], found["resumed"]

    def seconds(processes: int) -> float:
        return float(statistics.median(r["seconds_per_update"] for r in rows if r["processes"] == processes))

    def share(name: str) -> float:
        return float(
            statistics.median(r[name] / r["seconds_per_update"] for r in rows if r["processes"] == 1)
        )

    one, two = ([r for r in rows if r["processes"] == count] for count in (1, 2))
    apart = max(abs(a - b) for a, b in zip(one[0]["losses"], two[0]["losses"], strict=True))
    summary = {
        "tokens_per_update": settings.tokens,
        "tokens_per_second": {
            "one process": settings.tokens / seconds(1),
            "two": settings.tokens / seconds(2),
        },
        "two_processes_beside_one": statistics.median(
            a["seconds_per_update"] / b["seconds_per_update"] for a, b in zip(one, two, strict=True)
        ),
        "largest_difference_of_losses": apart,
        "share_of_reading": share("reading_seconds"),
        "share_of_making_tokens": share("token_seconds"),
        "same_weights_in_every_round": all(
            len({r["weights_sha256"] for r in kind}) == 1 for kind in (one, two)
        ),
        "resumed_to_the_same_bits": resumed["weights_sha256"] == two[0]["weights_sha256"],
    }
    print(json.dumps(summary, indent=1))
    result(settings.out, settings, summary=summary, rows=rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--member"]:
        member(Path(sys.argv[2]), Settings(**json.loads(sys.argv[3]) | {"out": Path()}))
    else:
        main(tyro.cli(Settings))
