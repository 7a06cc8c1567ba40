"""Manifests: files that rebuild the same set of bodies anywhere, or say why they do not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tdm_envs.mistakes import EnvsValueError
from tdm_envs.walkers.body import BodyKey
from tdm_envs.walkers.families import build_body
from tdm_envs.walkers.universe import split_of

SCHEMA = 1


class ManifestError(EnvsValueError):
    """A file that is not a manifest, was edited, or does not rebuild its bodies."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A set of bodies.

    Attributes:
        bodies: The bodies, in the order in which they were chosen.
        splits: ``"train"`` or ``"test"`` for each body.
    """

    bodies: tuple[BodyKey, ...]
    splits: tuple[str, ...]


def write_manifest(path: Path, bodies: Iterable[BodyKey]) -> Manifest:
    """Write bodies as JSON, atomically: what rebuilds them, and hashes to check that it did.

    Raises:
        ValueError: If there are none, or one is listed twice.
        OSError: If the file cannot be written; its old content is then kept.
    """
    keys = tuple(bodies)
    if not keys:
        raise EnvsValueError("no bodies to write; expected at least one")
    if repeated := sorted({str(key) for key in keys if keys.count(key) > 1}):
        raise EnvsValueError(f"listed twice: {repeated[0]}")
    entries = [_entry(key) for key in keys]
    text = json.dumps({"schema": SCHEMA, "sha256": _digest(entries), "bodies": entries}, indent=1) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Manifest(keys, tuple(entry["split"] for entry in entries))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, rebuild every body and compare it with what was written.

    Raises:
        ManifestError: If the file is missing, not a manifest, was edited, or a body comes out differently.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ManifestError(
            f"{path} does not exist; expected a manifest of bodies, as `tdm envs sample` writes it"
        ) from error
    except (ValueError, RecursionError) as error:  # no text, no JSON, too many digits, nested too deep
        raise ManifestError(f"{path} is not JSON ({error}); write it again with `tdm envs sample`") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        got = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise ManifestError(f"{path} has schema {got!r}; this version reads {SCHEMA}")
    entries = content.get("bodies")
    if not isinstance(entries, list):
        raise ManifestError(
            f'{path} has no list "bodies", so it is no manifest of bodies; `tdm envs sample` writes one '
            "(the manifest of a collection goes to `tdm collect --manifest`)"
        )
    if content.get("sha256") != _digest(entries):
        raise ManifestError(
            f"{path} was changed after it was written: its list of bodies is not that of its sha256. "
            "Write a new one with `tdm envs sample` instead of editing"
        )
    keys = []
    for entry in entries:
        try:
            key = BodyKey(entry["family"], entry["dof"], entry["body"])
            rebuilt = _entry(key)
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(
                f"{path} lists a body that cannot be built ({type(error).__name__}: {str(error)[:200]}); "
                "write it again with `tdm envs sample`"
            ) from error
        if rebuilt != entry:
            wrong = next(name for name in rebuilt if rebuilt[name] != entry.get(name))
            raise ManifestError(
                f"the {key} comes out differently here: {wrong} is {rebuilt[wrong]!r}, {path} says "
                f"{entry.get(wrong)!r}. Use the version of tdm-agents (and numpy) that wrote it"
            )
        keys.append(key)
    return Manifest(tuple(keys), tuple(entry["split"] for entry in entries))


def _entry(key: BodyKey) -> dict[str, Any]:
    body = build_body(key.family, key.dof, key.body)
    return {
        **asdict(key),
        "split": split_of(body),
        "structure": body.structure_hash(),
        "fingerprint": body.fingerprint(),
    }


def _digest(entries: list[Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
