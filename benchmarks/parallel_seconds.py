"""Where is it faster to guess the scalars of an imagined step together than one after another?

Decisions of one environment from held-out moments of trained models: the history is read once, K rows are
imagined over H steps with random shooting's actions, both ways in turn from the same moment; medians over the
moments. Whether both give the same is counted by ``benchmarks/parallel_decoding.py``.

    python benchmarks/parallel_seconds.py --checkpoints cartpole-swingup --data runs/make_checkpoint/data
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import tyro
from parallel_decoding import held_out_states, load_transformer, part_of, shooting_actions
from torch import Tensor

from tdm_agents.benchmark.allocation import keep_freed_memory
from tdm_agents.benchmark.clock import Stopwatch
from tdm_agents.evaluation.report import provenance
from tdm_agents.protocols import History
from tdm_agents.storage import read_json, write_json
from tdm_agents.world_models.transformer.decoding.options import Capture, Read
from tdm_agents.world_models.transformer.model import TransformerWorldModel

WAYS = {"one_by_one": False, "together": True}


@dataclass(frozen=True)
class Settings:
    """Which models, and what they imagine."""

    checkpoints: tuple[str, ...] = ("cartpole-swingup",)
    """Transformers, by name or folder."""
    data: tuple[Path, ...] = (Path("runs/make_checkpoint/data"),)
    """What each was trained on."""
    held_out_fraction: float = 0.05
    """Of the episodes, as in training."""
    data_seed: int = 0
    """Of the held-out choice, as in training."""
    moments: int = 7
    """Decisions that are timed."""
    horizon: int = 10
    """Steps of each."""
    rows: tuple[int, ...] = (1, 8, 32, 128)
    """Candidates of each."""
    decodings: tuple[Read, ...] = ("mean", "sample")
    """How scalars are read."""
    device: str = "cpu"
    """Where."""
    capture: Capture = "no"
    """Whether a captured step is replayed, both ways; forwards are not counted then."""
    threads: int = 1
    """PyTorch's threads."""
    out: Path = Path("benchmarks/results/parallel_seconds.json")
    """Where to write the result; other checkpoints' rows in it are kept."""


def decide(model: TransformerWorldModel, moment: History, actions: Tensor, seed: int) -> None:
    """Imagine ``actions[K, H, m]`` from one moment, as planners do."""
    device = actions.device
    state = model.start(moment, horizon=actions.shape[1])
    state = model.take(state, torch.zeros(len(actions), dtype=torch.int64, device=device))
    model.rollout(state, actions, generator=torch.Generator(device).manual_seed(seed))


def measured(model: TransformerWorldModel, history: History, actions: Tensor) -> dict[str, Any]:
    """Seconds of decisions, and forwards a step, both ways.

    Args:
        model: With the decoding that is measured.
        history: The moments, a row each.
        actions: ``[moments, K, H, m]``.
    """
    ways = {way: model.with_decoding(parallel=parallel) for way, parallel in WAYS.items()}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    forwards: dict[str, list[int]] = {way: [] for way in WAYS}
    watch = Stopwatch(model.spec.device)
    for other in ways.values():  # a first time, which does not count
        decide(other, part_of(history, slice(0, 1)), actions[0], seed=0)
    for i in range(history.batch):
        moment = part_of(history, slice(i, i + 1))
        for way in list(WAYS)[:: 1 if i % 2 else -1]:
            fed: list[int] = []
            with model.network.norm.register_forward_hook(lambda *_, fed=fed: fed.append(1)):
                watch.start()
                decide(ways[way], moment, actions[i], seed=i)
                seconds[way].append(watch.stop())
            forwards[way].append(len(fed))
    median = {way: statistics.median(seconds[way]) for way in WAYS}
    return {
        "seconds": seconds,
        "median_seconds": median,
        "times_one_by_one": median["one_by_one"] / median["together"],
        "forwards_a_step": None
        if model.config.decoding.capture != "no"
        else {way: statistics.mean(forwards[way]) / actions.shape[2] for way in WAYS},
    }


def main(settings: Settings) -> None:
    """Measure every checkpoint with every decoding and number of rows, print, and keep."""
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    rows: dict[str, Any] = read_json(settings.out, schema=1)["rows"] if settings.out.exists() else {}
    stated = {k: v for k, v in asdict(settings).items() if k not in ("out", "checkpoints", "data")}
    for name, data in zip(settings.checkpoints, settings.data, strict=True):
        model, folder = load_transformer(name)
        model = model.to(settings.device).with_decoding(capture=settings.capture)
        history = held_out_states(
            model,
            data,
            fraction=settings.held_out_fraction,
            seed=settings.data_seed,
            states=settings.moments,
            history_steps=model.spec.history_steps,
        )
        history = History(*(getattr(history, f.name).to(settings.device) for f in fields(History)))
        found: dict[str, dict[str, Any]] = {}
        for decoding in settings.decodings:
            found[decoding] = {}
            for count in settings.rows:
                actions = shooting_actions(model, rows=settings.moments * count, horizon=settings.horizon)
                actions = actions.view(settings.moments, count, *actions.shape[1:]).to(settings.device)
                row = measured(model.with_decoding(read=decoding), history, actions)
                found[decoding][str(count)] = row
                median, forwards = row["median_seconds"], row["forwards_a_step"] or {}
                said = ", ".join(
                    f"{way} {1e3 * median[way]:.0f} ms"
                    + (f" in {forwards[way]:.1f} forwards a step" if forwards else "")
                    for way in WAYS
                )
                times = row["times_one_by_one"]
                print(
                    f"{folder.name}, {decoding}, {count} rows: {said}: together {times:.2f} times as fast",
                    flush=True,
                )
        rows[folder.name] = {
            "settings": stated | {"data": str(data)},
            "observation_dim": model.spec.observation_dim,
            "action_dim": model.spec.action_dim,
            "history_steps": history.observation.shape[1],
            "decodings": found,
            "provenance": provenance(folder / "weights.safetensors"),
        }
        write_json(settings.out, {"schema": 1, "rows": rows})
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
