"""Who may talk to a server of this package: this machine, and elsewhere those who have its token.

On this machine's own address nothing is asked of a person, but a page of another site must not use the
server: the host that it was addressed by, and the origin, have to be this server's. Elsewhere a token is
demanded.
"""

from __future__ import annotations

import hmac
import http
import ipaddress
import secrets
from urllib.parse import urlsplit

from websockets import Headers
from websockets.http11 import Request, Response

from tdm_agents.errors import WrongValueError

BEARER = "Bearer "


def is_this_machine(host: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """A secret that nobody guesses."""
    return secrets.token_urlsafe(24)


class Guard:
    """What is demanded of a request, before it is answered; of a websocket's handshake too.

    Args:
        host: The address that the server listens at.
        token: The secret; None where none is demanded, which only an address of this machine may do.
        what: What refusals call the server.

    Raises:
        ValueError: If there is no token, and others than this machine can reach the address.
    """

    def __init__(self, host: str, token: str | None, what: str) -> None:
        self.local = is_this_machine(host)
        if token is None and not self.local:
            raise WrongValueError(f"{what} listens at {host}, where others reach it: it needs a token")
        self.token = token
        self.what = what

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request that is turned away, or is answered here; None lets it pass."""
        headers = request.headers
        host = headers.get("Host", "")
        if self.local and not is_this_machine(_name(host)):
            return answer(http.HTTPStatus.FORBIDDEN, f"{host!r} is not an address of this machine\n")
        origin = headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return answer(http.HTTPStatus.FORBIDDEN, f"another site's page must not use {self.what}\n")
        return None if self.token is None else self.without_token(request)

    def without_token(self, request: Request) -> Response | None:
        """The answer to a request that does not prove that it has the token; None where it does."""
        given = request.headers.get("Authorization", "")
        if given.startswith(BEARER) and self.knows(given.removeprefix(BEARER)):
            return None
        return answer(
            http.HTTPStatus.UNAUTHORIZED, f"{self.what} asks for a token: Authorization: Bearer TOKEN\n"
        )

    def knows(self, given: str) -> bool:
        """Whether ``given`` is the token."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


def answer(status: http.HTTPStatus, text: str, **headers: str) -> Response:
    """An answer of plain text."""
    body = text.encode()
    base = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    return Response(status.value, status.phrase, Headers(**base, **headers), body)


def _name(host: str) -> str:
    """The name in a ``Host`` header, without its port and the brackets of IPv6."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that do not match
        return ""
