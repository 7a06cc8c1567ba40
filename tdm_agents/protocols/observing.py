"""What models read and imagine of observations: access to what they imagine, and who reads images."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols.imagining import WorldModel


class MaybeObserved(Protocol):
    """A value that may have an observation: a ``Step``, a ``Rollout``, a wrapper's state."""

    @property
    def observation(self) -> Tensor | None:
        """The observation, of any shape; None where the model imagines none."""
        ...


def reads_images(model: object) -> bool:
    """Whether a model, or a class of models, reads images: it says so in an attribute ``reads_images``."""
    return getattr(model, "reads_images", False) is True


def require_observations(model: WorldModel[Any], who: str, *, instead: str) -> None:
    """Refuse a model that imagines no observations, before anything is imagined.

    Args:
        model: The model.
        who: The part that needs observations, in words.
        instead: The remedy.

    Raises:
        ValueError: If ``model.spec.imagines_observations`` is False; the message has all three.
    """
    if not model.spec.imagines_observations:
        raise _refusal(model, who, instead)


def observation_of(imagined: MaybeObserved, model: WorldModel[Any], who: str, *, instead: str) -> Tensor:
    """The observation of something imagined.

    Args:
        imagined: A ``Step`` ``[N, n]``, a ``Rollout`` ``[N, H, n]``, or a wrapper's state ``[N, n]``.
        model: The model that imagined it.
        who: The part that needs the observation, in words.
        instead: The remedy.

    Raises:
        ValueError: If there is none; the message names the model, who needed it and the remedy.
    """
    if imagined.observation is None:
        raise _refusal(model, who, instead)
    return imagined.observation


def _refusal(model: WorldModel[Any], who: str, instead: str) -> ValueError:
    return WrongValueError(
        f"{type(model).__name__} imagines no observations, and {who} needs them: {instead}"
    )
