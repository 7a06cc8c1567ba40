"""A data set without the episodes that cannot be used: written anew, the old one left as it is."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
from minari.dataset.minari_storage import METADATA_FILE_NAME

from tdm_agents.data.compression import compress_hdf5
from tdm_agents.data.index import INDEX_FILE
from tdm_agents.data.minari_io import (
    DataError,
    DatasetInfo,
    content_hash,
    describe,
    flat_episode,
    locate,
    open_storage,
)
from tdm_agents.data.readable import check_sizes, read_metadata, readable
from tdm_agents.errors import TDMError
from tdm_agents.json_text import parse_json
from tdm_agents.spaces import ObservationCodec
from tdm_agents.spaces import action_codec as codec_of_actions
from tdm_agents.storage import make_folder, write_json

MAIN_FILE = "main_data.hdf5"


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repaired data set is.

    Attributes:
        path: The new data set.
        kept: Episodes in it.
        transitions: Their environment steps.
        left_out: By the number that an episode had, why it cannot be used.
    """

    path: Path
    kept: int
    transitions: int
    left_out: Mapping[int, str]


def repair(source: str, out: Path) -> Repair:
    """Copy the usable episodes of a data set, with all that is stored of them.

    An episode is left out where it cannot be read, or is one that training would refuse: a number that is
    not finite, an end inside, lengths that do not fit each other, an action that is not of the space.

    Args:
        source: A data set; a folder of several is refused, since they are repaired one by one.
        out: Its new folder; the data set becomes ``out/data``.

    Raises:
        DataError: If there is no such data set, it is not stored as HDF5 or cannot be opened at all, no
            episode is usable, or ``out/data`` exists.
    """
    if (Path(source) / INDEX_FILE).is_file():
        raise DataError(f"{source} holds several data sets; name the one to repair, a folder below it")
    info = describe(locate(source))
    raw = read_metadata(info.path)
    if raw["data_format"] != "hdf5":
        raise DataError(
            f"{info.path} is stored as {raw['data_format']!r}, of which single episodes cannot be left out; "
            "download or collect it as HDF5"
        )
    target = out / "data"
    if target.exists():
        raise DataError(f"{target} exists; choose another folder, or remove it")
    left_out = _unusable(info)
    kept = [index for index in range(info.episodes) if index not in left_out]
    if not kept:
        index, why = next(iter(left_out.items()), (0, "there are none"))
        raise DataError(
            f"none of the {info.episodes} episodes of {info.path} can be used (episode {index}: {why}); "
            "collect or download it again"
        )
    building = out / ".data.partial"
    shutil.rmtree(building, ignore_errors=True)  # left by a run that was killed here
    make_folder(building)
    try:
        transitions, policies = _copy(info.path / MAIN_FILE, building / MAIN_FILE, kept)
        compress_hdf5(building / MAIN_FILE)
        write_json(
            building / METADATA_FILE_NAME,
            {
                **_without_counts(raw, policies, str(info.path)),
                "total_episodes": len(kept),
                "total_steps": transitions,
                "repaired": {
                    "source": content_hash(info.path),
                    "left_out": {str(index): why for index, why in left_out.items()},
                },
            },
        )
        building.replace(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Repair(target, len(kept), transitions, left_out)


def _unusable(info: DatasetInfo) -> dict[int, str]:
    """Why episodes cannot be used, by number."""
    storage, codec = open_storage(info.path), ObservationCodec(info.observation_space)
    actions = codec_of_actions(info.action_space)
    found: dict[int, str] = {}
    for index in range(info.episodes):
        try:
            check_sizes(info.path, [index])
            with readable(info.path, f"episode {index}"):
                (stored,) = storage.get_episodes([index])
            actions.encode(flat_episode(info, codec, index, stored).action)
        except (TDMError, ValueError) as error:
            found[index] = _reason(str(error), info.path)
    return found


def _reason(text: str, path: Path) -> str:
    """What a message says without where, and without the remedy that is being taken."""
    return text.partition(f"{path} ")[2].rpartition("; ")[0] or text


def _copy(source: Path, target: Path, episodes: list[int]) -> tuple[int, Counter[str]]:
    """Copy groups under new numbers; their steps, and how many each policy has."""
    transitions, policies = 0, Counter[str]()
    with (
        readable(source),
        h5py.File(source, "r") as opened,
        h5py.File(target, "w", track_order=True) as written,
    ):
        for number, index in enumerate(episodes):
            opened.copy(f"episode_{index}", written, f"episode_{number}")
            group = written[f"episode_{number}"]
            group.attrs["id"] = number
            transitions += len(group["rewards"])
            policies[str(group.attrs.get("policy", ""))] += 1
    return transitions, policies


def _without_counts(raw: Mapping[str, Any], policies: Mapping[str, int], where: str) -> dict[str, Any]:
    """The metadata, with the numbers of episodes that a collection said of itself brought up to date."""
    told = dict(raw)
    if "collection" in told:
        collection = parse_json(told["collection"], where)
        collection["episodes"] = {name: policies.get(name, 0) for name in collection.get("episodes", {})}
        told["collection"] = json.dumps(collection, sort_keys=True)
    return told
