"""Named settings of whole agents: a transformer, its time step, and the planner that plans with it.

The paper's (2305.10912, section 4.1) plan at every environment step, by random shooting on Brownian noise:
for cartpole with 128 candidates (K) over 100 steps (H), for walker 64 over 25, for humanoid 64 over 20.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tdm_agents.protocols import Planner
from tdm_agents.registry import make_planner
from tdm_agents.world_models.transformer import presets
from tdm_agents.world_models.transformer.config import TransformerConfig


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings that belong together.

    Attributes:
        transformer: Size, tokens and decoding of the model.
        action_repeat: Environment steps a decision.
        planner: Name of the planner.
        planner_settings: Fields of its dataclass; the others keep their defaults.
    """

    transformer: TransformerConfig
    action_repeat: int = 4
    planner: str = "mppi"
    planner_settings: Mapping[str, Any] = field(default_factory=dict)

    def make_planner(self, name: str | None = None) -> Planner:
        """The preset's planner; another by name, with its defaults.

        Raises:
            UnknownNameError: If no package provides the name.
        """
        own = name is None or name == self.planner
        return make_planner(name or self.planner, **(self.planner_settings if own else {}))


def _paper(num_samples: int, horizon: int) -> Preset:
    return Preset(
        presets.PRESETS["gato-79m"],
        action_repeat=1,
        planner="random_shooting",
        planner_settings={"num_samples": num_samples, "horizon": horizon},
    )


PRESETS: dict[str, Preset] = {
    **{name: Preset(config) for name, config in presets.PRESETS.items()},
    "paper-cartpole": _paper(num_samples=128, horizon=100),
    "paper-walker": _paper(num_samples=64, horizon=25),
    "paper-humanoid": _paper(num_samples=64, horizon=20),
}
"""By name."""
