"""How is the policy made that moves the ant of the mazes, and how often does it reach goals in them?

It learns ``tdm/AntPoints-v0`` by PPO, which was stopped after 1.8 million steps. (The environment drew its
points from the generator of resets then, and now from a seed of the episode.) Its actor is written into the
package, and leads ants through mazes with the controller of waypoints.

    tdm experts train --env-id tdm/AntPoints-v0 --algorithm ppo --num-envs 16 --steps 5000000
        --evaluate-every 200000 --evaluation-episodes 5 --settings n-steps 256 batch-size 512 n-epochs 8
        policy-kwargs '{"net_arch": [128, 128], "log_std_init": -1.0}' --out runs/ant/ppo
    python benchmarks/ant_policy.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import save
from stable_baselines3 import PPO

import keep
from tdm_agents.actors.ant_policy import ANT_POLICY
from tdm_agents.actors.waypoints import WaypointController
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import summary
from tdm_agents.storage import read_json, write_bytes
from tdm_agents.studies.offline import ant_maze


@dataclass(frozen=True)
class Settings:
    """Files and sizes."""

    run: Path = Path("runs/ant/ppo")
    """Folder of the training."""
    policy: Path = ANT_POLICY.relative_to(Path.cwd()) if ANT_POLICY.is_relative_to(Path.cwd()) else ANT_POLICY
    """The file of the package."""
    mazes: tuple[str, ...] = ("UMaze", "Medium", "Large")
    """Where it plays."""
    episodes: int = 20
    """Per maze."""
    out: Path = Path("benchmarks/results/ant_policy.json")
    """File of the result."""


def actor_of(policy: Any) -> dict[str, torch.Tensor]:
    """The weights of the layers that give the mean action."""
    layers = [layer for layer in policy.mlp_extractor.policy_net if isinstance(layer, torch.nn.Linear)]
    return {
        f"{i}.{name}": weight.detach().clone()
        for i, layer in enumerate([*layers, policy.action_net])
        for name, weight in layer.named_parameters()
    }


def main(settings: Settings) -> None:
    """Write the policy, play, keep."""
    torch.set_num_threads(1)
    write_bytes(settings.policy, save(actor_of(PPO.load(settings.run / "best.zip", device="cpu").policy)))
    found = {}
    for name in settings.mazes:
        seeds = range(EVALUATION_FIRST, EVALUATION_FIRST + settings.episodes)
        with ProgressBar(name) as progress:
            played = evaluate(WaypointController(), ant_maze(name), seeds, batch=10, on_step=progress)
        found[name] = {
            "summary": plain(summary(played)),
            "reached": played.scores,
            "steps": [episode.length for episode in played.episodes],
        }
        print(name, sum(played.scores), "of", settings.episodes)
    training = read_json(settings.run / "training.json", schema=1)
    del training["provenance"]
    keep.result(settings.out, settings, weights=settings.policy, training=training, mazes=found)


if __name__ == "__main__":
    main(tyro.cli(Settings))
