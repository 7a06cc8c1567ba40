"""Sessions as bytes that clients hold: what an agent remembers, sealed so that nobody can alter it.

A state is a value: memory, planner memory and the position in the stream of random numbers, as raw arrays in
an order that the agent itself gives. The seal (HMAC-SHA256, RFC 2104) shows that a server with the same key
made it for the same agent, so that nothing else of it has to be doubted when it comes back.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tdm_agents.agent import TDMAgent
from tdm_agents.agent.predict import PredictState
from tdm_agents.errors import WrongTypeError, WrongValueError
from tdm_agents.spaces.spec_json import spec_to_json

_SEAL, _NAME, _ROWS = 32, 16, 4
LAYOUT = 1
"""Of a state; part of the agent's name."""


def name_of(agent: TDMAgent) -> bytes:
    """16 bytes that tell agents apart by all that their states and decisions depend on, but the seed."""
    hashed = hashlib.sha256(repr((LAYOUT, agent.planner, agent.replan_every, agent.env_id)).encode())
    hashed.update(repr((type(agent.base_model).__name__, _reward_text(agent))).encode())
    hashed.update(repr(sorted(spec_to_json(agent.model.spec).items())).encode())
    if isinstance(agent.base_model, torch.nn.Module):
        for name, tensor in agent.base_model.state_dict().items():
            hashed.update(name.encode() + _raw(tensor))
    return hashed.digest()[:_NAME]


class Seals:
    """Makes states of one agent, and reads those that were made with the same key.

    Args:
        agent: The agent.
        key: A secret.

    Raises:
        TypeError: If the planner's memory is no dataclass of tensors.
    """

    def __init__(self, agent: TDMAgent, key: bytes) -> None:
        self.name = name_of(agent)
        self._key = key
        self._like = agent.initial_memory(1)
        self._device = agent.model.spec.device
        self._random = len(_raw(agent.generator.get_state()))
        self._leaves = [(tuple(leaf.shape[1:]), leaf.dtype) for leaf in _leaves(self._like)]

    def size(self, rows: int) -> int:
        """Bytes of a state of ``rows`` environments."""
        each = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self._leaves)
        return _SEAL + _NAME + _ROWS + rows * each + self._random

    def sealed(self, state: PredictState) -> bytes:
        """A state's bytes.

        Raises:
            ValueError: If the planner's memory has changed its shape since ``init``.
        """
        rows, leaves = state.memory.batch, list(_leaves(state.memory))
        shapes = [(tuple(leaf.shape[1:]), leaf.dtype) for leaf in leaves]
        if shapes != self._leaves:
            raise WrongValueError(
                "the planner's memory has other shapes than its init() made, so that it cannot be sent: "
                "check the planner with tdm_agents.testing.check_planner"
            )
        body = b"".join((self.name, rows.to_bytes(_ROWS, "little"), *map(_raw, leaves), _raw(state.random)))
        return self._seal(body) + body

    def opened(self, data: bytes) -> PredictState:
        """The state that :meth:`sealed` made.

        Raises:
            ValueError: If it was altered, or a server with another key or another agent made it.
        """
        seal, body = data[:_SEAL], data[_SEAL:]
        if not hmac.compare_digest(seal, self._seal(body)):
            raise WrongValueError(
                "the state was altered, or made by a server with another key: start the server with the same "
                "--out as before, or begin anew with reset(seed=...)"
            )
        if body[:_NAME] != self.name:
            raise WrongValueError(
                "the state is of another agent than the one that is served now (weights, planner or "
                "settings): begin anew with reset(seed=...)"
            )
        rows = int.from_bytes(body[_NAME : _NAME + _ROWS], "little")
        content, place = bytearray(body), _NAME + _ROWS
        tensors = []
        for shape, dtype in self._leaves:
            count = rows * math.prod(shape)
            whole = (
                torch.frombuffer(content, dtype=dtype, count=count, offset=place)
                if count and place % dtype.itemsize == 0
                else torch.empty(0, dtype=dtype, device="cpu")
                if not count
                else torch.frombuffer(content[place : place + count * dtype.itemsize], dtype=dtype)
            )
            tensors.append(whole.reshape(rows, *shape).to(self._device))
            place += count * dtype.itemsize
        random = torch.frombuffer(content[place:], dtype=torch.uint8)
        return PredictState(_with_leaves(self._like, iter(tensors)), random)

    def _seal(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def _leaves(value: Any) -> Iterator[Tensor]:
    """The tensors of a memory, in the order of its fields."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _leaves(getattr(value, field.name))
    elif value is not None:
        raise WrongTypeError(
            f"memory holds a {type(value).__name__}; expected tensors and dataclasses of them"
        )


def _with_leaves(like: Any, leaves: Iterator[Tensor]) -> Any:
    if isinstance(like, Tensor):
        return next(leaves)
    if like is None:
        return None
    return replace(like, **{f.name: _with_leaves(getattr(like, f.name), leaves) for f in fields(like)})


def _raw(tensor: Tensor) -> bytes:
    """The bytes of a tensor of any type, in C order."""
    if not tensor.numel():
        return b""
    raw: bytes = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return raw


def _reward_text(agent: TDMAgent) -> str:
    reward = agent.reward_function
    return str(getattr(reward, "__qualname__", reward))
