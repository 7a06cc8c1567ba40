"""Evaluation of a model on held-out episodes, on which it was not trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.data.windows import starts as draw_starts
from tdm_agents.errors import WrongValueError, retold
from tdm_agents.training.ends import end_prediction
from tdm_agents.training.prediction import prediction_error
from tdm_agents.training.train_config import TrainConfig


def held_out_loss(model: Any, sampler: WindowSampler, *, batches: int) -> dict[str, float]:
    """The loss and metrics of a model, averaged over the first ``batches`` batches.

    The batches are the same every time and the loss has no noise, so that evaluations can be compared.

    Args:
        model: A world model whose call is its loss, as :meth:`TrainableModel.environment` gives it.
        sampler: Windows of held-out episodes of its environment.
        batches: Number of batches.
    """
    totals: dict[str, float] = {}
    with torch.no_grad():
        for index in range(batches):
            loss, metrics = model(sampler.batch(index).to(model.spec.device), generator=None)
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + float(value) / batches
    return totals


class _OneEnvironment:
    """Held-out loss and prediction error of a world model, always on the same data.

    Raises:
        ValueError: If the episodes are too few or too short for the settings; the message names them.
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
            raise retold(
                error,
                f"the held-out episodes do not suffice for the prediction error with horizons "
                f"{', '.join(map(str, config.horizons))}, context_steps {config.context_steps} and starts "
                f"{config.starts}: {error} (--held-out-fraction, or shorter horizons and fewer starts)",
            ) from error

    def __call__(self, model: Any) -> dict[str, float]:
        """``held_out/<name>``, ``prediction/<name>`` and, where episodes end, ``ends/<name>``."""
        config = self._config
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
        return metrics


class Evaluator:
    """Held-out loss and prediction error of a model of one or several environments.

    Args:
        held_out: Episodes, by environment where the model has several.
        config: Settings of the run; each environment gets all the batches and starting points.

    Raises:
        ValueError: If the episodes are too few or too short for the settings. The message names the settings
            and, where there are several environments, the environment.
    """

    def __init__(self, held_out: Trajectories | Mapping[str, Trajectories], config: TrainConfig) -> None:
        several = held_out if isinstance(held_out, Mapping) else {"": held_out}
        self._evaluators: dict[str, _OneEnvironment] = {}
        for name, trajectories in several.items():
            try:
                self._evaluators[name] = _OneEnvironment(trajectories, config)
            except ValueError as error:
                if len(several) == 1:
                    raise
                raise WrongValueError(f"environment {name}: {error}") from error

    def __call__(self, model: Any) -> dict[str, float]:
        """The metrics of a single environment, or ``<metric>/<environment>`` of each of several.

        With several environments, ``<metric>`` is the mean over those that have it. The model is left in
        training mode.

        Args:
            model: A :class:`~tdm_agents.protocols.TrainableModel`.
        """
        model.eval()
        found = {name: evaluate(model.environment(name)) for name, evaluate in self._evaluators.items()}
        model.train()
        if len(found) == 1:
            (metrics,) = found.values()
            return metrics
        values: dict[str, dict[str, float]] = {}
        for name, metrics in found.items():
            for metric, value in metrics.items():
                values.setdefault(metric, {})[name] = value
        means = {metric: sum(of.values()) / len(of) for metric, of in values.items()}
        return means | {
            f"{metric}/{name}": value for metric, of in values.items() for name, value in of.items()
        }
