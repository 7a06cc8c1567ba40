"""The client: an agent that decides on another process or machine, in the place of a local one."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from tdm_agents.errors import TDMError, WrongOrderError, WrongTypeError, WrongValueError
from tdm_agents.guard import BEARER
from tdm_agents.serving import wire

FIRST_WAIT, LONGEST_WAIT = 0.05, 2.0
_REMEDY = "is `tdm serve` running there?"


class RemoteError(TDMError, RuntimeError):
    """A server that cannot be reached, or that failed."""


class RemoteAgent:
    """An agent behind ``tdm serve``, used like a :class:`tdm_agents.TDMAgent`, from one thread.

    The session (history, planner memory, position in the stream of random numbers) is a value that the client
    holds and sends with each question. So the server may be killed and started again, or be another one
    with the same agent and key: after a lost connection the same question is asked again, and gets the same
    answer.

    Args:
        address: ``"ws://HOST:PORT"``, as ``tdm serve`` prints it.
        seed: Of the randomness, as for :class:`tdm_agents.TDMAgent`.
        token: What ``tdm serve`` demands where others reach it.
        timeout: Seconds to wait for an answer before the connection is given up for a new one.
        patience: Seconds to go on trying where the server is away or busy.

    Raises:
        ValueError: If ``token``, ``timeout`` or ``patience`` makes no sense.
    """

    def __init__(
        self,
        address: str,
        *,
        seed: int = 0,
        token: str | None = None,
        timeout: float = 30.0,
        patience: float = 120.0,
    ) -> None:
        if not (timeout > 0 and patience >= 0):
            raise WrongValueError(
                f"timeout is {timeout} and patience {patience}; expected seconds, more than 0 and at least 0"
            )
        if token is not None and not (token.isascii() and token.isprintable() and token == token.strip()):
            raise WrongValueError(
                "token holds characters that no token has, such as the end of a line; expected what the file "
                "`token` in --out of `tdm serve` says"
            )
        self.address = address
        self._headers = {} if token is None else {"Authorization": f"{BEARER}{token}"}
        self._timeout, self._patience = timeout, patience
        self._seed = _integer(seed)
        self._socket: ClientConnection | None = None
        self._hello: wire.Hello | None = None
        self._state: bytes | None = None
        self._begins = False
        self._forget: npt.NDArray[np.bool_] | None = None

    # ------------------------------------------------------------------ acting

    def reset(self, seed: int | None = None, *, mask: npt.ArrayLike | None = None) -> None:
        """Begin new episodes, in all environments or where ``mask`` ``[B]`` is True.

        See :meth:`tdm_agents.TDMAgent.reset`. Nothing is sent before the next :meth:`act`.

        Raises:
            TypeError: If ``seed`` is not an integer.
            ValueError: If ``mask`` is of another number of environments than an earlier one.
            RuntimeError: If ``mask`` is given before any episode began.
        """
        if seed is not None:
            self._seed, self._state = _integer(seed), None if mask is None else self._state
        if mask is None:
            self._begins, self._forget = True, None
            return
        if self._state is None and not self._begins:
            raise WrongOrderError("reset(mask=...) before an episode began: call reset() without it first")
        if seed is not None:
            raise WrongValueError("seed and mask are both given; a seed is for all environments of a session")
        rows = np.array(mask, np.bool_)
        if self._forget is not None and self._forget.shape != rows.shape:
            raise WrongValueError(f"mask has shape {rows.shape}; the one before has {self._forget.shape}")
        self._forget = rows if self._forget is None else self._forget | rows

    def act(
        self,
        obs: Any,
        *,
        reward: npt.ArrayLike | None = None,
        episode_start: npt.ArrayLike | None = None,
        active: npt.ArrayLike | None = None,
    ) -> Any:
        """The action for the next environment step; see :meth:`tdm_agents.TDMAgent.act`.

        Raises:
            ValueError: If the server refuses an argument, or ``obs`` is too large to be sent.
            RuntimeError: If no episode has begun, or the server cannot be reached or failed.
        """
        start = None if episode_start is None else np.array(episode_start, np.bool_)
        if self._state is None and not self._begins and (start is None or not start.all()):
            raise WrongOrderError(
                "act() before an episode began: call agent.reset() after env.reset(), "
                "or pass episode_start=True with its first observation"
            )
        if self._forget is not None:
            start = self._forget if start is None else self._forget | start
        acted = self._ask(
            wire.Act(
                observation=_sendable(obs),
                state=self._state,
                seed=self._seed,
                begin=self._begins,
                reward=None if reward is None else np.asarray(reward, np.float64),
                start=start,
                active=None if active is None else np.asarray(active, np.bool_),
            )
        )
        self._state, self._begins, self._forget = acted.state, False, None
        single = isinstance(acted.action, np.ndarray) and acted.action.ndim == 0
        # environments look discrete actions up in dicts and lists, where an array of no axes will not do
        return acted.action[()] if single and self.hello.discrete else acted.action

    def predict(
        self,
        observation: Any,
        state: bytes | None = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], bytes]:
        """Actions as Stable-Baselines3's policies give them; see :meth:`tdm_agents.TDMAgent.predict`.

        Raises:
            TypeError: If ``state`` is not what an earlier call returned.
            ValueError: If the server refuses an argument.
            RuntimeError: If the server cannot be reached or failed.
        """
        if not isinstance(state, bytes | None):
            raise WrongTypeError(
                f"state is a {type(state).__name__}; expected what the last predict() returned, or None"
            )
        acted = self._ask(
            wire.Act(
                observation=_sendable(observation),
                state=self._state if state is None else state,
                seed=self._seed,
                begin=state is None,
                start=None if episode_start is None else np.array(episode_start, np.bool_),
                deterministic=bool(deterministic),
            )
        )
        return np.asarray(acted.action), acted.state

    # ------------------------------------------------------------------ the connection

    @property
    def hello(self) -> wire.Hello:
        """What the server says of itself: environment, spaces, planner, limits.

        Raises:
            RuntimeError: If it cannot be reached.
        """
        if self._hello is None:
            self._patiently(lambda _socket: None)
        assert self._hello is not None
        return self._hello

    def close(self) -> None:
        """Close the connection. The session is not lost: the next question opens another one."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, question: wire.Act) -> wire.Acted:
        try:
            data = wire.encoded(question)
        except TypeError as error:
            raise WrongTypeError(str(error)) from error
        if len(data) > self.hello.max_bytes:
            raise WrongValueError(
                f"the observation makes a message of {len(data):,} bytes; the server takes "
                f"{self.hello.max_bytes:,}, enough for {self.hello.rows} environments of its space"
            )

        def exchanged(socket: ClientConnection) -> wire.Hello | wire.Acted | wire.Refused:
            socket.send(data)
            return wire.decoded_answer(socket.recv(self._timeout))

        found = self._patiently(exchanged)
        assert isinstance(found, wire.Acted)
        return found

    def _patiently(self, exchange: Any) -> Any:
        """What ``exchange(socket)`` returns, over as many connections as that takes."""
        began, wait = time.monotonic(), FIRST_WAIT
        while True:
            problem: object
            try:
                found = exchange(self._connected())
            except InvalidStatus as error:
                problem = error
                if error.response.status_code == 401:
                    raise RemoteError(
                        f"{self.address} refuses: the token is {'another' if self._headers else 'missing'}; "
                        "expected RemoteAgent(address, token=...) with what the file `token` in --out of "
                        "`tdm serve` says"
                    ) from error
                if error.response.status_code == 403:
                    said = (error.response.body or b"").decode(errors="replace").strip()
                    raise RemoteError(f"{self.address} refuses: {said}") from error
            except InvalidURI as error:
                raise WrongValueError(f"the address is {self.address!r}; expected ws://HOST:PORT") from error
            except (OSError, ConnectionClosed, InvalidHandshake, wire.WireError) as error:
                self.close()
                problem = error
            except BaseException:  # Ctrl-C amid an exchange: its answer must not be taken for the next one
                self.close()
                raise
            else:
                if not isinstance(found, wire.Refused):
                    return found
                if found.kind != wire.BUSY:
                    raise _refusal(found)
                problem = found.text
            left = began + self._patience - time.monotonic()
            if left <= 0:
                raise RemoteError(
                    f"no answer from {self.address} for {self._patience:g} s ({problem}); {_REMEDY}"
                )
            time.sleep(min(wait, left))
            wait = min(2 * wait, LONGEST_WAIT)

    def _connected(self) -> ClientConnection:
        if self._socket is None:
            socket = connect(
                self.address,
                additional_headers=self._headers,
                compression=None,
                proxy=None,
                open_timeout=self._timeout,
                close_timeout=1.0,
                ping_interval=None,  # each question has a time-out of its own
                max_size=None,
            )
            self._socket = socket
            hello = wire.decoded_answer(socket.recv(self._timeout))
            if not isinstance(hello, wire.Hello) or hello.protocol != wire.PROTOCOL:
                self.close()
                raise RemoteError(f"{self.address} speaks another protocol; install the same tdm-agents")
            self._hello = hello
        return self._socket


def _refusal(refused: wire.Refused) -> TDMError:
    kinds: dict[str, type[TDMError]] = {wire.VALUE: WrongValueError, wire.TYPE: WrongTypeError}
    return kinds.get(refused.kind, RemoteError)(refused.text)


def _sendable(observation: Any) -> Any:
    """Maps and lists with arrays as leaves."""
    if isinstance(observation, dict):
        return {key: _sendable(part) for key, part in observation.items()}
    if isinstance(observation, tuple):
        return [_sendable(part) for part in observation]
    return np.asarray(observation)


def _integer(seed: object) -> int:
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer):
        raise WrongTypeError(f"seed is {seed!r}; expected an integer")
    return int(seed)
