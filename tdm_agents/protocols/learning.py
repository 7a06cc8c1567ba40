"""Trainable models: the one contract that learned models keep, ours and other people's.

A learned model is an ``nn.Module`` of one environment, which is a world model itself, or of several, whose
:meth:`TrainableModel.environment` are world models. :class:`tdm_agents.world_models.learned.LearnedModel`
keeps most of the contract for both; :func:`tdm_agents.testing.check_trainable_model` checks all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from tdm_agents.protocols.imagining import WorldModel
from tdm_agents.protocols.values import ModelSpec
from tdm_agents.update_settings import UpdateSettings

Optimizers = Mapping[str, torch.optim.Optimizer]
"""Optimizers by name; the names are those of the files of a run."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A named configuration of a model, and how to plan with a model that was trained with it.

    Attributes:
        config: The settings, an instance of the model's ``config_type``.
        action_repeat: Environment steps per decision.
        planner: Name of the planner.
        planner_settings: Fields of the planner's dataclass; those not named keep their defaults.
    """

    config: Any
    action_repeat: int = 4
    planner: str = "mppi"
    planner_settings: Mapping[str, Any] = field(default_factory=dict)


class NotFiniteError(ArithmeticError):
    """A loss or gradient is NaN or infinite; raised before the weights are changed.

    Args:
        name: Name of the number that is not finite.
        value: Value of that number.
    """

    def __init__(self, name: str, value: float) -> None:
        super().__init__(f"{name.replace('_', ' ')} is {value}")


@runtime_checkable
class TrainableModel(Protocol):
    """A model trained by name: its class is an entry point of the group ``tdm_agents.world_models``.

    Everything that an update changes is in ``state_dict()`` (target networks and running scales too) or in an
    optimizer. The same batches and generators then give the same updates, however often a run stops.

    Attributes:
        config_type: Class of the settings: a frozen dataclass of JSON values, or of other such dataclasses,
            in which everything has a default. A field with ``metadata={"identity": False}`` says how to
            compute rather than what was learned; it may change when a run goes on.
        config: The settings of this model.
    """

    config_type: ClassVar[type[Any]]
    config: Any

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """Named configurations, the default one first."""
        ...

    @classmethod
    def build(
        cls, specs: Mapping[str, ModelSpec], config: Any, *, seed: int, source: TrainableModel | None = None
    ) -> Self:
        """A new model.

        Args:
            specs: The spec of each environment to model, by name.
            config: The settings, an instance of ``config_type``.
            seed: Seed of the initial weights.
            source: A trained model, whose weights and normaliser or tokens this one starts from instead.

        Raises:
            ValueError: If the model cannot model such environments, or not so many.
            CheckpointError: If ``source`` does not fit; the message says how.
        """
        ...

    def environment(self, name: str | None) -> WorldModel[Any]:
        """The world model of an environment; it shares the weights, and its call is its held-out loss.

        Args:
            name: Name of the environment; a model of a single environment ignores it.

        Raises:
            LookupError: If the model has several environments and this is none of them.
        """
        ...

    def fit(self, data: Mapping[str, Any]) -> None:
        """Fit what needs no gradient (for example a normaliser) to data, before training.

        Args:
            data: :class:`tdm_agents.data.trajectories.Trajectories` by the environment's name; they need not
                fit into memory.
        """
        ...

    def __call__(
        self, batch: Any, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The scalar loss of a batch, and detached metrics by name; what ``nn.Module`` calls ``forward``.

        Args:
            batch: A :class:`~tdm_agents.protocols.Batch`, or a :class:`~tdm_agents.protocols.MixedBatch` of
                several environments, on the weights' device.
            generator: Source of randomness in training; None means that nothing is random (held-out loss).
        """
        ...

    def optimizers(self, settings: UpdateSettings) -> Optimizers:
        """New optimizers for the weights."""
        ...

    def update(
        self,
        batch: Any,
        optimizers: Optimizers,
        *,
        step: int,
        settings: UpdateSettings,
        generator: torch.Generator,
    ) -> Mapping[str, float]:
        """One update of the weights.

        Args:
            batch: As for :meth:`__call__`.
            optimizers: The optimizers that :meth:`optimizers` made.
            step: Number of updates made before; schedules are functions of it.
            settings: Update settings of the run.
            generator: The only source of randomness, on the weights' device.

        Returns:
            Metrics by name: ``loss``, and whatever else is worth a curve.

        Raises:
            NotFiniteError: If a loss or gradient is not finite, before any weight is changed.
        """
        ...

    def summary(self) -> str:
        """One line for a person: how large the model is."""
        ...

    def save(self, folder: Path) -> None:
        """Write ``model.json``, whose ``"type"`` is the entry point's name, and ``weights.safetensors``."""
        ...

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote."""
        ...

    # what nn.Module provides

    def to(self, device: torch.device) -> Self:
        """Move the weights."""
        ...

    def train(self, mode: bool = True) -> Self:
        """Switch layers such as dropout to training."""
        ...

    def eval(self) -> Self:
        """Switch layers such as dropout to evaluation."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Weights and buffers by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Set weights and buffers by name."""
        ...


@runtime_checkable
class Divides(Protocol):
    """A model that learns the same from the micro-batches of a batch as from the whole of it.

    Its loss and metrics are sums over windows, divided by what the whole batch counts (``batch.counts``); it
    takes its rows (``batch.rows``) of noise that is drawn for the whole batch. Then the losses of all
    micro-batches add up to that of the batch, and so do their gradients. Its :meth:`~TrainableModel.update`
    takes :class:`~tdm_agents.protocols.MicroBatches` too, as that of
    :class:`tdm_agents.world_models.learned.LearnedModel` does.
    """

    def counts(self, batch: Any) -> Tensor:
        """The numbers that the loss divides by, of a fixed shape; those of micro-batches add up."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A model whose batches can be prepared ahead of an update, on a CPU and by other processes.

    Attributes:
        preparation: Called with a batch and the generator of the update's noise, it returns what
            :meth:`TrainableModel.update` takes in place of the batch, and what has a method ``to(device)``.
            Its ``on_cpu()`` is the same without anything on another device.
    """

    @property
    def preparation(self) -> Any:
        """See above."""
        ...


@runtime_checkable
class ImitatesExamples(Protocol):
    """A model whose policy imitates only those actions of a batch that are examples (``Batch.example``).

    Attributes:
        imitates_examples: True; its presence tells this kind of model.
    """

    imitates_examples: ClassVar[bool]


@runtime_checkable
class Suggests(Protocol):
    """A model class that says how a preset's settings should differ for some environments."""

    @classmethod
    def suggested(cls, config: Any, specs: Mapping[str, ModelSpec]) -> tuple[Any, str]:
        """The settings to train with, where the user chose none of those that differ.

        Args:
            config: The preset's settings, changed by the user's.
            specs: The spec of each environment, by name.

        Returns:
            The settings, and a sentence about what differs; ``""`` where nothing does.
        """
        ...


@runtime_checkable
class ReadsReturns(Protocol):
    """A model that learns from what the rewards of the rest of an episode sum to: ``Batch.to_go``.

    Attributes:
        return_discount: Factor per decision on later rewards.
    """

    @property
    def return_discount(self) -> float:
        """See the class."""
        ...


@runtime_checkable
class Discounts(Protocol):
    """A model whose value discounts later rewards.

    Attributes:
        discount: Factor per decision, a number or a scalar; a planner should discount as much.
    """

    @property
    def discount(self) -> float | Tensor:
        """See the class."""
        ...


@runtime_checkable
class SuitsDiscount(Discounts, Protocol):
    """A model whose value discounts later rewards, the less the longer episodes are."""

    def expect(self, decisions: int) -> None:
        """Set the discount for episodes of at most ``decisions``, unless the settings say what it is."""
        ...
