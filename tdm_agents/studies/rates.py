"""The speed of this machine, and the share of it that models use: what forecasts are made of.

A model is taken to need 6 operations per weight and row when it learns and 2 when it imagines, where a row is
one token of a transformer and one transition of any other model. The shares are kept here: those of
transformers are from ``benchmarks/training_speed.py`` and ``benchmarks/planning_speed.py``, those of others
from short tries on a cartpole. The machine's own rate is measured whenever it is needed. Expect a factor of
two, and more where other processes run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Share:
    """How a model uses a machine.

    Attributes:
        learning: Share of the machine's rate that updates reach.
        imagining: Share that imagination reaches.
        update_seconds: Seconds per update besides.
        row_seconds: Seconds per row of an imagined sequence, of all candidates together, besides.
    """

    learning: float
    imagining: float
    update_seconds: float
    row_seconds: float


SHARES = {
    "transformer": Share(learning=0.6, imagining=0.6, update_seconds=0.005, row_seconds=0.0013),
    "trajectory_transformer": Share(learning=0.6, imagining=0.6, update_seconds=0.005, row_seconds=0.0013),
    "generalist": Share(learning=0.6, imagining=0.6, update_seconds=0.005, row_seconds=0.0013),
    "step_generalist": Share(learning=0.6, imagining=0.6, update_seconds=0.005, row_seconds=0.0001),
    "mlp": Share(learning=0.6, imagining=0.36, update_seconds=0.002, row_seconds=0.0003),
    "iql": Share(learning=0.9, imagining=1.0, update_seconds=0.003, row_seconds=0.0003),
    "pets": Share(learning=0.4, imagining=0.23, update_seconds=0.004, row_seconds=0.0001),
    "rssm": Share(learning=0.45, imagining=0.84, update_seconds=0.033, row_seconds=0.0016),
}
"""By the name of the model. PETS moves several particles per row, and not every weight of IQL takes part in
everything, which is in their shares."""


LEARNING_SECONDS = {"ppo": 0.0005, "sac": 0.01}
"""Seconds per environment step in which Stable-Baselines3 learns, besides those of the environment."""


def operations_per_second(device: str, *, seconds: float = 0.3) -> float:
    """The rate of float32 products of matrices on a device, by one thread on a CPU, measured now."""
    size = 512 if device == "cpu" else 4096
    matrix = torch.rand(size, size, dtype=torch.float32, device=device)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        float((matrix @ matrix)[0, 0])  # warm
        began, done = time.monotonic(), 0
        while (elapsed := time.monotonic() - began) < seconds:
            float((matrix @ matrix)[0, 0])  # waits for the device
            done += 1
    finally:
        torch.set_num_threads(before)
    return 2.0 * size**3 * done / elapsed
