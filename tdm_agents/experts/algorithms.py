"""The algorithms of Stable-Baselines3 that train policies, and their settings here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Algorithm = Literal["ppo", "sac"]

EVALUATION_EPISODES = 3
"""Episodes per evaluation, by default."""

# SB3's own defaults are for one environment and a network of 64 x 64
_OWN: Mapping[str, Mapping[str, Any]] = {
    "ppo": {"n_steps": 512, "batch_size": 256, "policy_kwargs": {"net_arch": [128, 128]}},
    "sac": {"policy_kwargs": {"net_arch": [128, 128]}, "gradient_steps": -1},
}


def settings_for(algorithm: Algorithm, changed: Mapping[str, Any]) -> dict[str, Any]:
    """What an algorithm of SB3 is given: this package's settings, some of them changed."""
    return {**_OWN[algorithm], **changed}
