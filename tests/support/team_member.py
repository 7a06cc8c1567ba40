"""One process of a team: trains small models with the others, into the folder that is given.

``python team_member.py FOLDER SCENARIO``, with the environment variables that torchrun sets.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tdm_agents.data.mixture import MixtureSampler
from tdm_agents.data.windows import WindowSampler
from tdm_agents.testing import LinearQuadraticModel, recorded_episodes
from tdm_agents.training.team import ALONE, Team, launched
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import TrainResult, train
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.network import NetworkConfig, TransformerNetwork
from tdm_agents.world_models.transformer.presets import CONFIGS
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

GATO = {
    **{name: getattr(CONFIGS["gato-364m"], name) for name in ("layers", "width", "heads", "feedforward")},
    "bins": CONFIGS["gato-364m"].tokenizer.bins,
    "max_observation": 67,
    "max_action": 21,
}
"""Sizes of the network for the largest body of the control suite."""

CONFIG = TrainConfig(
    steps=8, batch_size=6, window_steps=5, warmup_steps=2, checkpoint_every=3, evaluate_every=4, log_every=1,
    evaluate_batches=2, horizons=(1, 2), starts=4, context_steps=2,
)  # fmt: skip
TINY = TransformerConfig(
    layers=2, width=16, heads=2, feedforward=16, context=30, tokenizer=TokenizerConfig(bins=64)
)
MODELS = {"mlp": (MLPWorldModel, MLPConfig(hidden=8, layers=1)), "transformer": (TransformerWorldModel, TINY)}
MODELS["generalist"] = (Generalist, TINY)


def trained(name: str, folder: Path, team: Team = ALONE, *, sampler=None, config=CONFIG, **options):
    """Train a model of that name; only the first process fits it."""
    kind, settings = MODELS[name]
    data = {"one": recorded_episodes()}
    if name == "generalist":
        data["two"] = recorded_episodes(model=LinearQuadraticModel(choices=3), seed=2)
    model = kind.build({n: d.spec for n, d in data.items()}, settings, seed=team.rank)
    if team.first:
        model.fit(data)
    shape = {"steps": config.window_steps, "batch_size": config.batch_size * config.accumulate, "seed": 0}
    if sampler is None:
        sampler = MixtureSampler(data, **shape) if len(data) > 1 else WindowSampler(data["one"], **shape)
    console = Console(file=io.StringIO())
    return train(model, sampler, data, config, folder, team=team, console=console, **options)


class Disturbed(WindowSampler):
    """Calls something before it reads the batch of step 5."""

    def __init__(self, calamity) -> None:
        super().__init__(recorded_episodes(), steps=CONFIG.window_steps, batch_size=CONFIG.batch_size, seed=0)
        self.calamity = calamity

    def batch(self, index, *, part=0, parts=1):
        if index == 5:
            self.calamity()
        return super().batch(index, part=part, parts=parts)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def together(folder: Path, team: Team) -> None:
    """Train everything that several processes can; the test compares it with one process."""
    for name in MODELS:
        trained(name, folder / name, team)
    trained("transformer", folder / "accumulated", team, config=replace(CONFIG, batch_size=3, accumulate=2))
    trained("transformer", folder / "sharded", team, shard=True)
    sampler = Disturbed(terminate if team.rank == 0 else lambda: None)
    assert trained("transformer", folder / "sharded resumed", team, sampler=sampler, shard=True).interrupted
    trained("transformer", folder / "sharded resumed", team, shard=True)
    trained("generalist", folder / "sharded generalist", team, shard=True)
    large(folder, team)
    # one of the processes is asked to end; all stop after the same step
    sampler = Disturbed(terminate if team.rank == 1 else lambda: None)
    stopped: TrainResult = trained("transformer", folder / "resumed", team, sampler=sampler)
    assert stopped.interrupted and stopped.step == 6, stopped
    assert trained("transformer", folder / "resumed", team).step == 8


def large(folder: Path, team: Team) -> None:
    """The 364 million parameters of Gato's largest, made of nothing and divided."""
    shape = NetworkConfig(**GATO)
    network = TransformerNetwork(shape, "meta")
    assert team.size == 2
    mesh = init_device_mesh("cpu", (team.size,))
    for part in (*network.blocks, network):
        fully_shard(part, mesh=mesh)
    here = {name: list(value.to_local().shape) for name, value in network.named_parameters()}
    (folder / f"large-{team.rank}.json").write_text(json.dumps(here))


def lost(folder: Path, team: Team) -> None:
    """One process dies; the test looks at how the other ends."""
    trained("mlp", folder / "lost", team, sampler=Disturbed(lambda: team.rank == 1 and os._exit(9)))


if __name__ == "__main__":
    with launched(torch.device("cpu"), wait_minutes=5.0) as everybody:
        {"together": together, "lost": lost}[sys.argv[2]](Path(sys.argv[1]), everybody)
