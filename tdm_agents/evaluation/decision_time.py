"""How long an agent takes to decide, measured on recorded observations instead of in an environment."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from tdm_agents.agent import TDMAgent
from tdm_agents.data.decisions import Decisions


def milliseconds_per_decision(
    agent: TDMAgent, episode: Decisions, *, decisions: int = 4, seconds: float = 20.0
) -> float:
    """The median wall-clock time of a plan, while one recorded episode goes by.

    The agent is left as it was, but for its last plan. It plans at every decision. The first plan, which may
    compile, does not count where there are others.

    Args:
        agent: Of any world model of the episode's environment, with ``replan_every`` 1.
        episode: At least one recorded step.
        decisions: Plans to make, besides the first.
        seconds: After which no further one is begun.
    """
    spec, began = agent.model.spec, time.monotonic()
    memory = agent.initial_memory(1)
    generator = torch.Generator(device=spec.device).manual_seed(0)
    measured: list[float] = []
    for step in range(min(len(episode.reward), 1 + decisions)):
        rows = np.array(episode.observation[step : step + 1])
        observation = torch.from_numpy(rows).to(spec.device, spec.dtype)
        # a recorded step is a decision: no action is held, and no plan followed, until the next
        idle = torch.zeros_like(memory.countdown)
        memory, _ = agent.decide(replace(memory, countdown=idle), observation, generator=generator)
        assert agent.last_plan is not None
        measured.append(agent.last_plan.milliseconds)
        if time.monotonic() - began > seconds:
            break
    return float(np.median(measured[1:] or measured))
