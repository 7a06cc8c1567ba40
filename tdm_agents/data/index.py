"""Collections of Minari data sets: ``index.json`` in the folder that holds them.

Layout (schema 1), written when a collection of several environments is complete::

    FOLDER/index.json
    FOLDER/NAME/data/             a Minari data set, one per environment

    {"schema": 1,
     "datasets": [{"path": "NAME/data", "env_id": "tdm/WalkerTree-v0", "env_kwargs": {"dof": 12, "body": 3},
                   "episodes": 4, "transitions": 4000, "bytes": 521034, "sha256": "..."}, ...]}

Paths are relative to the index, so that the folder can be moved; ``sha256`` is
:func:`tdm_agents.data.minari_io.content_hash` of the data set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from types import UnionType
from typing import Any

from tdm_agents.data.known_hashes import known_hash
from tdm_agents.data.minari_io import DataError, locate
from tdm_agents.environments import EnvRef
from tdm_agents.errors import TDMError
from tdm_agents.json_text import check_fields
from tdm_agents.storage import CheckpointError, read_json, write_json

SCHEMA = 1
INDEX_FILE = "index.json"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One data set of an index.

    Attributes:
        path: Its folder (with ``metadata.json``), relative to the index, separated by ``/``.
        env: The environment.
        episodes: Number of episodes.
        transitions: Environment steps of all episodes.
        bytes: Size on disk.
        sha256: Hash of its files.
    """

    path: str
    env: EnvRef
    episodes: int
    transitions: int
    bytes: int
    sha256: str


def write_index(folder: Path, entries: Sequence[IndexEntry]) -> Path:
    """Write ``folder/index.json`` atomically and return its path."""
    path = folder / INDEX_FILE
    write_json(path, {"schema": SCHEMA, "datasets": [_to_json(entry) for entry in entries]})
    return path


def read_index(folder: str | os.PathLike[str]) -> tuple[IndexEntry, ...]:
    """The data sets that ``folder/index.json`` names; nothing but the index is read.

    Raises:
        DataError: If it is not an index of this schema, names no data set, or one outside its folder.
    """
    path = Path(folder) / INDEX_FILE
    try:
        found = read_json(path, schema=SCHEMA).get("datasets")
    except CheckpointError as error:
        raise DataError(f"{error}; an index is written by `tdm collect`") from error
    rows = found if isinstance(found, list) else []
    if not rows or not all(isinstance(row, dict) and set(row) == _NAMES for row in rows):
        raise DataError(
            f"{path} does not list data sets with {', '.join(sorted(_NAMES))}; it was changed or cut off: "
            "run the same `tdm collect` again"
        )
    try:
        entries = tuple(_from_json(row, path) for row in rows)
    except TDMError as error:
        raise DataError(
            f"{path} was changed ({error}); run the same `tdm collect` again, or copy the folder again"
        ) from error
    for entry in entries:
        inner = PurePosixPath(entry.path)
        if inner.is_absolute() or ".." in inner.parts:
            raise DataError(f"{path} names {entry.path!r}; expected a folder below the index")
    return entries


def data_sets(source: str | os.PathLike[str]) -> list[Path]:
    """The Minari data sets that a source stands for, each a folder with ``metadata.json``.

    Data sets of an index are compared with its hashes; those whose files have changed since they were hashed
    last are read from beginning to end (:mod:`tdm_agents.data.known_hashes`).

    Args:
        source: A folder with an index, for all that it names, in order; otherwise a single data set, see
            :func:`~tdm_agents.data.minari_io.locate`.

    Raises:
        DataError: If there is none, or one that an index names is missing or was changed.
    """
    folder = Path(source)
    if not (folder / INDEX_FILE).is_file():
        return [locate(source)]
    return [_checked(folder, entry) for entry in read_index(folder)]


_FIELDS: dict[str, type | UnionType] = {
    "path": str,
    "env_id": str,
    "env_kwargs": dict,
    "episodes": int,
    "transitions": int,
    "bytes": int,
    "sha256": str,
}
_NAMES = set(_FIELDS)


def _to_json(entry: IndexEntry) -> dict[str, Any]:
    rest = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name not in ("path", "env")}
    env = {"env_id": entry.env.made_by, "env_kwargs": dict(entry.env.kwargs)}
    return {"path": entry.path, **env, **rest}


def _from_json(row: Mapping[str, Any], path: Path) -> IndexEntry:
    check_fields(row, str(path), _FIELDS)
    rest = dict(row)
    env = EnvRef.of(rest.pop("env_id"), rest.pop("env_kwargs"), source=str(path))
    return IndexEntry(env=env, **rest)


def _checked(folder: Path, entry: IndexEntry) -> Path:
    path = folder / entry.path
    if not (path / "metadata.json").is_file():
        raise DataError(
            f"{folder / INDEX_FILE} names {path}, where there is no data set; copy the whole folder, "
            "or run the same `tdm collect` again"
        )
    if (found := known_hash(path)) != entry.sha256:
        raise DataError(
            f"the files in {path} have sha256 {found[:12]}..., {folder / INDEX_FILE} says "
            f"{entry.sha256[:12]}...: one is cut off or was changed since it was written; copy the folder "
            f"again, or remove {path} and run the same `tdm collect` again"
        )
    return path
