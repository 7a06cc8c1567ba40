"""What client and server say to each other: msgpack, one message per binary frame of a websocket.

The server begins with a :class:`Hello`. Then each :class:`Act` of the client gets an :class:`Acted` or a
:class:`Refused`, one at a time. Messages are maps whose ``"type"`` says which one it is. An array is
msgpack's extension :data:`ARRAY`, whose data are in turn msgpack: ``[dtype, shape, bytes]``, the dtype as
NumPy writes it (``"<f4"``) and the bytes in C order. Nothing is a pickle, and no message makes anything
run or takes more memory than its own size.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tdm_agents.errors import TDMError, brief

PROTOCOL = 1
"""Version of what is said; a client refuses another one."""
ARRAY = 1
"""Code of the extension type that is an array."""
DTYPES = frozenset({"|b1", "|i1", "|u1"} | {f"<{kind}{size}" for kind in "iu" for size in (2, 4, 8)}) | {
    "<f2",
    "<f4",
    "<f8",
}
MAX_AXES = 16

BUSY, VALUE, TYPE, BUG, MALFORMED = "busy", "value", "type", "bug", "malformed"
"""Kinds of refusals: ask again; a wrong value; a wrong type; the server's own fault; no message of ours."""


class WireError(TDMError, ValueError):
    """Bytes that are no message."""


class Hello(msgspec.Struct, frozen=True, tag="hello", tag_field="type"):
    """What the server says first.

    Attributes:
        protocol: :data:`PROTOCOL`.
        agent: Name of exactly this agent: its weights, planner and settings. States of another one are
            refused.
        env_id: The environment that the agent is for.
        observation_space: The space, in Minari's JSON.
        action_space: The space, in Minari's JSON.
        discrete: Whether actions are choices.
        planner: The planner and its settings, in words.
        rows: Environments of a session, at most.
        max_bytes: Of a message to the server, at most.
    """

    protocol: int
    agent: str
    env_id: str | None
    observation_space: str
    action_space: str
    discrete: bool
    planner: str
    rows: int
    max_bytes: int


class Act(msgspec.Struct, frozen=True, tag="act", tag_field="type", forbid_unknown_fields=True):
    """A question: what to do next, in one environment or in the ``B`` of one session.

    Attributes:
        observation: Of the environment's own space, single or stacked: an array, or maps (``Dict``) and
            lists (``Tuple``) of them.
        state: What the last answer brought; None where the session begins.
        seed: Of the session's randomness; read where there is no ``state``.
        begin: Begin new episodes, in any number of environments: of ``state``, only the position in the
            stream of random numbers counts.
        reward: ``[B]``, as for :meth:`tdm_agents.TDMAgent.act`, or None.
        start: ``[B]`` bool, whether the observation is the first of an episode; None = nowhere.
        active: ``[B]`` bool, whether the action will be executed; None = everywhere.
        deterministic: As for :meth:`tdm_agents.TDMAgent.predict`; None = what the planner's settings say.
    """

    observation: Any
    state: bytes | None = None
    seed: int = 0
    begin: bool = False
    reward: Any = None
    start: Any = None
    active: Any = None
    deterministic: bool | None = None


class Acted(msgspec.Struct, frozen=True, tag="acted", tag_field="type"):
    """An answer.

    Attributes:
        action: Of the environment's own space; batched if the observation was.
        state: To be brought back with the next question. It is the whole session.
    """

    action: Any
    state: bytes


class Refused(msgspec.Struct, frozen=True, tag="refused", tag_field="type"):
    """No answer; the session is as it was.

    Attributes:
        kind: :data:`BUSY` and so on.
        text: What is wrong, and what to do.
    """

    kind: str
    text: str


def encoded(message: msgspec.Struct) -> bytes:
    """The bytes of a message.

    Raises:
        TypeError: If it holds something that is neither a number, a text, an array, nor lists and maps.
    """
    return _ENCODER.encode(message)


def decoded_question(data: bytes) -> Act:
    """The question that some bytes are.

    Raises:
        WireError: If they are none.
    """
    found = _decoded(_QUESTIONS, data)
    assert isinstance(found, Act)
    for name in ("reward", "start", "active"):
        if not isinstance(getattr(found, name), np.ndarray | None):
            raise WireError(f"{name} is no array")
    return found


def decoded_answer(data: bytes) -> Hello | Acted | Refused:
    """What the server said.

    Raises:
        WireError: If the bytes are none of its messages.
    """
    found = _decoded(_ANSWERS, data)
    assert isinstance(found, Hello | Acted | Refused)
    return found


def _decoded(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> object:
    if not isinstance(data, bytes):
        raise WireError("a text frame; messages are binary")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"no message of tdm serve: {brief(error, 200)}") from error


def _to_extension(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        dtype = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
        if dtype.str not in DTYPES:
            raise TypeError(f"an array of {array.dtype} cannot be sent; expected numbers or booleans")
        return msgspec.msgpack.Ext(
            ARRAY, msgspec.msgpack.encode((dtype.str, array.shape, array.astype(dtype).tobytes()))
        )
    raise TypeError(f"a {type(value).__name__} cannot be sent; expected arrays, numbers, dicts or lists")


def _from_extension(code: int, data: memoryview) -> npt.NDArray[Any]:
    if code != ARRAY:
        raise WireError(f"an extension of type {code}; the only one is {ARRAY}, an array")
    name, shape, content = _HEADER.decode(data)
    if name not in DTYPES or len(shape) > MAX_AXES:
        raise WireError(f"an array of {name[:20]!r} with {len(shape)} axes; expected numbers or booleans")
    dtype = np.dtype(name)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content):
        raise WireError(f"an array of {len(content)} bytes; {name} of that shape has another size")
    flat: npt.NDArray[Any] = np.frombuffer(content, np.uint8 if dtype.kind == "b" else dtype)
    array = flat != 0 if dtype.kind == "b" else flat.copy()  # to be written to, unlike the message
    return array.reshape(shape)


_HEADER = msgspec.msgpack.Decoder(tuple[str, list[int], bytes])
_ENCODER = msgspec.msgpack.Encoder(enc_hook=_to_extension)
_QUESTIONS = msgspec.msgpack.Decoder(Act, ext_hook=_from_extension)
_ANSWERS = msgspec.msgpack.Decoder(Hello | Acted | Refused, ext_hook=_from_extension)
