"""Decisions over a socket: a server with one model, for many robots or environments at once.

:class:`RemoteAgent` is the client's side; it needs neither torch nor the model.
"""

from tdm_agents.errors import MissingPackageError

try:
    import msgspec  # noqa: F401
    import websockets  # noqa: F401
except ImportError as missing:
    raise MissingPackageError(
        f"serving needs the extra `serve` ({missing}): pip install 'tdm-agents[serve]'"
    ) from missing

from tdm_agents.serving.remote_agent import RemoteAgent, RemoteError

__all__ = ["RemoteAgent", "RemoteError"]
