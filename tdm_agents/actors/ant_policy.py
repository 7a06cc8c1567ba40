"""The policy that moves the ant of the mazes to a point: learned by PPO, read without Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from tdm_envs.ant_frame import towards

ANT_POLICY = Path(__file__).parent / "policies" / "ant-points.safetensors"
"""Its weights; ``benchmarks/ant_policy.py`` has made them."""


@dataclass(frozen=True, slots=True)
class AntPolicy:
    """A multilayer perceptron with tanh between its layers, whose outputs are the mean actions.

    Attributes:
        layers: Weights ``[outputs, inputs]`` and biases ``[outputs]``, in the order of the layers.
    """

    layers: tuple[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], ...]

    @classmethod
    def load(cls, path: Path = ANT_POLICY) -> AntPolicy:
        """The policy of a file, which holds ``0.weight``, ``0.bias``, ``1.weight`` and so on."""
        weights = load_file(path)
        return cls(tuple((weights[f"{i}.weight"], weights[f"{i}.bias"]) for i in range(len(weights) // 2)))

    def __call__(
        self, seen: Sequence[Mapping[str, Any]], offsets: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Actions in [-1, 1], ``[N, 8]``, of ``N`` observations and ways ``[N, 2]`` to their points (m)."""
        ants = [towards(one["observation"], offset) for one, offset in zip(seen, offsets, strict=True)]
        x = np.stack(ants).astype(np.float32)  # [N, 31]
        *hidden, (weight, bias) = self.layers
        for inner, shift in hidden:
            x = np.tanh(x @ inner.T + shift)
        actions: npt.NDArray[np.float32] = np.clip(x @ weight.T + bias, -1.0, 1.0)
        return actions
