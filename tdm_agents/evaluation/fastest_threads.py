"""The number of torch's threads that imagine fastest here and now."""

from __future__ import annotations

import os
import time

import torch

from tdm_agents.agent import TDMAgent
from tdm_agents.protocols import History

MAX_THREADS = 8
_TIMED_STEPS = 8


def fastest_threads(agent: TDMAgent, observation: torch.Tensor) -> tuple[int, dict[int, float]]:
    """The number of torch's threads with which the model imagines fastest, and milliseconds per step of each.

    It doubles the number as long as that clearly helps. Where other processes want the cores too, two threads
    that wait for each other are tens of times slower than one. Only a trial tells, so it is kept short: a few
    imagined steps rather than a decision. Torch's setting is changed afterwards.

    Args:
        agent: The agent; its generator and memory stay as they are.
        observation: ``[n]``, where imagining begins.
    """
    model, spec = agent.model, agent.model.spec
    history = History.of_observation(observation[None], action_dim=spec.action_dim)
    rows = torch.zeros(getattr(agent.planner, "num_samples", 32), dtype=torch.int64, device=spec.device)
    action = torch.zeros(len(rows), spec.action_dim, dtype=spec.dtype, device=spec.device)

    def milliseconds(steps: int) -> float:
        generator = torch.Generator(device=spec.device).manual_seed(0)
        state = model.take(model.start(history, horizon=steps), rows)
        began = time.perf_counter()
        for _ in range(steps):
            state, _ = model.step(state, action, generator=generator)
        return 1e3 * (time.perf_counter() - began) / steps

    torch.set_num_threads(1)
    milliseconds(1)  # the first call allocates
    tried, best = {1: milliseconds(_TIMED_STEPS)}, 1
    while 2 * best <= min(_cores(), MAX_THREADS):
        count = 2 * best
        torch.set_num_threads(count)
        tried[count] = milliseconds(1)  # starts the threads, and shows the worst at once
        if tried[count] < 2.0 * tried[best]:
            tried[count] = milliseconds(_TIMED_STEPS)
        if tried[count] > 0.9 * tried[best]:
            break
        best = count
    return best, tried


def _cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
