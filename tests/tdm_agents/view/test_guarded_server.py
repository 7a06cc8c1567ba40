"""Who may look: this machine, and elsewhere those who have the token; never another site's page."""

import urllib.error
import urllib.request

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tdm_agents.errors import WrongValueError
from tdm_agents.guard import is_this_machine, new_token
from tdm_agents.view.guarded_server import GuardedServer, PageGuard

TOKEN = "a-secret"


@pytest.fixture(scope="module")
def local():
    server = GuardedServer("127.0.0.1", 0, PageGuard("127.0.0.1", None), "local")
    yield server.get_port()
    server.stop()


@pytest.fixture(scope="module")
def public():
    server = GuardedServer("0.0.0.0", 0, PageGuard("0.0.0.0", TOKEN), "public")
    yield server.get_port()
    server.stop()


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def ask(port, path="/", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def shakes_hands(port, **headers):
    import viser

    protocol = f"viser-v{viser.__version__}"
    url = f"ws://127.0.0.1:{port}"
    try:
        with connect(url, subprotocols=[protocol], additional_headers=headers, max_size=None) as socket:
            socket.recv(timeout=10)
        return True
    except InvalidStatus:
        return False


def test_this_machine_is_asked_nothing(local):
    status, _, page = ask(local)
    assert status == 200 and b"<html" in page.lower()
    assert shakes_hands(local)
    assert shakes_hands(local, Origin=f"http://127.0.0.1:{local}")


def test_another_sites_page_cannot_drive_the_view(local, public):
    for port, cookie in ((local, ""), (public, f"tdm_view_token={TOKEN}")):
        assert not shakes_hands(port, Origin="http://evil.example", Cookie=cookie)
        assert ask(port, Origin="http://evil.example", Cookie=cookie)[0] == 403
    # a name of the attacker's that leads to this machine
    assert ask(local, Host="evil.example")[0] == 403
    assert not shakes_hands(local, Host="evil.example", Origin="http://evil.example")


def test_elsewhere_a_token_is_demanded_of_pages_and_websockets(public):
    status, _, text = ask(public)
    assert status == 401 and b"token" in text and TOKEN.encode() not in text
    assert not shakes_hands(public)
    assert ask(public, "/?token=wrong")[0] == 401
    assert ask(public, "/", Cookie="tdm_view_token=wrong")[0] == 401
    status, headers, _ = ask(public, f"/?token={TOKEN}")
    assert status == 303 and headers["Location"] == "/"
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    ours = cookie.split(";")[0]
    assert ask(public, "/", Cookie=ours)[0] == 200
    assert shakes_hands(public, Cookie=f"other=1; {ours}")


def test_no_server_listens_to_others_without_a_token():
    with pytest.raises(WrongValueError, match=r"0\.0\.0\.0, where others reach it"):
        PageGuard("0.0.0.0", None)
    assert [is_this_machine(h) for h in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "10.1.2.3", "box")] == [
        True, True, True, False, False, False
    ]  # fmt: skip
    assert new_token() != new_token() and len(new_token()) >= 32


def test_nobody_opens_a_tunnel():
    server = GuardedServer("127.0.0.1", 0, PageGuard("127.0.0.1", None), "local")
    assert server.request_share_url() is None
    server.stop()
