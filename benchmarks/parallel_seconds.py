"""When is it faster to guess the scalars of an imagined step together than one after another?

Decisions of one environment are timed from held-out moments, with trained models: the history is read once,
and K rows are imagined over H steps with random shooting's actions, both ways in turn from the same moment.
Medians are over the moments. That both ways give the same is tested
(``tests/tdm_agents/test_parallel_decoding.py``).

    python benchmarks/parallel_seconds.py --checkpoints cartpole-swingup --data runs/make_checkpoint/data
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from speed.clock import Stopwatch
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import starts
from tdm_agents.evaluation.report import provenance
from tdm_agents.protocols import History
from tdm_agents.storage import read_json, write_json
from tdm_agents.world_models.transformer.decoding.options import Capture, Read
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_planners.random_shooting import RandomShooting

WAYS = {"one_by_one": False, "together": True}


@dataclass(frozen=True)
class Settings:
    """Models, decisions and files."""

    checkpoints: tuple[str, ...] = ("cartpole-swingup",)
    """Transformers by name or folder."""
    data: tuple[Path, ...] = (Path("runs/make_checkpoint/data"),)
    """The data set on which each was trained."""
    held_out_fraction: float = 0.05
    """Fraction of the episodes that is held out, as in training."""
    data_seed: int = 0
    """Seed of the held-out choice, as in training."""
    moments: int = 7
    """Number of decisions that are timed."""
    horizon: int = 10
    """Imagined steps per decision."""
    rows: tuple[int, ...] = (1, 8, 32, 128)
    """Candidates per decision."""
    decodings: tuple[Read, ...] = ("mean", "sample")
    """How scalars are read."""
    device: str = "cpu"
    """Where."""
    capture: Capture = "no"
    """Whether both ways replay a captured step; forwards are then not counted."""
    threads: int = 1
    """PyTorch's threads."""
    out: Path = Path("benchmarks/results/parallel_seconds.json")
    """Where to write the result; rows of other checkpoints in it are kept."""


def load_transformer(name: str) -> tuple[TransformerWorldModel, Path]:
    """A transformer by name or folder, and its folder."""
    folder = resolve(name)
    model = load_model(folder, "cpu")
    if not isinstance(model, TransformerWorldModel):
        raise SystemExit(f"{name} is a {type(model).__name__}; expected a transformer of one environment")
    return model, folder


def held_out_states(
    model: TransformerWorldModel, data: Path, *, fraction: float, seed: int, states: int, history_steps: int
) -> History:
    """Distinct moments of episodes that the model was not trained on.

    Args:
        model: The model.
        data: The data on which it was trained.
        fraction: Fraction of the episodes that is held out.
        seed: Seed of that choice.
        states: Number of moments.
        history_steps: Steps per moment, the present one included, if the model sees as many.
    """
    trajectories = Trajectories.from_minari(data, action_repeat=model.spec.action_repeat)
    _, held_out = trajectories.split(fraction, seed)
    steps = min(history_steps, model.spec.history_steps)
    found = starts(held_out, count=states, steps=steps, seed=0)
    return History(found.observation, found.reward, found.action[:, :-1], torch.full((states,), steps))


def shooting_actions(model: TransformerWorldModel, *, rows: int, horizon: int) -> Tensor:
    """Random shooting's actions, ``[rows, horizon, m]``."""
    noise = RandomShooting(horizon=horizon)
    shape = (rows, horizon, model.spec.action_dim)
    walks = noise.plain_noise(shape, torch.Generator().manual_seed(0), torch.float32)
    return (noise.noise_scale * walks).clamp(-1.0, 1.0)


def part_of(history: History, rows: slice) -> History:
    """The given rows of a history."""
    return History(
        history.observation[rows], history.reward[rows], history.action[rows], history.length[rows]
    )


def decide(model: TransformerWorldModel, moment: History, actions: Tensor, seed: int) -> None:
    """Imagine ``actions[K, H, m]`` from one moment, as planners do."""
    device = actions.device
    state = model.start(moment, horizon=actions.shape[1])
    state = model.take(state, torch.zeros(len(actions), dtype=torch.int64, device=device))
    model.rollout(state, actions, generator=torch.Generator(device).manual_seed(seed))


def measured(model: TransformerWorldModel, history: History, actions: Tensor) -> dict[str, Any]:
    """Seconds of decisions, and forwards per step, both ways.

    Args:
        model: The model, with the decoding that is measured.
        history: The moments, one per row.
        actions: ``[moments, K, H, m]``.
    """
    ways = {way: model.with_decoding(parallel=parallel, bf16=False) for way, parallel in WAYS.items()}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    forwards: dict[str, list[int]] = {way: [] for way in WAYS}
    watch = Stopwatch(model.spec.device)
    for other in ways.values():  # the first time does not count
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
    """Measure every checkpoint with every decoding and number of rows, print and keep."""
    torch.set_num_threads(settings.threads)
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
                    + (f" in {forwards[way]:.1f} forwards per step" if forwards else "")
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
