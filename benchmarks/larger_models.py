"""Transformers of larger bodies, made from nothing: the suite's walker, and a procedural one with 16 hinges.

``benchmarks/parallel_seconds.py`` needs trained models with many observation scalars, and states that they
were not trained on. This collects and trains one body after another, in one process with one thread; if
interrupted, the same command goes on. The network is that of the preset ``small`` with a band of three whole
steps. Every setting is frozen here. Nothing is shipped: data and models stay in ``--work``.

    python benchmarks/larger_models.py

The seconds that are kept were measured with ``MALLOC_MMAP_THRESHOLD_=4294967296`` and
``MALLOC_TRIM_THRESHOLD_=8589934592``, settings of glibc for freed memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from make_checkpoint import timed
from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.report import provenance
from tdm_agents.storage import read_json, write_json
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import train
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.presets import CONFIGS
from tdm_envs.walkers import sample_bodies

RANDOM_EPISODES = 120
CONTEXT_STEPS = 3
HELD_OUT_FRACTION = 0.1
DATA_SEED = 0
FOUND_FILE = "found.json"


@dataclass(frozen=True)
class Body:
    """A body, with the settings of its collection and training."""

    dataset: DatasetSpec
    training: TrainConfig


def dataset(
    env_id: str, disturbed: PlannerPolicy, episodes: int, repeat: int, **env_kwargs: int
) -> DatasetSpec:
    """Episodes of 1000 environment steps, of correlated noise and of a disturbed planner."""
    return DatasetSpec(
        env=EnvRef(env_id, env_kwargs),
        mix=((RandomPolicy(), RANDOM_EPISODES), (disturbed, episodes)),
        action_repeat=repeat,
        max_steps=1000,
    )


def training(steps: int, batch_size: int) -> TrainConfig:
    """The training settings of the shipped checkpoint, with other numbers of updates and windows."""
    return TrainConfig(
        steps=steps,
        batch_size=batch_size,
        window_steps=8,
        learning_rate=3e-3,
        bf16=True,
        evaluate_every=500,
        horizons=(1, 5, 10),
        context_steps=CONTEXT_STEPS,
    )


PLANNER = {"iterations": 1, "initial_std": 0.5, "temperature": 0.3, "execute": "mean"}
STAND = PlannerPolicy(
    settings=PLANNER | {"num_samples": 24, "horizon": 10, "noise_knots": 4}, name="walker-stand"
)
WALK = PlannerPolicy(
    settings=PLANNER | {"num_samples": 20, "horizon": 8, "noise_knots": 3}, guide=0.3, name="walker-tree"
)
(TREE,) = sample_bodies("tree", 1, "train", 0, dof=16)
BODIES = {
    "walker-stand": Body(
        dataset("dm_control/walker-stand-v0", STAND, episodes=20, repeat=4),
        training(steps=4000, batch_size=12),
    ),
    "walker-tree-16": Body(
        dataset(TREE.env_id, WALK, episodes=24, repeat=3, dof=TREE.dof, body=TREE.body),
        training(steps=3000, batch_size=6),
    ),
}


@dataclass(frozen=True)
class Settings:
    """Bodies and files."""

    bodies: tuple[str, ...] = tuple(BODIES)
    """Bodies to make, of those defined here."""
    work: Path = Path("runs/larger_models")
    """Models (one folder per body) and their data (`data/BODY`); an interrupted run goes on from there."""
    out: Path = Path("benchmarks/results/larger_models.json")
    """Settings, held-out metrics, seconds and hashes; rows of other bodies in it are kept."""


@contextmanager
def stage(folder: Path, name: str) -> Iterator[None]:
    """Add the seconds of a stage to those of the body, even if it is interrupted."""
    began = time.monotonic()
    try:
        yield
    finally:
        timed(folder / "seconds.json", name, time.monotonic() - began)


def trained(body: Body, data: Trajectories, folder: Path, console: Console) -> dict[str, float]:
    """The metrics of the last evaluation, after training or from a finished training."""
    found = folder / FOUND_FILE
    if not found.exists():
        kept, held_out = data.split(HELD_OUT_FRACTION, DATA_SEED)
        tokens = data.spec.observation_dim + data.spec.action_dim + 2
        config = replace(CONFIGS["small"], context=CONTEXT_STEPS * tokens)
        model = TransformerWorldModel.build({data.info.env_id: kept.spec}, config, seed=body.training.seed)
        model.fit({data.info.env_id: kept})
        sampler = WindowSampler(
            kept, steps=body.training.window_steps, batch_size=body.training.batch_size, seed=DATA_SEED
        )
        result = train(model, sampler, held_out, body.training, folder, console=console)
        if result.interrupted:
            raise SystemExit(130)
        write_json(found, dict(result.metrics))
    metrics: dict[str, float] = json.loads(found.read_text())
    return metrics


def made(name: str, work: Path, console: Console) -> dict[str, Any]:
    """Collect and train one body, and return its row."""
    body, folder = BODIES[name], work / name
    with stage(folder, "collect"):
        path = collect(
            body.dataset,
            work / "data" / name,
            watch=lambda done: console.print(f"{done.policy} {done.episode_return:.0f}", end="  "),
        )
    data = Trajectories.from_minari(path, action_repeat=body.dataset.action_repeat)
    with stage(folder, "train"):
        metrics = trained(body, data, folder, console)
    model = TransformerWorldModel.load(folder)
    return {
        "collection": body.dataset.settings() | {"episodes": body.dataset.counts},
        "decisions": data.num_decisions,
        "data_sha256": list(data.info.source),
        "held_out_fraction": HELD_OUT_FRACTION,
        "data_seed": DATA_SEED,
        "observation_dim": model.spec.observation_dim,
        "action_dim": model.spec.action_dim,
        "model": asdict(model.config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": asdict(body.training),
        "metrics": metrics,
        "seconds": json.loads((folder / "seconds.json").read_text()),
        "provenance": provenance(folder / "weights.safetensors"),
    }


def main(settings: Settings) -> None:
    """Make one body after another, and keep each as soon as it is done."""
    console = Console(stderr=True)
    rows: dict[str, Any] = read_json(settings.out, schema=1)["rows"] if settings.out.exists() else {}
    for name in settings.bodies:
        rows[name] = row = made(name, settings.work, console)
        write_json(settings.out, {"schema": 1, "rows": rows})
        metrics, seconds = row["metrics"], row["seconds"]
        console.print(
            f"{name}: held-out nll of a scalar {metrics['held_out/nll_observation']:.2f}, of a reward "
            f"{metrics['held_out/nll_reward']:.2f}; median error after 1 and 10 decisions "
            f"{metrics['prediction/median@1']:.3f}, {metrics['prediction/median@10']:.3f}; "
            f"{seconds['collect']:.0f} s of collection, {seconds['train']:.0f} s of training"
        )
    console.print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
