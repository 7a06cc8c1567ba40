"""Reading and writing Minari data sets, one flat episode at a time.

On disk an episode keeps the environment's own structure (a ``Dict`` observation stays a ``Dict``); in memory
it is a :class:`FlatEpisode`. Data sets lie in a folder of the user's choosing, laid out as in Minari's own
root (``FOLDER/data``): ``minari.MinariDataset("FOLDER/data")`` opens them anywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage

from tdm_agents.data.compression import compress_hdf5
from tdm_agents.data.readable import REPAIR as REPAIR
from tdm_agents.data.readable import DataError as DataError
from tdm_agents.data.readable import check_sizes, read_metadata, readable
from tdm_agents.env_checks import read_stored_rewards
from tdm_agents.errors import brief
from tdm_agents.json_text import check_fields, parse_json
from tdm_agents.spaces import FloatArray, ObservationCodec
from tdm_agents.spaces.leaves import encode_leaf, is_leaf, shape_of
from tdm_agents.spaces.scalar_names import observation_names
from tdm_agents.spaces.space_json import space_from_json, space_to_json
from tdm_agents.storage import write_json


@dataclass(frozen=True, slots=True)
class FlatEpisode:
    """``L`` environment steps of one episode.

    Attributes:
        observation: ``[L + 1, n]`` float32, in the order of :class:`~tdm_agents.spaces.ObservationCodec`.
        action: ``[L, *shape]``, the actions as executed, in the environment's units.
        reward: ``[L]`` float32, the reward of each environment step.
        terminated: Whether the last step ended the task; otherwise the episode was cut off.
        seed: The environment's reset seed, where known.
        metadata: Scalars and strings about the episode (``policy``, its noise, ...).
    """

    observation: FloatArray
    action: npt.NDArray[Any]
    reward: FloatArray
    terminated: bool
    seed: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """The metadata of a Minari data set.

    Attributes:
        path: The folder with ``metadata.json``.
        env_id: ``"ID"`` or ``"module:ID"`` for ``gymnasium.make``, ``""`` where the data set does not say.
        observation_space: The space before flattening, with the keys of a ``Dict`` in stored order.
        action_space: The environment's action space.
        episodes: Number of episodes.
        env_kwargs: Keyword arguments of ``gymnasium.make``, where the data set has them; two bodies may
            differ in these alone.
        observation_names: Name of each observation scalar, where the data set has them.
    """

    path: Path
    env_id: str
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    episodes: int
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_names: tuple[str, ...] = ()


def locate(source: str | os.PathLike[str]) -> Path:
    """The folder with ``metadata.json`` of a data set: a path, ``path/data``, or an id in Minari's own root.

    Raises:
        DataError: If there is none.
    """
    root = Path(os.environ.get("MINARI_DATASETS_PATH", Path.home() / ".minari" / "datasets"))
    tried = [Path(source), Path(source) / "data", root / source / "data"]
    for path in tried:
        if (path / METADATA_FILE_NAME).is_file():
            return path
    hint = " (its collection was interrupted: run the same `tdm collect` again)"
    raise DataError(
        f"no Minari data set {str(source)!r}: looked for {METADATA_FILE_NAME} in "
        f"{', '.join(map(str, tried))}{hint if (Path(source) / EPISODES_FOLDER).exists() else ''}; "
        "make one with `tdm collect`, or fetch one with `minari download`"
    )


NAMES = "observation_names"
"""Entry of ``metadata.json`` with the names of observation scalars, where the environment says them."""
EPISODES_FOLDER = ".episodes"
"""Folder of the episodes of an unfinished collection, inside the data set's folder."""


def describe(path: Path) -> DatasetInfo:
    """Read the metadata of the data set in ``path`` (see :func:`locate`).

    Raises:
        DataError: If it is stored in a format that cannot be read here.
    """
    raw = read_metadata(path)
    said = {
        name: space_from_json(raw[name], f"{name} in {path / METADATA_FILE_NAME}")
        for name in ("observation_space", "action_space")
        if raw.get(name) is not None
    }
    storage = open_storage(path, raw)
    env_id, env_kwargs = _environment(raw, str(path / METADATA_FILE_NAME))
    return DatasetInfo(
        path,
        env_id,
        said.get("observation_space", storage.observation_space),
        said.get("action_space", storage.action_space),
        raw["total_episodes"],
        env_kwargs,
        _names(raw, str(path / METADATA_FILE_NAME)),
    )


def _names(raw: Mapping[str, Any], where: str) -> tuple[str, ...]:
    said = check_fields({NAMES: [], **raw}, where, {NAMES: list})[NAMES]
    if not all(isinstance(name, str) for name in said):
        raise DataError(f"{where} has {NAMES} {str(said)[:80]}; expected texts")
    return tuple(said)


def _environment(raw: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """Id and arguments of the environment: what `tdm collect` was given, or what Minari kept of it."""
    if "collection" in raw:
        given = check_fields(parse_json(raw["collection"], where), where, {"settings": dict})["settings"]
        check_fields(given, where, {"env_id": str, "env_kwargs": dict})
        return given["env_id"], given["env_kwargs"]
    spec = check_fields(parse_json(raw.get("env_spec") or "{}", where), where, {})
    kwargs = check_fields(spec.get("kwargs") or {}, where, {})
    return str(raw.get("env_id") or spec.get("id") or ""), {
        name: value for name, value in kwargs.items() if name != "render_mode"
    }


def read_episodes(info: DatasetInfo) -> Iterator[FlatEpisode]:
    """Every episode in order, one in memory at a time.

    Raises:
        DataError: If an observation, reward or action is not finite, an episode terminates before its last
            step, or steps of the data set are missing.
    """
    storage = open_storage(info.path)
    codec = ObservationCodec(info.observation_space)  # refuses spaces that cannot be planned over
    steps = 0
    for index, stored in enumerate(_stored(storage, info)):
        episode = flat_episode(info, codec, index, stored)
        steps += len(episode.reward)
        yield episode
    if steps != storage.total_steps:
        raise DataError(
            f"{info.path} has {storage.total_steps} steps by its metadata, but {steps} could be read: it is "
            "damaged, or (Arrow, Parquet) an episode is longer than the 131,072 steps that Minari reads at "
            "once: collect or download it again, long episodes as HDF5"
        )


def flat_episode(
    info: DatasetInfo, codec: ObservationCodec, index: int, stored: Mapping[str, Any]
) -> FlatEpisode:
    """An episode as Minari reads it, flattened and checked.

    Args:
        info: The data set.
        codec: Of its observations.
        index: Of the episode.
        stored: Its arrays.

    Raises:
        DataError: See :func:`read_episodes`.
    """
    name = f"episode {index}"
    with readable(info.path, name):
        observation = flatten_steps(codec.space, stored["observations"])
        reward = read_stored_rewards(stored["rewards"])
        action = np.asarray(stored["actions"])
        ended = np.asarray(stored["terminations"], bool)
        if not len(reward) and not action.size:
            action = np.zeros((0, *shape_of(info.action_space)), info.action_space.dtype)
        if action.ndim < 1 or reward.ndim != 1 or ended.shape not in (reward.shape, (*reward.shape, 1)):
            raise DataError(
                f"{name} of {info.path} has rewards of shape {reward.shape}, terminations of shape "
                f"{ended.shape} and actions of shape {action.shape}; expected one of each per step; {REPAIR}"
            )
        ended = ended.reshape(-1)
    for what, values in (("observation", observation), ("reward", reward), ("action", action)):
        with readable(info.path, name):
            finite = np.isfinite(values)
        if not finite.all():
            step = int(np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1))[0])
            raise DataError(f"{name} of {info.path} has a NaN or infinite {what} at step {step}; {REPAIR}")
    if len(observation) != len(reward) + 1 or len(action) != len(reward) or ended[:-1].any():
        raise DataError(
            f"{name} of {info.path} has {len(observation)} observations, {len(action)} actions, "
            f"{len(reward)} rewards and terminates at steps {np.flatnonzero(ended)[:8].tolist()}; expected "
            f"one observation more than actions and a termination at the end only; {REPAIR}"
        )
    return FlatEpisode(observation, action, reward, bool(ended.any()))


def episode_metadata(info: DatasetInfo) -> Iterator[Mapping[str, Any]]:
    """What is said of every episode besides its arrays, in order."""
    with readable(info.path):
        yield from open_storage(info.path).get_episode_metadata(range(info.episodes))


_EPISODES_AT_ONCE = 256


def _stored(storage: MinariStorage, info: DatasetInfo) -> Iterator[dict[str, Any]]:
    """The episodes as Minari reads them, some at a time: an open file remembers all that was read."""
    for first in range(0, info.episodes, _EPISODES_AT_ONCE):
        numbers = range(first, min(first + _EPISODES_AT_ONCE, info.episodes))
        check_sizes(info.path, numbers)
        episodes = iter(storage.get_episodes(numbers))
        for index in numbers:
            with readable(info.path, f"episode {index}"):
                stored = next(episodes)
            yield stored


def write_dataset(
    folder: Path,
    env: gym.Env[Any, Any],
    episodes: Iterable[FlatEpisode],
    *,
    description: str,
    metadata: Mapping[str, Any],
) -> Path:
    """Write ``folder/data``, a compressed Minari data set, whole or not at all.

    Args:
        folder: Its name becomes the data set's id (``-v0`` is added where it has no version).
        env: The environment whose spaces and spec the data set records.
        episodes: The episodes, consumed one at a time.
        description: One sentence for ``minari show``.
        metadata: JSON values to add to ``metadata.json``.

    Returns:
        ``folder/data``.

    Raises:
        DataError: If ``folder/data`` exists, or cannot be written, as on a full disk.
    """
    folder = folder.resolve()  # Minari joins a relative file name to its own relative folder
    target = folder / "data"
    if target.exists():
        raise DataError(f"{target} exists; choose another folder or remove it")
    building = folder / ".data.partial"
    shutil.rmtree(building, ignore_errors=True)  # left by a run that was killed here
    try:
        building.mkdir(parents=True)
        _build(building, _dataset_id(folder.name), env, episodes, description, metadata)
        building.replace(target)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise DataError(
            f"the data set {target} cannot be written ({why}); its episodes are kept: make room, then run "
            "the same command again"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    _fsync(folder)
    return target


def _build(
    building: Path,
    dataset_id: str,
    env: gym.Env[Any, Any],
    episodes: Iterable[FlatEpisode],
    description: str,
    metadata: Mapping[str, Any],
) -> None:
    storage = MinariStorage.new(
        building,
        observation_space=env.observation_space,
        action_space=env.action_space,
        env_spec=_portable_spec(env),
    )
    written: list[dict[str, Any]] = []

    def buffers(episodes: Iterable[FlatEpisode]) -> Iterator[EpisodeBuffer]:
        for episode in episodes:
            steps = len(episode.reward)
            ends = np.zeros((2, steps), bool)
            ends[0 if episode.terminated else 1, -1] = True
            written.append(dict(episode.metadata))
            yield EpisodeBuffer(
                seed=episode.seed,
                observations=unflatten_steps(env.observation_space, episode.observation),
                actions=episode.action,
                rewards=episode.reward,
                terminations=ends[0],
                truncations=ends[1],
            )

    remaining, done = iter(episodes), 0
    while True:  # some at a time: the metadata of all episodes would grow with their number
        storage.update_episodes(buffers(islice(remaining, _EPISODES_AT_ONCE)))
        if not written:
            break
        storage.update_episode_metadata(written, range(done, done + len(written)))
        done += len(written)
        written.clear()
    compress_hdf5(building / "main_data.hdf5")
    storage.update_metadata(
        {
            "dataset_id": dataset_id,
            "minari_version": minari.__version__,
            "algorithm_name": "tdm collect",
            "description": description,
            "env_id": env.spec.id if env.spec is not None else "",
            "dataset_size": storage.get_size(),
            **({NAMES: list(names)} if (names := observation_names(env)) else {}),
            **metadata,
        }
    )
    _tell_dtypes(building, env)
    for file in (*sorted(building.iterdir()), building):
        _fsync(file)


def _tell_dtypes(building: Path, env: gym.Env[Any, Any]) -> None:
    """Say the spaces once more, with the dtypes that Minari leaves out and lets nobody update."""
    told = {"observation_space": space_to_json(env.observation_space)}
    told |= {"action_space": space_to_json(env.action_space)}
    write_json(building / METADATA_FILE_NAME, read_metadata(building) | told)


def flatten_steps(space: spaces.Space[Any], observations: Any) -> FloatArray:
    """Turn observations stacked over ``T`` steps into ``[T, n]`` float32, in the codec's order."""
    flat: FloatArray = np.concatenate(list(_leaves(space, observations)), axis=1, dtype=np.float32)
    return flat


def unflatten_steps(space: spaces.Space[Any], flat: FloatArray) -> Any:
    """``[T, n]`` back to the structure of ``space``, every leaf ``[T, *shape]`` in its dtype.

    Those of a float64 Box stay float32, which is half the bytes and inside the space.
    """
    return _in_own_dtype(space, ObservationCodec(space).unflatten(flat))


def _in_own_dtype(space: spaces.Space[Any], value: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _in_own_dtype(child, value[key]) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_in_own_dtype(child, part) for child, part in zip(space.spaces, value, strict=True))
    return value if space.dtype == np.float64 else value.astype(space.dtype)


def content_hash(path: Path) -> str:
    """The sha256 over the names and contents of all files below ``path``."""
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").digest()
        total.update(file.relative_to(path).as_posix().encode() + b"\0" + digest)
    return total.hexdigest()


def open_storage(path: Path, raw: Mapping[str, Any] | None = None) -> MinariStorage:
    """Minari's own reader of a data set.

    Args:
        path: The data set.
        raw: Its metadata, read now where not given.

    Raises:
        DataError: If it is damaged, or stored in a format that cannot be read here.
    """
    stored = (raw or read_metadata(path))["data_format"]
    with readable(path):
        try:
            return MinariStorage.read(path)
        except ImportError as error:
            remedy = "pip install 'tdm-agents[arrow]'"
            why: Exception = error
        except KeyError as error:  # a format that this Minari does not know
            if stored in ("hdf5", "arrow", "parquet"):
                raise
            remedy, why = "install a newer minari", error
        raise DataError(
            f"{path} is stored as {str(stored)[:40]!r}, which cannot be read here "
            f"({brief(why, 200)}): {remedy}"
        ) from why


def _leaves(space: spaces.Space[Any], value: Any) -> Iterator[npt.NDArray[Any]]:
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            yield from _leaves(child, value[key])
    elif isinstance(space, spaces.Tuple):
        for child, part in zip(space.spaces, value, strict=True):
            yield from _leaves(child, part)
    else:
        assert is_leaf(space)
        yield encode_leaf(space, np.asarray(value))


def _portable_spec(env: gym.Env[Any, Any]) -> gym.envs.registration.EnvSpec | None:
    """The spec where JSON can hold it; dm_control's is made of partials, so only its id is kept."""
    if env.spec is None or callable(env.spec.entry_point):
        return None
    return env.spec


def _dataset_id(name: str) -> str:
    plain = re.sub(r"[^-\w]", "-", name)
    return plain if re.fullmatch(r".+-v\d+", plain) else f"{plain}-v0"


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
