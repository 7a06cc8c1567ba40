"""Files that are whole or absent, with checks that they are what they should be.

Every write goes to a temporary file beside its target, which is flushed to disk and then renamed. Weights
are safetensors, settings are JSON with a schema version; nothing is a pickle.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from tdm_agents.errors import PathError, TDMError
from tdm_agents.json_text import JsonError, check_fields, load_json, plain_number

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOG = logging.getLogger(__name__)
LOCK_FILE = ".lock"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.partial")


class CheckpointError(TDMError, RuntimeError):
    """A checkpoint that is missing, truncated, altered or has another schema."""


class FolderInUseError(TDMError, RuntimeError):
    """Another process writes to the same folder."""


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its parents, where they do not exist.

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

    Locks, leftovers of a killed write and what a command ran with (``tdm-COMMAND.yaml``) do not count.
    """
    names = [path.name for path in folder.iterdir() if path.name not in ours] if folder.is_dir() else []
    others = [name for name in names if not belongs_to_run(name)]
    return min(others, key=lambda name: (name.startswith("."), name), default=None)


def belongs_to_run(name: str) -> bool:
    """Whether a file of that name is one that commands leave wherever they write."""
    return (
        name == LOCK_FILE or name.endswith(".partial") or (name.startswith("tdm-") and name.endswith(".yaml"))
    )


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically (temporary file, fsync, rename, fsync of the folder).

    Raises:
        OSError: If it cannot be written, as on a full disk; it names ``path``, whose old content is kept.
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
    LOG.info("wrote %s, %s bytes", path, f"{len(data):,}")


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


ABANDONED_AFTER = 600.0
"""Seconds without a write after which a folder whose process is not found counts as left behind."""


def sweep_partial_folders(folder: Path, ours: Callable[[str], bool]) -> None:
    """Remove ``.NAME.PID.partial`` folders that killed processes left; for places without a lock.

    A process of another machine or container is not seen from here, so that what was written to within
    :data:`ABANDONED_AFTER` stays too.

    Args:
        folder: Where they lie.
        ours: Whether the folder of that ``NAME`` would be one of the caller's.
    """
    for path in list(folder.glob(".*.partial")):
        found = _PARTIAL.fullmatch(path.name)
        if found is None or not ours(found["name"]):
            continue
        # one with this process's number is of an earlier one in a container, or too young to be abandoned
        if (pid := int(found["pid"])) != os.getpid() and _is_alive(pid):
            continue
        try:
            written = max(inside.stat().st_mtime for inside in (path, *path.iterdir()))
        except OSError:  # not a folder, or it went away meanwhile
            continue
        if time.time() - written > ABANDONED_AFTER:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    """Whether a process may run on this machine; where that cannot be told, it may."""
    if os.name != "posix":
        return True  # signal 0 means Ctrl-C on Windows
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, default=plain_number) + "\n").encode())


def read_json(
    path: Path, *, schema: int | Sequence[int], fields: Mapping[str, type | UnionType] | None = None
) -> dict[str, Any]:
    """Read a JSON object whose ``"schema"`` is ``schema``, or one of several.

    Args:
        path: The file.
        schema: What is read.
        fields: Types of entries that must be there, see :func:`tdm_agents.json_text.check_fields`.

    Raises:
        CheckpointError: If it is missing, not JSON, of another schema, or lacks a field; the message says
            what to do.
    """
    try:
        value = load_json(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: is {path.parent} a checkpoint folder?") from error
    except JsonError as error:
        raise CheckpointError(str(error)) from error
    known = (schema,) if isinstance(schema, int) else schema
    got = value.get("schema") if isinstance(value, dict) else type(value).__name__
    if not isinstance(value, dict) or type(got) is not int or got not in known:
        raise CheckpointError(
            f"{path} has schema {repr(got)[:40]}; this version of tdm-agents reads "
            f"{' and '.join(map(str, known))}"
        )
    try:
        return check_fields(value, str(path), fields or {})
    except JsonError as error:
        raise CheckpointError(str(error)) from error


def hashes(files: Iterable[Path]) -> dict[str, str]:
    """The sha256 of files by their names, of several with one name by ``NAME``, ``NAME 2`` and so on."""
    found: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for file in files:
        seen[file.name] += 1
        name = file.name if seen[file.name] == 1 else f"{file.name} {seen[file.name]}"
        found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write safetensors atomically and return the sha256 of the file."""
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
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); copy it again") from error
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise CheckpointError(
            f"{path} ({len(data)} bytes) has sha256 {found[:12]}..., its JSON says {sha256[:12]}...: "
            "it is truncated or was altered; copy or train it again"
        )
    try:
        return safetensors.torch.load(data)
    except (
        safetensors.SafetensorError,
        KeyError,
        ValueError,
        RuntimeError,
    ) as error:  # KeyError: a new dtype
        raise CheckpointError(f"{path} is not a safetensors file that can be read ({error})") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; it is made if needed, and freed however the process ends.

    What processes that were killed left half-written in the folder is swept.

    Raises:
        FolderInUseError: If another process holds it.
        OSError: If it cannot be made, or its file system or the platform has no locks.
    """
    if fcntl is None:
        raise PathError(
            f"{folder} cannot be locked, since {sys.platform} has no flock; run this on Linux or macOS "
            "(on Windows in WSL)"
        )
    make_folder(folder)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError(
                f"another process writes to {folder}; wait for it, or choose another folder"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise PathError(
                f"{folder} lies on a file system without locks ({error.strerror}), where two processes could "
                "spoil each other's files; choose a folder on a local disk, and copy it when it is done"
            ) from error
        sweep_partial(folder)
        yield
    finally:
        os.close(descriptor)
