"""A wrapper that keeps plans near recorded data, where a model and a value know what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import HasValue, Step, WorldModel, require_observations
from tdm_agents.storage import make_folder, read_tensors, write_tensors
from tdm_agents.wrappers.base import Wrapper
from tdm_agents.wrappers.given_models import begun
from tdm_agents.wrappers.recorded_states import RecordedStates
from tdm_agents.wrappers.saved_parts import check_parts, load_parts, save_parts

S = TypeVar("S")

RECORDED_FILE = "recorded.safetensors"
SPREADS = 2.0
"""Standard deviations of the value over the data that a decision far from them costs, by default."""
_ASKED = 500


class WithSupport(Wrapper[S]):
    """A world model whose rewards are lower where imagined observations are far from recorded ones.

    A planner looks for the plan that is believed to be best, and so for the errors of what it believes: a
    value that was learned from data can be anything where there are none. A reward is lowered by ``penalty``
    times the distance of the next observation from the nearest recorded one, as far as that is more than
    usual and in units of what is usual (:meth:`RecordedStates.excess`). This is the remedy of MOPO (Yu et al.
    2020, arXiv:2005.13239, equation 6), with a distance in place of an ensemble's disagreement.

    The wrapper is a ``HasRollout``, ``HasProposal``, ``HasValue``, ``HasTokens``, ``HasRowBytes`` or
    ``HasOnly`` exactly where ``model`` is one.

    Args:
        model: A world model that imagines observations.
        recorded: Recorded observations of its environment.
        penalty: Cost of a decision that leads to an observation at twice the usual distance, in units of the
            reward, at least 0. None is twice the standard deviation of the model's value over the recorded
            observations, as of first ones of episodes.

    Raises:
        TypeError: If ``penalty`` is None and the model has no value.
        ValueError: If ``model`` imagines no observations, or observations of another size, or ``penalty``
            is not a finite number of at least 0.

    Attributes:
        model: The wrapped model.
        recorded: The recorded observations.
        penalty: The cost, chosen where None was given.
    """

    recorded: RecordedStates
    penalty: float

    def __init__(self, model: WorldModel[S], recorded: RecordedStates, penalty: float | None = None) -> None:
        require_observations(
            model, "a distance from recorded observations", instead="use a model that imagines observations"
        )
        if (size := recorded.observation.shape[1]) != model.spec.observation_dim:
            raise WrongValueError(
                f"the recorded observations have {size} scalars, those of the model "
                f"{model.spec.observation_dim}; expected data of the model's environment"
            )
        if penalty is None:
            penalty = SPREADS * _spread(model, recorded)
        if not (math.isfinite(penalty) and penalty >= 0.0):
            raise WrongValueError(f"penalty is {penalty}; expected a finite number of at least 0")
        super().__init__(model, recorded, penalty)
        self.recorded = recorded.to(torch.device(model.spec.device))
        self.penalty = float(penalty)

    def around(self, model: WorldModel[Any]) -> WithSupport[Any]:
        """The same around another model, with the present penalty."""
        return WithSupport(model, self.recorded, self.penalty)

    def _reward(self, observation: Tensor | None, action: Tensor, step: Step) -> Tensor:
        assert step.observation is not None  # the model imagines them
        return step.reward - self.penalty * self.recorded.excess(step.observation)

    def save(self, folder: Path) -> None:
        """Write the model and the recorded observations, which :meth:`load` reads.

        Raises:
            ValueError: If the model has no weights.
        """
        parts = {"model": self.model}
        check_parts(parts)
        make_folder(folder)
        tensors = {"observation": self.recorded.observation, "scale": self.recorded.scale}
        sha256 = write_tensors(folder / RECORDED_FILE, tensors)
        numbers = {"penalty": self.penalty, "usual": self.recorded.usual}
        save_parts(folder, "with_support", parts, recorded=sha256, **numbers)

    @classmethod
    def load(cls, folder: Path | str, *, device: str | torch.device = "cpu") -> WithSupport[Any]:
        """The model that :meth:`save` wrote.

        Raises:
            CheckpointError: If a file is missing, truncated or altered.
        """
        (model,), settings = load_parts(folder, "with_support", ("model",), device)
        tensors = read_tensors(Path(folder) / RECORDED_FILE, sha256=settings["recorded"])
        recorded = RecordedStates(**tensors, usual=settings["usual"])
        return cls(model, recorded, settings["penalty"])


def _spread(model: WorldModel[Any], recorded: RecordedStates) -> float:
    """Standard deviation of the model's value over recorded observations."""
    if not isinstance(model, HasValue):
        raise WrongTypeError(
            f"penalty is None, and {type(model).__name__} has no value by whose spread it could be chosen; "
            "expected a number in units of the reward, or a model that has a value"
        )
    asked = recorded.observation[:_ASKED].to(torch.device(model.spec.device), model.spec.dtype)
    with torch.no_grad():
        value: Tensor = model.value(begun(model, asked))
    return float(value.std())
