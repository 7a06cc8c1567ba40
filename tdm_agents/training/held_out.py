"""How good a model is on episodes that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from tdm_agents.data.batch import Trainable
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.data.windows import starts as draw_starts
from tdm_agents.protocols import WorldModel
from tdm_agents.training.config import TrainConfig
from tdm_agents.training.prediction import prediction_error


class Learner(WorldModel[Any], Trainable, Protocol):
    """What is trained: a world model with a loss that can be saved; an ``nn.Module`` besides."""

    def save(self, folder: Path) -> None:
        """Write the model so that it can be planned with."""
        ...


def held_out_loss(model: Learner, sampler: WindowSampler, *, batches: int) -> dict[str, float]:
    """The loss and every metric of ``model.loss`` on the first ``batches`` batches, averaged.

    The same batches every time and no noise in the loss, so that evaluations can be compared.
    """
    totals: dict[str, float] = {}
    with torch.no_grad():
        for index in range(batches):
            loss, metrics = model.loss(sampler.batch(index).to(model.spec.device), generator=None)
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + float(value) / batches
    return totals


class Evaluator:
    """Held-out loss and prediction error, always on the same data.

    Args:
        held_out: Episodes.
        config: Settings of the run.

    Raises:
        ValueError: If the episodes are too few or too short for the settings: now, not hours later.
    """

    def __init__(self, held_out: Trajectories, config: TrainConfig) -> None:
        self._held_out = held_out
        self._config = config
        self._sampler = WindowSampler(
            held_out, steps=config.window_steps, batch_size=config.batch_size, seed=config.seed
        )
        longest = config.context_steps + max(config.horizons)
        draw_starts(held_out, count=config.starts, steps=longest, seed=config.seed)

    def __call__(self, model: Any) -> dict[str, float]:
        """``held_out/<name>`` and ``prediction/<name>``; leaves the model in training mode."""
        config = self._config
        model.eval()
        loss = held_out_loss(model, self._sampler, batches=config.evaluate_batches)
        error = prediction_error(
            model,
            self._held_out,
            horizons=config.horizons,
            starts=config.starts,
            context_steps=config.context_steps,
            seed=config.seed,
        )
        model.train()
        metrics = {f"held_out/{name}": value for name, value in loss.items()}
        return metrics | {f"prediction/{name}": value for name, value in error.items()}
