"""Single episodes on disk while a collection runs: one safetensors file each, whole or absent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tdm_agents.data.minari_io import DataError, FlatEpisode
from tdm_agents.json_text import JsonError, check_fields, parse_json, plain_number
from tdm_agents.storage import write_bytes

_ABOUT = ("terminated", "seed", "metadata", "return")


def shard_path(folder: Path, policy: str, index: int) -> Path:
    """Path of the episode with this key."""
    return folder / f"{policy}-{index:06d}.safetensors"


def write_shard(path: Path, episode: FlatEpisode) -> None:
    """Write atomically; a file that exists is complete.

    Raises:
        DataError: If the file cannot be written, as on a full disk; then it does not exist.
    """
    data = safetensors.numpy.save(
        {
            "observation": np.ascontiguousarray(episode.observation),
            "action": np.ascontiguousarray(episode.action),
            "reward": np.ascontiguousarray(episode.reward),
        },
        metadata={
            "terminated": json.dumps(episode.terminated),
            "seed": json.dumps(episode.seed),
            "metadata": json.dumps(dict(episode.metadata), default=plain_number),
            "return": json.dumps(float(episode.reward.sum(dtype=np.float64))),
        },
    )
    try:
        write_bytes(path, data)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}); finished episodes are kept: make room, then run "
            "the same command again"
        ) from error


def read_shard(path: Path) -> FlatEpisode:
    """Read an episode that :func:`write_shard` wrote.

    Raises:
        DataError: If the file was damaged or removed in the meantime.
    """
    with _opened(path) as (file, about):
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        del about["return"]
        check_fields(about, str(path), {"terminated": bool, "seed": int | None, "metadata": dict})
        return FlatEpisode(**arrays, **about)


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """The description of a shard's episode, without its arrays.

    Attributes:
        env_steps: Environment steps that the episode lasted.
        episode_return: Sum of its rewards.
        metadata: Metadata of the :class:`~tdm_agents.data.minari_io.FlatEpisode`.
    """

    env_steps: int
    episode_return: float
    metadata: Mapping[str, Any]


def read_shard_info(path: Path) -> ShardInfo:
    """Read the description of an episode that :func:`write_shard` wrote.

    Raises:
        DataError: If the file was damaged or removed in the meantime.
    """
    with _opened(path) as (file, about):
        (env_steps,) = file.get_slice("reward").get_shape()
        check_fields(about, str(path), {"return": float, "metadata": dict})
        return ShardInfo(env_steps, about["return"], about["metadata"])


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            about = file.metadata() or {}
            yield file, {key: parse_json(about[key], f"{key} in {path}") for key in _ABOUT}
    except FileNotFoundError as error:
        raise DataError(
            f"{path} was removed; run the same `tdm collect` again, which plays the episode again"
        ) from error
    except (OSError, safetensors.SafetensorError, JsonError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it and run `tdm collect` again") from error
