"""How good a model is on episodes that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from tdm_agents.data.batch import Trainable
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.data.windows import starts as draw_starts
from tdm_agents.training.config import TrainConfig
from tdm_agents.training.ends import end_prediction
from tdm_agents.training.prediction import prediction_error


class Learner(Trainable, Protocol):
    """What is trained and saved: a world model or several in one; an ``nn.Module`` besides."""

    def save(self, folder: Path) -> None:
        """Write the model so that it can be planned with."""
        ...


def held_out_loss(model: Any, sampler: WindowSampler, *, batches: int) -> dict[str, float]:
    """The loss and every metric of ``model.loss`` on the first ``batches`` batches, averaged.

    The same batches every time and no noise in the loss, so that evaluations can be compared.

    Args:
        model: A world model with a loss.
        sampler: Of held-out episodes of its environment.
        batches: Their number.
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
        ValueError: If the episodes are too few or too short for the settings: now, not hours later. The
            message names the settings.
    """

    def __init__(self, held_out: Trajectories, config: TrainConfig) -> None:
        self._held_out = held_out
        self._config = config
        self._sampler = WindowSampler(
            held_out, steps=config.window_steps, batch_size=config.batch_size, seed=config.seed
        )
        longest = config.context_steps + max(config.horizons)
        try:
            draw_starts(held_out, count=config.starts, steps=longest, seed=config.seed)
        except ValueError as error:
            raise ValueError(
                f"the held-out episodes do not suffice for the prediction error with horizons "
                f"{', '.join(map(str, config.horizons))}, context_steps {config.context_steps} and starts "
                f"{config.starts}: {error}"
            ) from error

    def __call__(self, model: Any) -> dict[str, float]:
        """``held_out/<name>``, ``prediction/<name>`` and, where episodes end, ``ends/<name>``.

        Leaves the model in training mode.
        """
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
        metrics = {f"held_out/{name}": value for name, value in loss.items()}
        metrics |= {f"prediction/{name}": value for name, value in error.items()}
        if model.spec.terminates:
            ends = end_prediction(
                model,
                self._held_out,
                horizons=config.horizons,
                starts=config.starts,
                context_steps=config.context_steps,
                seed=config.seed,
            )
            metrics |= {f"ends/{name}": value for name, value in ends.items()}
        model.train()
        return metrics


class EnvironmentsEvaluator:
    """An :class:`Evaluator` for each environment of a model of several.

    Args:
        held_out: Episodes by environment.
        config: Settings of the run; each environment gets all the batches and starting points.

    Raises:
        ValueError: As :class:`Evaluator`, naming the environment.
    """

    def __init__(self, held_out: Mapping[str, Trajectories], config: TrainConfig) -> None:
        self._evaluators: dict[str, Evaluator] = {}
        for name, trajectories in held_out.items():
            try:
                self._evaluators[name] = Evaluator(trajectories, config)
            except ValueError as error:
                raise ValueError(f"environment {name}: {error}") from error

    def __call__(self, model: Any) -> dict[str, float]:
        """``<metric>/<environment>`` for each, and ``<metric>``, the mean over the environments that have it.

        Args:
            model: Whose ``environment(name)`` is evaluated.
        """
        values: dict[str, dict[str, float]] = {}
        for name, evaluator in self._evaluators.items():
            for metric, value in evaluator(model.environment(name)).items():
                values.setdefault(metric, {})[name] = value
        means = {metric: sum(of.values()) / len(of) for metric, of in values.items()}
        return means | {
            f"{metric}/{name}": value for metric, of in values.items() for name, value in of.items()
        }
