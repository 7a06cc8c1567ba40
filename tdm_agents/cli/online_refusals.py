"""What ``tdm online`` refuses before it makes anything."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch

from tdm_agents.agent import TDMAgent
from tdm_agents.cli.online_options import Online
from tdm_agents.errors import WrongOrderError, WrongValueError
from tdm_agents.protocols import Planner, TrainableModel


def refuse_useless(args: Online, config: Any) -> None:
    """Refuse settings that would do nothing.

    Args:
        args: The command.
        config: Of the model.

    Raises:
        ValueError: If there is one.
    """
    training = args.training
    if training.offline_updates is not None and not args.data:
        raise WrongValueError(
            f"--offline-updates is {training.offline_updates}, and there is no --data to make them with"
        )
    horizon = getattr(config, "horizon", 0)
    if training.window_steps <= horizon:
        raise WrongValueError(
            f"--window-steps is {training.window_steps}, and the model learns from {horizon} transitions "
            f"in a row (its setting horizon): pass --window-steps {horizon + 1}"
        )


def refuse_unplannable(model: TrainableModel, planner: Planner, environments: Iterable[str]) -> None:
    """Refuse a planner that asks a model for more than it can do, by planning one decision.

    A model that cannot imagine before it was fitted to data is not asked.

    Args:
        model: The model, before its first update.
        planner: The planner.
        environments: Their names.

    Raises:
        TypeError: If the model lacks what the planner needs.
        ValueError: If the planner's settings do not fit the model.
    """
    model.eval()
    for name in environments:
        agent = TDMAgent(model.environment(name), planner)
        spec = agent.model.spec
        nothing = torch.zeros(1, spec.observation_dim, device=spec.device, dtype=spec.dtype)
        with suppress(WrongOrderError):
            agent.decide(agent.initial_memory(1), nothing)
    model.train()
