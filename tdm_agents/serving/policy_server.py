"""The server: websockets at the front, one model behind, and nothing that could be lost between them."""

from __future__ import annotations

import asyncio
import http
import logging
import socket as sockets
from collections.abc import Callable
from dataclasses import dataclass

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tdm_agents.agent import TDMAgent
from tdm_agents.errors import brief, is_mistake
from tdm_agents.guard import Guard, answer
from tdm_agents.serving import wire
from tdm_agents.serving.batches import Batches
from tdm_agents.serving.sealed_state import Seals
from tdm_agents.serving.shared_decisions import SharedDecisions
from tdm_agents.spaces.space_json import space_to_json

LOG = logging.getLogger(__name__)
_SPARE_BYTES = 65536
"""Of a message, for what is neither state nor observation."""


@dataclass(frozen=True)
class Limits:
    """What the server grants.

    Attributes:
        rows: Environments of a batch, and so of a session.
        filled: Whether batches are filled up, see :class:`.SharedDecisions`.
        gather: Seconds for which a batch waits for more sessions.
        sessions: Connections at once; more are told to come back (503).
        wait: Seconds that a question may wait for its answer; then the client is told to ask again.
        idle: Seconds after which a connection without a whole question, or whose client does not read its
            answer, is closed. No session is lost by it.
    """

    rows: int = 32
    filled: bool = False
    gather: float = 0.002
    sessions: int = 1024
    wait: float = 20.0
    idle: float = 300.0


class PolicyServer:
    """Answers ``act`` for many sessions with one agent. It keeps nothing between two questions of a session.

    Args:
        agent: The agent.
        key: Secret with which states are sealed; the same one after a restart.
        guard: Who may ask.
        limits: What is granted.

    Raises:
        TypeError: If the planner's memory cannot be sent.
    """

    def __init__(self, agent: TDMAgent, key: bytes, guard: Guard, limits: Limits | None = None) -> None:
        self._agent, self._guard, self._limits = agent, guard, limits or Limits()
        self._seals = Seals(agent, key)
        self._decisions = SharedDecisions(agent, self._limits.rows, filled=self._limits.filled)
        self._decisions.warm_up()
        self._open = 0
        self._batches = Batches(
            self._decisions.decide, self._limits.rows, self._limits.gather, lambda: self._open
        )
        spec = agent.model.spec
        rows = self._limits.rows
        self._hello = wire.Hello(
            protocol=wire.PROTOCOL,
            agent=self._seals.name.hex(),
            env_id=agent.env_id,
            observation_space=space_to_json(spec.observation_space),
            action_space=space_to_json(spec.action_space),
            discrete=spec.action_kind == "discrete",
            planner=repr(agent.planner),
            rows=rows,
            # a scalar takes 8 bytes at most, and a category none per choice
            max_bytes=self._seals.size(rows) + 8 * rows * (spec.observation_dim + 4) + _SPARE_BYTES,
        )

    async def run(self, host: str, port: int, stop: asyncio.Event, listening: Callable[[int], None]) -> None:
        """Serve until ``stop`` is set; what is under way then is dropped, which loses no session.

        Args:
            host: Address to listen at.
            port: Port; any free one for 0.
            stop: Ends it.
            listening: Called with the port, once clients may connect.

        Raises:
            OSError: If the address cannot be listened at.
        """
        deciding = asyncio.create_task(self._batches.run())
        try:
            async with self._server(host, port) as server:
                listening(_port(server))
                ended = asyncio.create_task(stop.wait())
                await asyncio.wait((ended, deciding), return_when=asyncio.FIRST_COMPLETED)
                if deciding.done():
                    deciding.result()  # a bug: not to be waited over
        finally:
            deciding.cancel()

    def _server(self, host: str, port: int) -> serve:
        return serve(
            self._talk,
            host,
            port,
            process_request=self._door,
            compression=None,  # states do not shrink, and nothing may grow
            max_size=self._hello.max_bytes,
            max_queue=1,
            write_limit=2 * self._hello.max_bytes,
            ping_timeout=60,
            close_timeout=2,
            logger=_QUIET,
        )

    def _door(self, connection: ServerConnection, request: Request) -> Response | None:
        refusal = self._guard.refusal(request)
        if refusal is None and self._open >= self._limits.sessions:
            return answer(http.HTTPStatus.SERVICE_UNAVAILABLE, "all connections are taken; come back later\n")
        return refusal

    async def _talk(self, connection: ServerConnection) -> None:
        self._open += 1
        try:
            await self._send(connection, wire.encoded(self._hello))
            while True:
                async with asyncio.timeout(self._limits.idle):
                    data = await connection.recv()
                await self._send(connection, wire.encoded(await self._answered(data)))
        except ConnectionClosed:
            pass
        except TimeoutError:
            await connection.close(1008, "too slow; connect again, and go on")
        finally:
            self._open -= 1

    async def _send(self, connection: ServerConnection, data: bytes) -> None:
        async with asyncio.timeout(self._limits.idle):
            await connection.send(data)

    async def _answered(self, data: str | bytes) -> wire.Acted | wire.Refused:
        try:
            asked = wire.decoded_question(data)
            question = self._decisions.question(
                asked.observation,
                state=None if asked.state is None else self._seals.opened(asked.state),
                begin=asked.begin,
                seed=asked.seed,
                reward=asked.reward,
                start=asked.start,
                active=asked.active,
                deterministic=asked.deterministic,
            )
            if question.due():
                async with asyncio.timeout(self._limits.wait):
                    found = await self._batches.answer(question)
            else:  # an action is held, or a plan followed
                (answered,) = self._decisions.decide([question])
                if isinstance(answered, Exception):
                    raise answered
                found = answered
            return wire.Acted(found.action, self._seals.sealed(found.state))
        except TimeoutError:
            return wire.Refused(wire.BUSY, "too many sessions are waiting; ask again")
        except wire.WireError as error:
            return wire.Refused(wire.MALFORMED, str(error))
        except Exception as error:
            if is_mistake(error):
                return wire.Refused(wire.TYPE if isinstance(error, TypeError) else wire.VALUE, brief(error))
            LOG.exception("a question could not be answered")
            return wire.Refused(wire.BUG, f"the server failed ({type(error).__name__}); its log says where")


def _port(server: Server) -> int:
    listener: sockets.socket = next(iter(server.sockets))
    port: int = listener.getsockname()[1]
    return port


_QUIET = logging.getLogger(f"{__name__}.websockets")
_QUIET.setLevel(logging.CRITICAL)  # what a client does wrong is no news
