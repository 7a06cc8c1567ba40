"""Settings of a recurrent state-space model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tdm_agents.errors import WrongValueError

Imagination = Literal["sample", "mean", "mode"]


@dataclass(frozen=True, slots=True)
class RSSMConfig:
    """Settings of an :class:`~tdm_agents.world_models.rssm.rssm_model.RSSMWorldModel`.

    The defaults are small enough for two cores. :data:`DREAMER_V2` has the sizes of the paper.

    Attributes:
        deterministic: Width of the recurrent state.
        hidden: Width of the layers before the recurrent state and of those that predict latents.
        latents: Categorical latents of a state.
        classes: Classes of each, at least 2.
        units: Width of the encoder, the decoder and the heads.
        layers: Their hidden layers.
        context: Most recent decisions that are filtered before anything is imagined.
        imagines_observations: Whether observations are decoded. Without a decoder the latents learn what
            rewards (and ends) need, and imagined steps have no observation.
        imagination: ``"mean"`` imagines with the probabilities of the latents, without noise: the closest
            where dynamics are deterministic. ``"sample"`` draws the latents, as Dreamer does: right where
            several futures are possible. ``"mode"`` takes the likeliest class of each latent, which many
            steps in a row leads away from anything that was trained.
        kl_scale: Weight of the divergence between posterior and prior beside the other losses.
        kl_balance: Share of the divergence that trains the prior rather than the posterior, in [0, 1].
        free_nats: Divergence, on average over a batch, below which it is not lowered further.
        learning_rate: A constant learning rate for Adam without weight decay; None = AdamW with the
            schedule of the run.
        grad_clip: Largest norm of the gradient; None = that of the run.

    Raises:
        ValueError: If a setting makes no sense.
    """

    deterministic: int = 128
    hidden: int = 128
    latents: int = 16
    classes: int = 16
    units: int = 128
    layers: int = 2
    context: int = 12
    imagines_observations: bool = True
    imagination: Imagination = field(default="mean", metadata={"identity": False})
    kl_scale: float = 0.1
    kl_balance: float = 0.8
    free_nats: float = 1.0
    learning_rate: float | None = None
    grad_clip: float | None = None

    def __post_init__(self) -> None:
        for name in ("deterministic", "hidden", "latents", "units", "layers", "context"):
            if (count := getattr(self, name)) < 1:
                raise WrongValueError(f"RSSMConfig.{name} is {count}; expected at least 1")
        if self.classes < 2:
            raise WrongValueError(f"RSSMConfig.classes is {self.classes}; expected at least 2")
        if self.imagination not in ("sample", "mean", "mode"):
            raise WrongValueError(
                f"RSSMConfig.imagination is {self.imagination!r}; expected 'sample', 'mean' or 'mode'"
            )
        if not 0.0 <= self.kl_balance <= 1.0:
            raise WrongValueError(f"RSSMConfig.kl_balance is {self.kl_balance}; expected 0 to 1")
        for name in ("kl_scale", "free_nats"):
            if not (value := getattr(self, name)) >= 0.0:
                raise WrongValueError(f"RSSMConfig.{name} is {value}; expected at least 0")
        for name in ("learning_rate", "grad_clip"):
            if (value := getattr(self, name)) is not None and not value > 0.0:
                raise WrongValueError(f"RSSMConfig.{name} is {value}; expected more than 0, or None")


DREAMER_V2 = RSSMConfig(
    deterministic=200,
    hidden=200,
    latents=32,
    classes=32,
    units=400,
    layers=4,
    context=50,
    imagination="sample",
    kl_scale=1.0,
    learning_rate=3e-4,
    grad_clip=100.0,
)
"""The sizes and the optimizer of Dreamer V2 for flat observations (Hafner et al., arXiv:2010.02193).

The paper trains on 16 windows of 50 steps per update.
"""
