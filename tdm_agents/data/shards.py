"""Single episodes on disk while a collection runs: one safetensors file each, whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from tdm_agents.data.minari_io import DataError, FlatEpisode
from tdm_agents.storage import write_bytes


def shard_path(folder: Path, policy: str, index: int) -> Path:
    """Where the episode with this key lies."""
    return folder / f"{policy}-{index:06d}.safetensors"


def write_shard(path: Path, episode: FlatEpisode) -> None:
    """Write atomically; a file that exists is complete."""
    data = safetensors.numpy.save(
        {
            "observation": np.ascontiguousarray(episode.observation),
            "action": np.ascontiguousarray(episode.action),
            "reward": np.ascontiguousarray(episode.reward),
        },
        metadata={
            "terminated": json.dumps(episode.terminated),
            "seed": json.dumps(episode.seed),
            "metadata": json.dumps(dict(episode.metadata)),
        },
    )
    write_bytes(path, data)


def read_shard(path: Path) -> FlatEpisode:
    """Read what :func:`write_shard` wrote.

    Raises:
        DataError: If the file was damaged since.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = {key: json.loads(value) for key, value in file.metadata().items()}
    except safetensors.SafetensorError as error:
        raise DataError(f"{path} is damaged ({error}); remove it and run `tdm collect` again") from error
    return FlatEpisode(**arrays, **about)
