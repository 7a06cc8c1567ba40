"""Checks that a collection may be written to a folder: whatever is there already has to be its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tdm_agents.collection.collection_manifest import check_names
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.index import INDEX_FILE
from tdm_agents.data.known_hashes import CACHE_FOLDER
from tdm_agents.data.readable import DataError, readable
from tdm_agents.errors import brief
from tdm_agents.json_text import check_fields, load_json, parse_json
from tdm_agents.registry import FORMER_SETTINGS, planner_defaults
from tdm_agents.storage import belongs_to_run

SETTINGS_FILE = "settings.json"
"""File beside the episodes of an unfinished data set: what must not change until all are there."""


def check(datasets: Sequence[DatasetSpec], out: str | os.PathLike[str]) -> list[DatasetSpec]:
    """Refuse what :func:`collect` would refuse, and touch nothing.

    Returns:
        The data sets that are not there yet.

    Raises:
        DataError: If ``out`` holds a collection with other settings, or other files.
        ValueError: If the data sets cannot be collected together.
    """
    check_names(datasets)
    out = Path(out)
    if datasets[0].name:
        _refuse_others(
            out,
            {INDEX_FILE, *(dataset.name for dataset in datasets)},
            "which is not of this collection; choose another folder, or name all that it began with",
        )
    for dataset in datasets:
        _check_folder(dataset, out)
    return [dataset for dataset in datasets if not dataset.data(out).exists()]


def is_finished(datasets: Sequence[DatasetSpec], out: str | os.PathLike[str]) -> bool:
    """Whether nothing is left to do."""
    out = Path(out)
    return all(dataset.data(out).exists() for dataset in datasets) and (
        not datasets[0].name or (out / INDEX_FILE).exists()
    )


def _check_folder(dataset: DatasetSpec, out: Path) -> None:
    data, shards = dataset.data(out), dataset.shards(out)
    if data.exists():
        _check_finished(data, dataset)
    elif (shards / SETTINGS_FILE).exists():
        check_same(shards, _json_of(shards / SETTINGS_FILE), dataset.settings())
    elif not shards.exists():
        _refuse_others(
            dataset.folder(out),
            set(),
            "and no collection of `tdm collect`; choose another, or empty this one",
        )


def _refuse_others(folder: Path, ours: set[str], message: str) -> None:
    ours = ours | {CACHE_FOLDER}
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if others := [name for name in names if name not in ours and not belongs_to_run(name)]:
        raise DataError(f"{folder} holds {others[0]!r} {message}")


def _check_finished(data: Path, dataset: DatasetSpec) -> None:
    metadata = data / "metadata.json"
    stored = _json_of(metadata).get("collection") if metadata.exists() else None
    if stored is None:
        raise DataError(f"{data} is a data set that `tdm collect` did not write; choose another folder")
    with readable(data):
        written = check_fields(
            parse_json(stored, str(metadata)), str(metadata), {"settings": dict, "episodes": dict}
        )
    there = {**written["settings"], "episodes": written["episodes"]}
    check_same(data, there, {**dataset.settings(), "episodes": dataset.counts})


def _json_of(path: Path) -> dict[str, Any]:
    with readable(path):
        return check_fields(load_json(path), str(path), {})


def check_same(
    where: Path | str, there: Mapping[str, Any], wanted: Mapping[str, Any], inside: str = ""
) -> None:
    """Refuse to go on with episodes of other settings.

    Args:
        where: Where they are.
        there: Their settings.
        wanted: The settings that are asked for.
        inside: Of which setting these are parts, with a dot at the end.

    Raises:
        DataError: If a setting differs.
    """
    there = _present(there)
    if isinstance(name := wanted.get("planner"), str) and isinstance(old := there.get("settings"), Mapping):
        # A setting that is newer than the data does, by default, what was done before it.
        there = {**there, "settings": {**planner_defaults(name), **_present(old)}}
    for key in (*wanted, *(key for key in there if key not in wanted)):
        old, new = there.get(key), wanted.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            check_same(where, old, new, f"{inside}{key}.")
        elif old != new:
            raise DataError(
                f"{where} was collected with {brief(inside + str(key))} {brief(repr(old))}, now "
                f"{brief(repr(new))} is asked for; choose another "
                "folder, repeat the first command, or remove this one"
            )


def _present(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {FORMER_SETTINGS.get(key, key): value for key, value in settings.items()}
