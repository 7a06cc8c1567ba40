"""Hashes of data sets that are known from before, so that a start does not read all data again.

A hash is kept in the cache folder of a data set, under a name that stands for its files' names, sizes and
times of change (as in make or git). A data set whose files have others is read and hashed anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tdm_agents.data.minari_io import content_hash
from tdm_agents.storage import CheckpointError, read_json, write_json

SCHEMA = 1
CACHE_FOLDER = ".tdm-cache"
_SETTLED_SECONDS = 2.0
_found: dict[str, str] = {}


def cache_places(path: Path) -> list[Path]:
    """Where what can be made again from a data set is kept: beside it, or in the user's own folder.

    The latter follows the XDG base directories.
    """
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tdm-agents"
    return [path.parent / CACHE_FOLDER, own]


def known_hash(path: Path, places: Sequence[Path] | None = None) -> str:
    """The :func:`~tdm_agents.data.minari_io.content_hash` of a data set, read again only if it changed.

    Args:
        path: The data set.
        places: Where hashes may be kept; by default :func:`cache_places`.
    """
    name = _name(path)
    if name is None:
        return content_hash(path)
    if name not in _found:
        places = [place for place in places or cache_places(path) if place.is_dir()]
        kept = [place / name for place in places if (place / name).is_file()]
        try:
            _found[name] = read_json(kept[0], schema=SCHEMA, fields={"sha256": str})["sha256"]
        except (IndexError, CheckpointError):  # never hashed, or the file is damaged
            _found[name] = content_hash(path)
            for place in places[:1]:
                keep_hash(path, _found[name], place)
    return _found[name]


def keep_hash(path: Path, sha256: str, place: Path) -> None:
    """Keep the hash of a data set in a cache folder, where that is possible.

    A folder that cannot be written to or a full disk only makes the next start slower.
    """
    if (name := _name(path)) is not None:
        with contextlib.suppress(OSError):
            write_json(place / name, {"schema": SCHEMA, "sha256": sha256})


def _name(path: Path) -> str | None:
    """The name for the files as they are; None if one has just been written, and may be written once more."""
    files = sorted(os.path.join(folder, file) for folder, _, inside in os.walk(path) for file in inside)
    told = [(file, stat.st_size, stat.st_mtime_ns) for file in files for stat in [os.stat(file)]]
    newest = max((changed for _, _, changed in told), default=0)
    if not 0 < newest < time.time_ns() - _SETTLED_SECONDS * 1e9:
        return None
    return f"hash-{hashlib.sha256(repr((str(path.resolve()), told)).encode()).hexdigest()[:16]}.json"
