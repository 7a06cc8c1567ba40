"""World models that ``tdm train --model NAME`` makes, ours and strangers'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import nn

from tdm_agents import registry
from tdm_agents.data.batch import Trainable
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.protocols import ModelSpec, WorldModel


class TrainableWorldModel(WorldModel[Any], Trainable, Protocol):
    """A world model that is trained by name: an ``nn.Module`` with its settings, a loss and files.

    Its class is the entry point, in the group ``tdm_agents.world_models``. It has an attribute
    ``config_type``, the class of its settings, which is a frozen dataclass in which everything has a default;
    and it is called as ``Class(spec, config, seed=seed)``.
    :func:`tdm_agents.world_models.model_files.write_model` and
    :func:`~tdm_agents.world_models.model_files.read_model` do what ``save`` and ``load`` have to.
    """

    @property
    def config(self) -> Any:
        """The settings of this model, a dataclass of JSON values."""
        ...

    def fit(self, trajectories: Trajectories) -> None:
        """Set from data, before training, what needs no gradient (for example a normaliser)."""
        ...

    def save(self, folder: Path) -> None:
        """Write ``model.json``, whose ``"type"`` is the entry point's name, and ``weights.safetensors``."""
        ...

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote."""
        ...

    # what nn.Module brings

    def to(self, device: torch.device) -> Self:
        """Move the weights."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Weights and buffers by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Set them."""
        ...


_NEEDED = ("config_type", "fit", "loss", "save", "load", "state_dict")


def learner_class(name: str) -> Any:
    """The class of a world model that is trained by name.

    Raises:
        UnknownNameError: If no package provides the name.
        PluginError: If the package that provides it cannot be used.
        TypeError: If what it provides cannot be trained by name; the message says what it lacks.
    """
    kind: Any = registry.load(registry.WORLD_MODELS, name)
    if missing := [part for part in _NEEDED if not hasattr(kind, part)]:
        raise TypeError(
            f"world model {name!r} cannot be trained by name: {getattr(kind, '__name__', kind)} has no "
            f"{', no '.join(missing)}; expected a class as "
            "tdm_agents.training.learners.TrainableWorldModel describes it"
        )
    return kind


def make_learner(
    name: str, spec: ModelSpec, settings: Mapping[str, Any], *, seed: int
) -> TrainableWorldModel:
    """A new world model to train.

    Args:
        name: An entry point of the group ``tdm_agents.world_models``, or a registered name.
        spec: What it is to model.
        settings: Fields of its ``config_type``; its defaults for the rest.
        seed: Of its initial weights.

    Raises:
        UnknownNameError: If no package provides the name.
        PluginError: If the package that provides it cannot be used.
        TypeError: If it cannot be trained by name, or has no such setting.
        ValueError: If a setting's value makes no sense, or the model is not for such environments.
    """
    kind = learner_class(name)
    registry.check_settings(f"world model {name!r}", kind.config_type, settings)
    model: TrainableWorldModel = kind(spec, kind.config_type(**settings), seed=seed)
    return model
