"""Secrets that outlive the server: the key of its states, and the token of its clients."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from tdm_agents.errors import PathError
from tdm_agents.guard import new_token
from tdm_agents.storage import make_folder

KEY_FILE, TOKEN_FILE = "key", "token"


def kept_key(folder: Path) -> bytes:
    """The key with which states are sealed; made when there is none.

    Raises:
        OSError: If it can be neither read nor made, or is too short to be one.
    """
    return _kept(folder / KEY_FILE, lambda: secrets.token_hex(32)).encode()


def kept_token(folder: Path) -> str:
    """The token that clients need; made when there is none.

    Raises:
        OSError: If it can be neither read nor made, or is too short to be one.
    """
    return _kept(folder / TOKEN_FILE, new_token)


def _kept(path: Path, make: Callable[[], str]) -> str:
    make_folder(path.parent)
    if not path.exists():
        # linked when it is whole; of two servers that start at once, the first one's stays
        draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    secret = path.read_text().strip()
    if len(secret) < 16:
        raise PathError(f"{path} holds {len(secret)} characters; expected a secret of 16 or more: delete it")
    return secret
