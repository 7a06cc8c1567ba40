"""Planning in a thread while the last plan is executed.

While ``k`` actions of a plan are executed, the next plan is made for the state that will be there afterwards:
the model imagines these actions from what is known when their execution begins. So a decision costs the loop
no time, as long as planning takes no longer than the execution of ``k`` decisions.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdm_agents.agent.memory import AgentMemory
from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import AnytimePlanner, Deadline, HasOnly, History, Plan, Planner, WorldModel


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and what it took.

    Attributes:
        plan: The plan.
        milliseconds: Wall-clock time of imagining what is executed meanwhile, ``start`` and ``plan``.
        late: Seconds after its deadline at which the plan was there; 0 where there is none.
        waited: Seconds for which the loop waited for it; all of its time where it was made in the foreground.
    """

    plan: Plan
    milliseconds: float
    late: float
    waited: float


@torch.no_grad()
def make_plan(
    model: WorldModel[Any],
    planner: Planner,
    history: History,
    carry: Any,
    *,
    elapsed: Tensor,
    generator: torch.Generator,
    deadline: Deadline | None,
    meanwhile: Tensor | None = None,
) -> Planned:
    """Plan from a history, or from where actions will lead that are executed meanwhile.

    Args:
        model: The dynamics.
        planner: The planner.
        history: What has happened in ``B`` environments.
        carry: The planner's memory.
        elapsed: ``[B]``, decisions since the last plan when this one begins.
        generator: Source of randomness.
        deadline: Until when; None for no limit.
        meanwhile: ``[B, k, m]``, actions from the last observation on; None plans from that observation.
    """
    began = time.perf_counter()
    actions = () if meanwhile is None else meanwhile.unbind(dim=1)
    state = model.start(history, horizon=planner.horizon + len(actions))
    for action in actions:
        state, _ = model.step(state, action, generator=generator)
    if deadline is None:
        plan = planner.plan(model, state, carry, elapsed=elapsed, generator=generator)
    else:
        assert isinstance(planner, AnytimePlanner)  # the agent checked it
        plan = planner.plan(model, state, carry, elapsed=elapsed, generator=generator, deadline=deadline)
    if plan.action.is_cuda:
        torch.cuda.synchronize(plan.action.device)  # otherwise the clock would stop before the plan does
    seconds = time.perf_counter() - began
    late = 0.0 if deadline is None else deadline.met()
    return Planned(plan, milliseconds=1e3 * seconds, late=late, waited=seconds)


class Background:
    """A thread that makes the next plan of one environment."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tdm-plan")
        self._job: Future[Planned] | None = None

    def begin(
        self,
        model: WorldModel[Any],
        planner: Planner,
        memory: AgentMemory,
        *,
        generator: torch.Generator,
        deadline: Deadline | None,
    ) -> None:
        """Begin to plan for the state after the actions that are to be executed.

        Args:
            model: The dynamics.
            planner: The planner.
            memory: What is remembered after the last plan, with the actions that are executed now.
            generator: Source of the seed of this plan; it is not used by the thread.
            deadline: Until when; None for no limit.
        """
        device = generator.device
        seed = int(torch.randint(2**62, (), generator=generator, device=device, dtype=torch.int64))
        meanwhile = torch.cat([memory.action[:, -1:], memory.ahead], dim=1)  # [1, k, m]
        self._job = self._thread.submit(
            make_plan,
            model,
            planner,
            memory.history(),
            memory.carry,
            elapsed=torch.full_like(memory.since, meanwhile.shape[1]),
            generator=torch.Generator(device=device).manual_seed(seed),
            deadline=deadline,
            meanwhile=meanwhile,
        )

    def take(self) -> Planned | None:
        """The plan that was begun, once it is there; None if none was begun.

        Raises:
            Exception: What planning raised.
        """
        job, self._job = self._job, None
        if job is None:
            return None
        began = time.perf_counter()
        made = job.result()
        return Planned(made.plan, made.milliseconds, made.late, waited=time.perf_counter() - began)

    def drop(self) -> None:
        """Give up the plan that was begun, because its episode is over; wait until the thread is idle."""
        job, self._job = self._job, None
        if job is not None:
            job.exception()  # nobody needs the plan, so an error in it is none

    def close(self) -> None:
        """End the thread, after the plan that it is making."""
        self._job = None
        self._thread.shutdown(wait=True, cancel_futures=True)


def check_background(model: WorldModel[Any], batch: int) -> None:
    """Refuse what cannot be planned for in the background.

    Raises:
        TypeError: If the model reads the live environment.
        ValueError: If there are several environments.
    """
    if isinstance(model, HasOnly):
        raise WrongTypeError(
            f"background=True with {type(model).__name__}, which reads the environment itself, and that "
            "moves on meanwhile; plan with a learned model, or leave background out"
        )
    if batch != 1:
        raise WrongValueError(
            f"background=True with {batch} environments; expected one: attach an agent of its own to each, "
            "or leave background out"
        )
