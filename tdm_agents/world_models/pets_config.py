"""Settings and presets of PETS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import Preset

Propagation = Literal["ts_inf", "ts1"]
"""Which member a particle follows: the same one for ever, or another at every step."""


@dataclass(frozen=True, slots=True)
class PETSConfig:
    """Settings of a :class:`PETS`.

    Attributes:
        members: Networks in the ensemble, from 1 to 1,000.
        hidden: Width of the hidden layers, from 1 to 65,536.
        layers: Number of hidden layers, from 1 to 1,000.
        bound_penalty: Weight in the loss of the distance between the bounds of the log-variance, at least 0.
        particles: Trajectories that are sampled per row; a multiple of ``members``. No part of what the
            model is.
        propagation: ``"ts_inf"``: a particle follows one member for ever, which tells ignorance, the same at
            every step, from noise. ``"ts1"``: the particles are dealt out to the members anew at every step.
            No part of what the model is.

    Raises:
        ValueError: If a setting makes no sense.
    """

    members: int = 5
    hidden: int = 128
    layers: int = 3
    bound_penalty: float = 0.01
    particles: int = field(default=10, metadata={"identity": False})
    propagation: Propagation = field(default="ts_inf", metadata={"identity": False})

    def __post_init__(self) -> None:
        for name, most in (("members", 1_000), ("hidden", 65_536), ("layers", 1_000)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise WrongValueError(
                    f"PETSConfig.{name} is {value}; expected at least 1 and at most {most:,}"
                )
        if not self.bound_penalty >= 0:
            raise WrongValueError(f"PETSConfig.bound_penalty is {self.bound_penalty}; expected at least 0")
        if self.particles < 1 or self.particles % self.members:
            raise WrongValueError(
                f"PETSConfig.particles is {self.particles}; expected a multiple of members, which is "
                f"{self.members}, so that every member moves equally many"
            )
        if self.propagation not in get_args(Propagation):
            raise WrongValueError(
                f"PETSConfig.propagation is {self.propagation!r}; expected one of "
                f"{', '.join(get_args(Propagation))}"
            )


def _paper(*, hidden: int, layers: int, num_samples: int, num_elites: int, horizon: int) -> Preset:
    settings: dict[str, Any] = {
        "iterations": 5,
        "num_samples": num_samples,
        "num_elites": num_elites,
        "horizon": horizon,
        "momentum": 0.1,
        "initial_std": 0.5,  # a quarter of the range of actions
        "std_floor": 0.0,
        "noise_alpha": 0.0,
        "execute": "mean",
    }
    config = PETSConfig(hidden=hidden, layers=layers, particles=20)
    return Preset(config, action_repeat=1, planner="cem", planner_settings=settings)


PRESETS = {
    "default": Preset(PETSConfig()),
    # the paper trains with Adam at a learning rate of 1e-3
    "paper-cartpole": _paper(hidden=500, layers=3, num_samples=400, num_elites=40, horizon=25),
    "paper-halfcheetah": _paper(hidden=200, layers=4, num_samples=500, num_elites=50, horizon=30),
}
"""By name, the default first."""
