"""The web server of the view: viser's, with a guard at the door.

Every request is looked at before it is answered, the websocket's handshake too (:mod:`tdm_agents.guard`).
"""

from __future__ import annotations

import contextlib
import http
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import viser
import websockets.asyncio.server
from websockets import Headers
from websockets.http11 import Request, Response

from tdm_agents.guard import Guard, answer

COOKIE = "tdm_view_token"
_STARTING = threading.Lock()

ProcessRequest = Callable[[Any, Request], Any]


class PageGuard(Guard):
    """A guard for people: the address that they open carries the token, and a cookie keeps it.

    Args:
        host: The address that the server listens at.
        token: The secret; None where none is demanded, which only an address of this machine may do.

    Raises:
        ValueError: If there is no token, and others than this machine can reach the address.
    """

    def __init__(self, host: str, token: str | None) -> None:
        super().__init__(host, token, "the view")

    def without_token(self, request: Request) -> Response | None:
        """None for the cookie; the token in the address is exchanged for it."""
        if self.knows(_cookie(request.headers)):
            return None
        path, _, query = request.path.partition("?")
        if self.knows(next(iter(parse_qs(query).get("token", [])), "")):
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            return answer(http.HTTPStatus.SEE_OTHER, "", Location=path, **{"Set-Cookie": cookie})
        return answer(
            http.HTTPStatus.UNAUTHORIZED,
            "This view asks for a token: open the address that `tdm view` printed, ?token=... and all.\n",
        )


class GuardedServer(viser.ViserServer):
    """viser's server behind a :class:`tdm_agents.guard.Guard`, silent, and without viser's public tunnel.

    Args:
        host: Address to listen at.
        port: Port; the next free one where it is taken, any free one for 0.
        guard: What is demanded of a request.
        label: Title of the page.
    """

    def __init__(self, host: str, port: int, guard: Guard, label: str) -> None:
        with _STARTING, _guarded(guard), contextlib.redirect_stdout(io.StringIO()):
            super().__init__(host=host, port=port, label=label, verbose=False)

    def request_share_url(self, verbose: bool = True) -> str | None:
        """None: a client could otherwise open the view to everybody, through somebody else's server."""
        return None

    def stop(self) -> None:
        """Disconnect everybody and listen no more."""
        with contextlib.redirect_stdout(io.StringIO()):
            super().stop()


@contextlib.contextmanager
def _guarded(guard: Guard) -> Iterator[None]:
    """Make servers that start inside ask the guard first.

    viser hands its own ``process_request`` to websockets and takes none from outside, so it is wrapped on
    the way there, for as long as the server starts.
    """
    serve = websockets.asyncio.server.serve

    def guarded_serve(*arguments: Any, process_request: ProcessRequest, **settings: Any) -> Any:
        def guarded(connection: Any, request: Request) -> Any:
            refusal = guard.refusal(request)
            return process_request(connection, request) if refusal is None else refusal

        return serve(*arguments, process_request=guarded, **settings)

    websockets.asyncio.server.serve = guarded_serve  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve  # type: ignore[misc]


def _cookie(headers: Headers) -> str:
    for line in headers.get_all("Cookie"):
        for pair in line.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == COOKIE:
                return value
    return ""
