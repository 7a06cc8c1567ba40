"""The true dynamics of live environments, as actors plan with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tdm_agents.environments import Env
from tdm_agents.world_models.simulator import SimulatorModel
from tdm_envs.tasks import batched_task_of


def true_dynamics(
    *, action_repeat: int, threads: int = 1, guide: float = 0.0
) -> Callable[[Sequence[Env]], SimulatorModel]:
    """A function that makes the true dynamics of environments, which are all of the same body.

    Args:
        action_repeat: Environment steps per decision.
        threads: Threads of the simulator.
        guide: Slope of what is maximised where a walker's reward is flat, see
            :class:`tdm_envs.walkers.task.WalkerTask`; 0 = the reward itself.

    Returns:
        The function. It raises ``TypeError`` or ``ValueError`` for environments whose physics cannot be
        rolled out.
    """

    def make(envs: Sequence[Env]) -> SimulatorModel:
        fast = batched_task_of(envs[0], guide=guide)
        return SimulatorModel(list(envs), action_repeat, threads=threads, fast=fast)

    return make
