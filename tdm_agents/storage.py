"""Files that are whole or absent, and say so when they are not what they should be.

Every write goes to a temporary file beside its target, is flushed to disk, then renamed over it. Weights are
safetensors, settings JSON with a schema version; nothing is a pickle.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from tdm_agents.errors import PathError, TDMError

LOCK_FILE = ".lock"
_PARTIAL = re.compile(r"\.(?P<name>.+)\.\d+\.partial")


class CheckpointError(TDMError, RuntimeError):
    """A checkpoint that is missing, truncated, altered or of another schema."""


class FolderInUseError(TDMError, RuntimeError):
    """Another process writes to the same folder."""


def make_folder(folder: Path) -> None:
    """Make ``folder`` and what it lies in, where they are not there.

    Raises:
        OSError: If it cannot be made; the message says what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PathError(
            f"the folder {folder} cannot be made ({error.strerror}); choose another one"
        ) from error


def foreign_file(folder: Path, ours: Container[str] = ()) -> str | None:
    """A file in ``folder`` that is not named in ``ours``, visible ones first; None where there is none.

    Locks and what a killed write leaves do not count.
    """
    names = [path.name for path in folder.iterdir() if path.name not in ours] if folder.is_dir() else []
    others = [name for name in names if name != LOCK_FILE and not name.endswith(".partial")]
    return min(others, key=lambda name: (name.startswith("."), name), default=None)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically (temporary file, fsync, rename, fsync of the folder).

    Raises:
        OSError: If it cannot be written, as on a full disk; it names ``path``, and what was there still is.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # Python names none where a disk is full
        raise
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep_partial(folder: Path, ours: Callable[[str], bool] = lambda _name: True) -> None:
    """Remove what :func:`write_bytes` of killed processes left half-written; for whoever holds the lock.

    Args:
        folder: Its own files alone, not those of folders in it.
        ours: Whether the file of that name, had it been finished, would be one of the caller's.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        found = _PARTIAL.fullmatch(path.name)
        if found is not None and ours(found["name"]) and path.is_file():
            path.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path, *, schema: int | Sequence[int]) -> dict[str, Any]:
    """Read a JSON object whose ``"schema"`` is ``schema``, or one of several.

    Raises:
        CheckpointError: If it is missing, not JSON, or of another schema; the message says what to do.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: is {path.parent} a checkpoint folder?") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); restore it from where it came") from error
    known = (schema,) if isinstance(schema, int) else schema
    if not isinstance(value, dict) or value.get("schema") not in known:
        got = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise CheckpointError(
            f"{path} has schema {got!r}; this version of tdm-agents reads {' and '.join(map(str, known))}"
        )
    return value


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write safetensors atomically; the sha256 of the file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(contiguous)
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Read safetensors, checked against ``sha256`` where given.

    Raises:
        CheckpointError: If the file is missing, truncated, or not the one that was written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: is {path.parent} a checkpoint folder?") from error
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise CheckpointError(
            f"{path} ({len(data)} bytes) has sha256 {found[:12]}..., its JSON says {sha256[:12]}...: "
            "it is truncated or was altered; copy or train it again"
        )
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error})") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, for this process alone; the kernel lets go however the process ends.

    What processes that were killed left half-written in the folder is swept.

    Raises:
        FolderInUseError: If another process holds it.
        OSError: If it cannot be made.
    """
    make_folder(folder)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError(
                f"another process writes to {folder}; wait for it, or choose another folder"
            ) from error
        sweep_partial(folder)
        yield
    finally:
        os.close(descriptor)
