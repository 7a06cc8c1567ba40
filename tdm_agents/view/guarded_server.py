"""The web server of the view: viser's, with a guard at the door.

Every request is looked at before it is answered, the websocket's handshake too. On this machine's own
address nothing is asked of a person, but a page of another site must not drive the view: the host that it
was addressed by, and the origin, have to be this server's. Elsewhere a token is demanded; the address that
is printed carries it, and a cookie keeps it.
"""

from __future__ import annotations

import contextlib
import hmac
import http
import io
import ipaddress
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import viser
import websockets.asyncio.server
from websockets import Headers
from websockets.http11 import Request, Response

from tdm_agents.errors import WrongValueError

COOKIE = "tdm_view_token"
_STARTING = threading.Lock()

ProcessRequest = Callable[[Any, Request], Any]


def is_this_machine(host: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """What is demanded of a request.

    Args:
        host: The address that the server listens at.
        token: The secret; None where none is demanded, which only an address of this machine may do.

    Raises:
        ValueError: If there is no token, and others than this machine can reach the address.
    """

    def __init__(self, host: str, token: str | None) -> None:
        self.local = is_this_machine(host)
        if token is None and not self.local:
            raise WrongValueError(f"the view listens at {host}, where others reach it: it needs a token")
        self.token = token

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request that is turned away, or that brings the token; None lets it pass."""
        headers = request.headers
        host = headers.get("Host", "")
        if self.local and not is_this_machine(_name(host)):
            return _answer(http.HTTPStatus.FORBIDDEN, f"{host!r} is not an address of this machine\n")
        origin = headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _answer(http.HTTPStatus.FORBIDDEN, "another site's page must not use the view\n")
        if self.token is None or self._knows(_cookie(headers)):
            return None
        path, _, query = request.path.partition("?")
        if self._knows(next(iter(parse_qs(query).get("token", [])), "")):
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            return _answer(http.HTTPStatus.SEE_OTHER, "", Location=path, **{"Set-Cookie": cookie})
        return _answer(
            http.HTTPStatus.UNAUTHORIZED,
            "This view asks for a token: open the address that `tdm view` printed, ?token=... and all.\n",
        )

    def _knows(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


class GuardedServer(viser.ViserServer):
    """viser's server behind a :class:`Guard`, silent, and without viser's public tunnel.

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


def new_token() -> str:
    """A secret that nobody guesses."""
    return secrets.token_urlsafe(24)


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


def _name(host: str) -> str:
    """The name in a ``Host`` header, without its port and the brackets of IPv6."""
    return urlsplit(f"//{host}").hostname or ""


def _cookie(headers: Headers) -> str:
    for line in headers.get_all("Cookie"):
        for pair in line.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == COOKIE:
                return value
    return ""


def _answer(status: http.HTTPStatus, text: str, **headers: str) -> Response:
    body = text.encode()
    base = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    return Response(status.value, status.phrase, Headers(**base, **headers), body)
