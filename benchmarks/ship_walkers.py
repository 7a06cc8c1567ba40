"""Write a trained generalist of walkers into the package, as small as it can be, with a planner.

The network keeps all of its weights. Of the environments only the largest of each family stay: what an unseen
body needs of them are the ranges of its roles, which all share.

    python benchmarks/ship_walkers.py --run runs/GENERALIST
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import tyro

import keep
from tdm_agents.actors.tuned import expert_for
from tdm_agents.agent.agent_files import AgentSettings, write_settings
from tdm_agents.environments import EnvRef
from tdm_agents.storage import CheckpointError
from tdm_agents.training.model_choice import load_trained
from tdm_agents.world_models.transformer.generalist import Generalist

NUM_SAMPLES = 32
"""Candidates: twice as many as the planner of walkers has (`tdm experts list`), which is theirs otherwise."""


@dataclass(frozen=True)
class Settings:
    """Files."""

    run: Path
    """Folder of the trained generalist."""
    checkpoint: Path = Path("tdm_agents/checkpoints/walkers")
    """The folder that is shipped."""
    out: Path = Path("benchmarks/results/ship_walkers.json")
    """File of sizes and hashes."""


def main(settings: Settings) -> None:
    """Write the checkpoint, and keep its size.

    Raises:
        CheckpointError: If the folder holds another kind of model.
    """
    model = load_trained(settings.run)
    if not isinstance(model, Generalist):
        raise CheckpointError(f"{settings.run} holds a {type(model).__name__}; expected a generalist")
    largest: dict[str, str] = {}
    for name in model.environments:
        family = EnvRef.parse(name).id
        sizes = {n: model.environment(n).spec.observation_dim for n in (name, largest.get(family, name))}
        largest[family] = max(sizes, key=lambda n: sizes[n])
    decoding = replace(model.config.decoding, reward_window=None)
    config = replace(model.config, decoding=decoding)
    small = type(model)({name: model.environment(name).spec for name in largest.values()}, config)
    small.network.load_state_dict(model.network.state_dict())
    for name in largest.values():
        theirs = model.environment(name).tokenizer.state_dict()
        small.environment(name).tokenizer.load_state_dict(theirs)
    small.eval().save(settings.checkpoint)
    tuned = expert_for(EnvRef(next(iter(largest))))
    planner = {**tuned.settings, "num_samples": NUM_SAMPLES}
    write_settings(settings.checkpoint, AgentSettings(planner="mppi", planner_settings=planner))
    keep.result(
        settings.out,
        settings,
        weights=settings.checkpoint / "weights.safetensors",
        trained_on=len(model.environments),
        kept=list(largest.values()),
        parameters=sum(p.numel() for p in small.parameters()),
        bytes=sum(path.stat().st_size for path in settings.checkpoint.iterdir()),
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
