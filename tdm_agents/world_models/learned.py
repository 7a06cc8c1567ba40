"""Base class of most learned models: one loss, one AdamW, one environment.

A subclass provides its constructor ``(spec, config, seed=)``, ``forward``, ``fit``, ``save``, ``load`` and
the methods of a world model. Everything else of :class:`~tdm_agents.protocols.TrainableModel` is here and can
be overridden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec, NotFiniteError, Optimizers, Preset, UpdateSettings
from tdm_agents.spaces.spec_json import spec_to_json
from tdm_agents.storage import CheckpointError
from tdm_agents.world_models.micro_batches import backward
from tdm_agents.world_models.sharded_weights import whole

if TYPE_CHECKING:
    from tdm_agents.protocols import TrainableModel


class LearnedModel(nn.Module):
    """An ``nn.Module`` that keeps the contract of learned models."""

    config_type: ClassVar[type[Any]]
    several: ClassVar[str] = "generalist"
    """Name of the model that models several environments."""
    config: Any

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """One preset: the default settings, and MPPI as the planner."""
        return {"default": Preset(cls.config_type())}

    @classmethod
    def build(
        cls, specs: Mapping[str, ModelSpec], config: Any, *, seed: int, source: TrainableModel | None = None
    ) -> Self:
        """A new model of one environment; see :meth:`tdm_agents.protocols.TrainableModel.build`.

        Raises:
            ValueError: If there are several environments, or a setting makes no sense.
            CheckpointError: If ``source`` is another kind of model, or has other settings or spaces.
        """
        kind: Any = cls
        model: Self = kind(only_environment(specs, cls.__name__, cls.several), config, seed=seed)
        if source is not None:
            check_same(source, model)
            model.load_state_dict(source.state_dict())
        return model

    def environment(self, name: str | None) -> Any:
        """The model itself, whatever the name: it has one environment."""
        return self

    def decays(self, parameter: nn.Parameter) -> bool:
        """Whether weight decay is for this parameter: for matrices, not for biases and scales."""
        return parameter.ndim >= 2

    def optimizers(self, settings: UpdateSettings) -> Optimizers:
        """AdamW over all weights; only those that :meth:`decays` names decay."""
        return {"adamw": self.adamw([p for p in self.parameters() if p.requires_grad], settings)}

    def adamw(self, parameters: Iterable[nn.Parameter], settings: UpdateSettings) -> torch.optim.AdamW:
        """AdamW over some weights; only those that :meth:`decays` names decay."""
        parameters = list(parameters)
        return torch.optim.AdamW(
            [
                {"params": [p for p in parameters if self.decays(p)], "weight_decay": settings.weight_decay},
                {"params": [p for p in parameters if not self.decays(p)], "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=settings.betas,
            fused=True,  # one kernel for all weights: several times faster at small sizes
        )

    def update(
        self,
        batch: Any,
        optimizers: Optimizers,
        *,
        step: int,
        settings: UpdateSettings,
        generator: torch.Generator,
    ) -> Mapping[str, float]:
        """One step of AdamW down the gradient of the loss, clipped to ``grad_clip``.

        Args:
            batch: A batch, or :class:`~tdm_agents.protocols.MicroBatches` where the model
                :class:`~tdm_agents.protocols.Divides`.
            optimizers: The one AdamW.
            step: Number of updates made before.
            settings: Update settings of the run.
            generator: The only source of randomness.

        Raises:
            NotFiniteError: If the loss or the gradient is not finite.
        """
        (optimizer,) = optimizers.values()
        rate = settings.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss, metrics = backward(self, batch, generator=generator, bf16=settings.bf16)
        parameters = [p for p in self.parameters() if p.requires_grad]
        norm = whole(torch.nn.utils.clip_grad_norm_(parameters, settings.grad_clip))
        numbers = finite_numbers({"loss": loss, "gradient_norm": norm, **metrics})
        optimizer.step()
        for parameter in parameters:  # what fused optimizers forget: caches of weights look at the version
            torch.autograd.graph.increment_version(parameter)
        return {**numbers, "learning_rate": rate}

    def summary(self) -> str:
        """The number of weights."""
        return f"{sum(p.numel() for p in self.parameters()):,} parameters"


def finite_numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Turn scalars into numbers, with one synchronisation of the device.

    Raises:
        NotFiniteError: If a number whose name begins with ``loss`` or ``gradient_norm`` is not finite.
    """
    stacked = torch.stack([value.detach().float() for value in values.values()])
    numbers = dict(zip(values, stacked.tolist(), strict=True))
    check_finite(numbers)
    return numbers


def check_finite(numbers: Mapping[str, float]) -> None:
    """Refuse a loss or gradient that is not finite.

    Raises:
        NotFiniteError: If there is one; the message names the first.
    """
    for name, value in numbers.items():
        if name.startswith(("loss", "gradient_norm")) and not abs(value) < float("inf"):
            raise NotFiniteError(name, value)


def only_environment(
    specs: Mapping[str, ModelSpec], name: str, several: str = LearnedModel.several
) -> ModelSpec:
    """The spec of the one environment.

    Args:
        specs: By environment.
        name: Of the model, for the message.
        several: Name of a model that models several.

    Raises:
        ValueError: If there are several.
    """
    if len(specs) != 1:
        raise WrongValueError(
            f"{name} is a model of one environment, and these data are of {', '.join(specs)}; train one per "
            f"environment, or one that models several (--model {several})"
        )
    (spec,) = specs.values()
    return spec


def check_same(there: Any, here: Any) -> None:
    """Refuse another kind of model, or one with other settings or spaces.

    Raises:
        CheckpointError: If they differ; the message names the first difference.
    """
    if type(there) is not type(here):
        raise does_not_fit(f"it is a {type(there).__name__}, not a {type(here).__name__}")
    first, second = (
        {"config": identity(m.config), "spec": unnamed(m.environment(None).spec)} for m in (there, here)
    )
    if found := differences(first, second):
        raise does_not_fit(found[0])


def unnamed(spec: ModelSpec) -> dict[str, Any]:
    """A spec as JSON, without the names of its scalars, which models and data of older versions lack."""
    return spec_to_json(replace(spec, observation_names=()))


def does_not_fit(why: str) -> CheckpointError:
    """The error for a model that another one cannot start from."""
    return CheckpointError(
        f"the model to start from (--init-from) does not fit: {why}; fine-tuning needs the same kind and "
        "size "
        "of model (--model, --preset, --model-settings) and, where tokens or the normaliser are fitted to "
        "data, an environment with the same spaces"
    )


def identity(config: Any) -> dict[str, Any]:
    """The fields of a configuration that must not change: all but those with ``"identity": False``."""
    return {
        field.name: identity(value) if is_dataclass(value) else value
        for field in fields(config)
        if field.metadata.get("identity", True)
        for value in [getattr(config, field.name)]
    }


def differences(there: Mapping[str, Any], here: Mapping[str, Any], where: str = "") -> list[str]:
    """Sentences about the entries in which two nested mappings of JSON values differ."""
    found: list[str] = []
    for name in sorted({*there, *here}):
        a, b = there.get(name), here.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{where}{name}.")
        elif (list(a) if isinstance(a, tuple) else a) != (list(b) if isinstance(b, tuple) else b):
            found.append(f"{where}{name} is {a!r} there and {b!r} here")
    return found
