"""Use of a world model's proposal by planners, which ask for it and follow it in imagination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tdm_agents.errors import WrongTypeError
from tdm_agents.protocols import Deadline, HasProposal, Rollout, Step, WorldModel
from tdm_planners.anytime import measure


def require_proposal(model: WorldModel[Any], planner: object) -> HasProposal[Any]:
    """The model, typed as one that can propose.

    Raises:
        TypeError: If it cannot; the message names the remedy.
    """
    if not isinstance(model, HasProposal):
        raise WrongTypeError(
            f"{type(planner).__name__} follows a proposal, and {type(model).__name__} has no propose(): wrap "
            "it as tdm_agents.wrappers.WithProposal(model, policy), or use a model that proposes (the "
            "transformer does)"
        )
    return model


def follow(
    model: WorldModel[Any],
    state: Any,
    act: Callable[[Any, int], Tensor],
    horizon: int,
    *,
    generator: torch.Generator,
    deadline: Deadline | None = None,
) -> tuple[Tensor, Rollout]:
    """Imagine in closed loop: each action is chosen in the state that the previous ones led to.

    Args:
        model: The world model.
        state: ``N`` rows; consumed.
        act: Chooses actions ``[N, m]`` from a state, which it leaves usable, and the number of the step.
        horizon: ``H``, the number of steps.
        generator: Source of randomness of the model.
        deadline: After the first step, another one is made only if it is expected to be in time.

    Returns:
        The actions ``[N, H, m]`` (or fewer, before a deadline), and the rollout that they led to.
    """
    actions: list[Tensor] = []
    steps: list[Step] = []
    for t in range(horizon):
        began = 0.0 if deadline is None else deadline.clock()
        if steps and deadline is not None and not deadline.allows(len(actions[0])):
            break
        actions.append(act(state, t))
        state, step = model.step(state, actions[-1], generator=generator)
        if deadline is not None:
            measure(deadline, began, actions[-1])
        steps.append(step)
    return torch.stack(actions, dim=1), Rollout.of(steps, state)
