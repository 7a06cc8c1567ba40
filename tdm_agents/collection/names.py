"""Names of environments and policies of a collection, after which files are named."""

from __future__ import annotations

import re

from tdm_agents.data.index import INDEX_FILE
from tdm_agents.errors import WrongValueError

MAX_NAME = 200
"""Most characters: file systems allow 255, and files add a number, a suffix and a process id."""

_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]*")


def check_name(what: str, name: str) -> None:
    """Refuse a name that could not be that of a file inside the collection.

    Args:
        what: What has the name, for the message.
        name: The name to check.

    Raises:
        ValueError: If it has other characters than letters, digits, ``_``, ``-`` and ``.``, begins with ``-``
            or ``.``, is longer than :data:`MAX_NAME`, or is the name of the collection's own file.
    """
    if not _NAME.fullmatch(name):
        raise WrongValueError(f"{what} is {name!r}; expected letters, digits, '_', '-' and '.', as of a file")
    if len(name) > MAX_NAME:
        raise WrongValueError(
            f"{what} is {name[:40]!r}... of {len(name)} characters; expected at most {MAX_NAME}"
        )
    if name == INDEX_FILE:
        raise WrongValueError(f"{what} is {name!r}, as the collection's own file is called; choose another")
