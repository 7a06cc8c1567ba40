"""Prompts: what an episode begins with, as if it had just happened.

The TDM paper tells its behaviour-cloning agent (arXiv:2305.10912) what to do by an expert's episode in front
of its own: the model reads that episode as history and goes on in its manner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tdm_agents.agent.memory import AgentMemory
from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.protocols import History, ModelSpec

if TYPE_CHECKING:
    from tdm_agents.data.decisions import Decisions


def of_episode(episode: Decisions) -> History:
    """A recorded episode, for example ``trajectories.episode(0)``, as one environment's history."""
    observation, reward, action = (
        torch.from_numpy(np.array(a)) for a in (episode.observation, episode.reward, episode.action)
    )
    length = torch.tensor([len(observation)], dtype=torch.int64, device="cpu")
    return History(observation[None], reward[None], action[None, :-1], length)


def checked(prompt: History, spec: ModelSpec) -> History:
    """A prompt on the model's device and in its dtype, its padding 0.

    Raises:
        TypeError: If ``prompt`` is no history.
        ValueError: If it is of other observations or actions than the model's, is not finite, or has no
            observation after which something was done.
    """
    if not isinstance(prompt, History):
        raise WrongTypeError(
            f"history is {prompt!r}; expected a tdm_agents.protocols.History, for example "
            "tdm_agents.agent.prompt.of_episode(trajectories.episode(0))"
        )
    batch, steps = prompt.observation.shape[:2]
    for name, tensor, shape in (
        ("observation", prompt.observation, (batch, steps, spec.observation_dim)),
        ("reward", prompt.reward, (batch, steps)),
        ("action", prompt.action, (batch, steps - 1, spec.action_dim)),
        ("length", prompt.length, (batch,)),
    ):
        if tuple(tensor.shape) != shape:
            raise WrongValueError(f"history.{name} has shape {tuple(tensor.shape)}; expected {shape}")
    discrete = spec.action_kind == "discrete"
    if prompt.action.is_floating_point() == discrete:
        kind = "int64 choices" if discrete else "numbers in [-1, 1]"
        raise WrongValueError(f"history.action is {prompt.action.dtype}; expected {kind}")
    if not batch or int(prompt.length.min()) < 2 or int(prompt.length.max()) > steps:
        raise WrongValueError(
            f"history.length is {prompt.length.tolist()} of {steps} observations; expected at least 2, "
            "because the last observation, after which nothing was done, is left out"
        )
    device, length = spec.device, prompt.length.to(spec.device)
    padding = torch.arange(steps, device=device) < steps - length[:, None]  # [B, T]
    action = prompt.action.to(device, torch.int64 if discrete else spec.dtype)
    clean = History(
        observation=prompt.observation.to(device, spec.dtype).masked_fill(padding[..., None], 0),
        reward=prompt.reward.to(device, spec.dtype).masked_fill(padding, float("nan")),
        action=action.masked_fill(padding[:, :-1, None], 0),
        length=length,
    )
    if not bool(clean.observation.isfinite().all() & clean.action.isfinite().all()):
        raise WrongValueError("history holds NaN or inf in observations or actions: a model cannot read them")
    return clean


def recall(memory: AgentMemory, prompt: History, rows: Tensor) -> AgentMemory:
    """The memory in which a prompt is the past of ``rows``.

    Args:
        memory: What is remembered of ``B`` environments.
        prompt: A result of :func:`checked`: of one environment, which all rows share, or of ``B``.
        rows: ``[B]`` bool.

    Raises:
        ValueError: If the prompt is of another number of environments.
    """
    if prompt.batch not in (1, memory.batch):
        raise WrongValueError(
            f"history is of {prompt.batch} environments, but observations are of {memory.batch}; expected as "
            "many, or one for all of them"
        )
    held = memory.observation.shape[1]
    done = min(held, prompt.observation.shape[1] - 1)

    def past(remembered: Tensor, steps: Tensor) -> Tensor:
        filled = remembered.clone()
        filled[:, held - done :] = steps[:, steps.shape[1] - done :]
        return torch.where(rows.view(-1, *[1] * (remembered.ndim - 1)), filled, remembered)

    return replace(
        memory,
        observation=past(memory.observation, prompt.observation[:, :-1]),
        reward=past(memory.reward, prompt.reward[:, :-1]),
        action=past(memory.action, prompt.action),
        length=torch.where(rows, (prompt.length - 1).clamp(max=held), memory.length),
    )
