"""Which tokens make a small generalist, at equal compute?

One transformer learns from many walkers (``--data``, an index of ``tdm collect``) for the same CPU time with
each of several settings, and predicts recorded episodes of walkers that it never saw (``--unseen``): the root
mean square and median error in standard deviations of each body's data, 1, 4 and 8 decisions ahead, mean over
the bodies. 1 is as bad as a constant; ``unchanged`` predicts that nothing moves.

    python benchmarks/generalist_tokens.py --data runs/zero_shot/data --unseen runs/zero_shot/unseen_data
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

from keep import result
from tdm_agents.data.mixture import MixtureSampler, by_environment
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.protocols import UpdateSettings
from tdm_agents.settings_text import parse_settings
from tdm_agents.training.model_choice import with_settings
from tdm_agents.training.prediction import root_mean_square, start_errors
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.presets import CONFIGS

VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "paper tokens": ("small-paper-tokens", {"context": "400"}),
    "by role": ("small-generalist", {}),
    "by role, 1024 bins": ("small-generalist", {"tokenizer.bins": "1024"}),
    "by role, 256 bins": ("small-generalist", {"tokenizer.bins": "256"}),
    "by role, absolute": ("small-generalist", {"tokenizer.target": "absolute"}),
    "by role, context 130": ("small-generalist", {"context": "130"}),
    "by role, wider": ("small-generalist", {"width": "192", "feedforward": "384", "heads": "6"}),
    "by role, deeper": ("small-generalist", {"layers": "6"}),
    "by role, no actions": ("small-generalist", {"action_weight": "0.0"}),
}
"""Preset and settings by name."""


@dataclass(frozen=True)
class Settings:
    """Data, compute and files."""

    data: Path
    """Folder of the training data."""
    unseen: Path
    """Folder of episodes of other bodies."""
    out: Path = Path("benchmarks/results/generalist_tokens.json")
    """Where to write the result."""
    cpu_seconds: float = 300.0
    """CPU time of each training."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Names of the settings to compare."""
    override: dict[str, str] = field(default_factory=dict)
    """Model settings of every variant."""
    batch_size: int = 24
    """Windows per update."""
    window_steps: int = 12
    """Decisions per window."""
    learning_rate: float = 3e-3
    """Highest learning rate."""
    starts: int = 64
    """Starting points per unseen body."""


def train(
    settings: Settings, name: str, data: dict[str, Trajectories]
) -> tuple[Generalist, dict[str, float]]:
    """A generalist that learned for as long as the settings say, and how much it read."""
    preset, changes = VARIANTS[name]
    config = with_settings(name, CONFIGS[preset], parse_settings(changes | settings.override))
    model = Generalist.build({name: t.spec for name, t in data.items()}, config, seed=0)
    model.fit(data)
    sampler = MixtureSampler(data, steps=settings.window_steps, batch_size=settings.batch_size, seed=0)
    update = UpdateSettings(steps=10**9, learning_rate=settings.learning_rate, warmup_steps=0)
    optimizers = model.optimizers(update)
    generator = torch.Generator().manual_seed(0)
    began, step, tokens = time.process_time(), 0, 0
    numbers: dict[str, float] = {}
    smooth: dict[str, float] = {}
    while (spent := time.process_time() - began) < settings.cpu_seconds:
        done = spent / settings.cpu_seconds
        # warmed up over a twentieth, then to a twentieth along a cosine, whatever the number of updates
        rate = (
            settings.learning_rate
            * min(1.0, 20 * done + 1e-3)
            * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * done)))
        )
        batch = sampler.batch(step)
        now = replace(update, learning_rate=float(rate), final_learning_rate_fraction=1.0)
        numbers = dict(model.update(batch, optimizers, step=step, settings=now, generator=generator))
        for key, value in numbers.items():
            smooth[key] = value if key not in smooth else 0.98 * smooth[key] + 0.02 * value
        step += 1
        tokens += sum(
            part.observation.shape[0] * part.observation.shape[1] * model.environment(e).step_tokens
            for e, part in batch.parts.items()
        )
    about = {"updates": step, "tokens": tokens, "parameters": sum(p.numel() for p in model.parameters())}
    return model, about | {k: v for k, v in smooth.items() if "nll" in k}


def errors(settings: Settings, model: Generalist, unseen: dict[str, Trajectories]) -> dict[str, float]:
    """Mean errors over the bodies."""
    model.eval()
    rows: dict[str, list[float]] = {}
    for trajectories in unseen.values():
        world = model.for_spec(trajectories.spec).with_decoding(read="mean")
        found = start_errors(world, trajectories, horizon=8, starts=settings.starts, context_steps=10)
        assert found.observation is not None and found.reward is not None
        for ahead in (1, 4, 8):
            for key, values in {
                "rms": found.observation,
                "reward": found.reward,
                "unchanged": found.unchanged,
            }.items():
                rows.setdefault(f"{key}@{ahead}", []).append(root_mean_square(values[:, ahead - 1]))
            rows.setdefault(f"median@{ahead}", []).append(float(np.median(found.observation[:, ahead - 1])))
    return {key: float(np.mean(values)) for key, values in rows.items()}


def main(settings: Settings) -> None:
    """Train, predict, print and keep."""
    torch.set_num_threads(1)
    console = Console()
    data, unseen = (
        by_environment(Trajectories.each_from_minari(folder, action_repeat=2))
        for folder in (settings.data, settings.unseen)
    )
    rows: dict[str, Any] = {}
    for name in settings.variants:
        model, about = train(settings, name, data)
        rows[name] = about | errors(settings, model, unseen)
        console.print(name, {k: round(v, 3) for k, v in rows[name].items()})
    result(settings.out, settings, variants=rows)


if __name__ == "__main__":
    main(tyro.cli(Settings))
