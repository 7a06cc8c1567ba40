"""How many tokens per second does training read, and what share of the machine's rate is it?

Updates (loss, gradients, AdamW) of the world model and of a plain transformer of the same shape are timed,
eager and compiled, in turn in one run; medians count. Windows are as long as the attention band.

    python benchmarks/training_speed.py
    python benchmarks/training_speed.py --preset gato-79m --windows 32 --bf16 --device cuda \
        --out benchmarks/results/training_speed_gpu.json
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from keep import result
from speed.training import WAYS, TrainingShape, measure_training
from tdm_agents.evaluation.as_json import plain
from tdm_agents.world_models.transformer.presets import CONFIGS


@dataclass(frozen=True)
class Settings:
    """Model, updates and files."""

    preset: str = "small-paper-tokens"
    """Preset of the transformer."""
    context: int = 1023
    """Tokens of the attention band, and of a window."""
    observation_dim: int = 5
    """Scalars per observation."""
    action_dim: int = 1
    """Scalars per action."""
    windows: int = 4
    """Windows per update."""
    bf16: bool = False
    """Whether products are computed in bfloat16."""
    ways: tuple[str, ...] = WAYS
    """The ways to train."""
    repeats: int = 7
    """Timed updates per way."""
    device: str = "cpu"
    """Where."""
    threads: int = 1
    """PyTorch's threads."""
    out: Path = Path("benchmarks/results/training_speed.json")
    """Where to write the result."""


def main(settings: Settings) -> None:
    """Measure, print and keep."""
    torch.set_num_threads(settings.threads)
    shape = TrainingShape(
        config=replace(CONFIGS[settings.preset], context=settings.context),
        observation_dim=settings.observation_dim,
        action_dim=settings.action_dim,
        windows=settings.windows,
        bf16=settings.bf16,
    )
    found = measure_training(
        shape, torch.device(settings.device), repeats=settings.repeats, ways=settings.ways
    )
    print(f"large products: {found['square_flops_per_second'] / 1e12:.3g} TFLOP/s")
    for way, row in found["ways"].items():
        print(f"{way}: {row['tokens_per_second']:,.0f} tokens per second, MFU {row['mfu']:.0%}")
    result(settings.out, settings, shape=plain(shape), **found)


if __name__ == "__main__":
    main(tyro.cli(Settings))
