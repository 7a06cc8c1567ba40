"""Whatever `collect` accepts can be read, in the environment's own types; the rest is refused at once."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium import spaces
from installed_versions import STORES_BYTES, TYPED_DISCRETE

from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.agent.attach import check_spaces
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.storable import LARGEST_EXACT, check_storable, exactness
from tdm_agents.data.minari_io import DataError, describe, read_episodes
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.errors import TDMError
from tdm_agents.json_text import JsonError
from tdm_agents.spaces.space_json import space_from_json, space_to_json
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

UNIT = spaces.Box(-1, 1, (2,), np.float32)
ACTION = spaces.Box(-1, 1, (1,), np.float32)


class AnySpaces(gym.Env[Any, Any]):
    """Samples of its observation space, five steps long."""

    def __init__(self, kind: str) -> None:
        self.observation_space, self.action_space = GOOD.get(kind) or (BAD[kind], ACTION)
        self.observation_space.seed(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.played, self.steps = 0, int(self.np_random.integers(1, 6))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.played += 1
        return self.observation_space.sample(), 1.0, self.played == self.steps, False, {}


GOOD: dict[str, tuple[spaces.Space[Any], spaces.Space[Any]]] = {
    **{
        f"box {np.dtype(kind)}": (spaces.Box(low, high, (3,), kind), ACTION)  # type: ignore[arg-type]
        for kind, low, high in (
            (np.float16, -1, 1),
            (np.float32, -1, 1),
            (np.float64, -1, 1),
            (np.int8, -128, 127),
            (np.int16, -9, 9),
            (np.uint16, 0, 2**16 - 1),
            (np.int32, -(2**24), 2**24),
            (np.uint32, 0, 2**24),
            (np.int64, -(2**24), 2**24),
            (np.uint64, 0, 2**24),
            (np.bool_, 0, 1),
        )
    },
    "keys of all kinds": (
        spaces.Dict(
            dict.fromkeys(("z", "a", "..", "a.b", " ", "ü→", "_index_0", "rewards", "-", "b\\c", "\n"), UNIT)
        ),
        ACTION,
    ),
    "nested": (
        spaces.Dict(
            [("z", spaces.Tuple([UNIT, spaces.Discrete(3, start=-1)])), ("a", spaces.Dict({"b": UNIT}))]
        ),
        ACTION,
    ),
    "bits": (spaces.MultiBinary([2, 3]), spaces.Discrete(2)),
    "multi-discrete int32": (
        spaces.MultiDiscrete([2, 5], dtype=np.int32),
        spaces.MultiDiscrete([2, 3], dtype=np.int32),
    ),
    "a leaf without scalars": (
        spaces.Dict({"a": UNIT, "b": spaces.Box(-1, 1, (0,), np.float32)}),
        ACTION,
    ),
    "integer actions": (UNIT, spaces.Box(-3, 3, (2,), np.int32)),
    "float64 actions": (UNIT, spaces.Box(-3, 3, (2,), np.float64)),
}
BYTES = {
    "box uint8": (spaces.Box(0, 255, (3,), np.uint8), ACTION),
    "multi-discrete uint8": (
        spaces.MultiDiscrete([[2], [5]], dtype=np.uint8),
        spaces.MultiDiscrete([[2], [3]], dtype=np.uint8),
    ),
}
if STORES_BYTES:
    GOOD |= BYTES
if TYPED_DISCRETE:
    GOOD |= {
        "discrete int32": (spaces.Discrete(4, dtype=np.int32), spaces.Discrete(3, start=2, dtype=np.int32)),
        "discrete uint8": (spaces.Discrete(4, dtype=np.uint8), spaces.Discrete(3, dtype=np.uint8)),
    }
BAD: dict[str, spaces.Space[Any]] = {
    **{
        f"key {k!r}": spaces.Dict([("a", UNIT), (k, UNIT)])
        for k in ("walker/joints", "", ".", "/", "a/", "\0")
    },
    "surrogate": spaces.Dict({"\ud800": UNIT}),
    "a number as key": spaces.Dict([(1, UNIT)]),
    "no text as key": spaces.Dict([(("a", "b"), UNIT)]),
    **({} if STORES_BYTES else {kind: observation for kind, (observation, _) in BYTES.items()}),
    "deep inside": spaces.Tuple([UNIT, spaces.Dict({"x": spaces.Dict({"a/b": UNIT})})]),
}
gym.register("storable/Any-v0", entry_point=AnySpaces)


class Here:
    """Plays in this process."""

    def imap_unordered(self, function: Callable[[Any], Any], work: Iterable[Any]) -> Iterator[Any]:
        return map(function, work)


def _spec(kind: str) -> DatasetSpec:
    return DatasetSpec(env=EnvRef("storable/Any-v0", {"kind": kind}), mix=((RandomPolicy(), 3),))


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_collected_is_read_and_lies_in_its_space(tmp_path: Path, kind: str):
    data = collect(_spec(kind), tmp_path / "out", pool=Here())
    observation_space, action_space = GOOD[kind]
    info = describe(data)
    assert (info.observation_space, info.action_space) == (observation_space, action_space)
    episodes = list(read_episodes(info))
    assert len(episodes) == 3
    assert Trajectories.from_minari(data).num_decisions == sum(len(e.reward) for e in episodes)
    for episode in minari.MinariDataset(data):
        for step in range(len(episode.rewards) + 1):
            one = _at(observation_space, episode.observations, step)
            assert observation_space.contains(one), one
        assert all(map(action_space.contains, episode.actions))


def _at(space: spaces.Space[Any], observations: Any, step: int) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _at(child, observations[key], step) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_at(child, part, step) for child, part in zip(space.spaces, observations, strict=True))
    return observations[step]


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_stored_is_refused_before_the_first_episode(tmp_path: Path, kind: str):
    done: list[Any] = []
    with pytest.raises(TDMError, match=r"key|stored and read back"):
        collect(_spec(kind), tmp_path / "out", pool=Here(), watch=done.append)
    assert not done
    with pytest.raises(TDMError):
        check_storable(gym.make("storable/Any-v0", kind=kind))


@pytest.mark.parametrize("kind", GOOD)
def test_a_model_fits_the_environment_that_its_data_came_from(tmp_path: Path, kind: str):
    spec = Trajectories.from_minari(collect(_spec(kind), tmp_path / "out", pool=Here())).spec
    MLPWorldModel(spec, MLPConfig(hidden=8, layers=1), seed=0).save(tmp_path / "model")
    loaded = MLPWorldModel.load(tmp_path / "model").spec
    check_spaces(loaded, gym.make("storable/Any-v0", kind=kind), None)
    for space in GOOD[kind]:
        back = space_from_json(space_to_json(space))
        assert back == space
        assert (back.dtype, str(back)) == (space.dtype, str(space))


def test_a_file_with_a_type_that_an_old_gymnasium_lacks_is_read_or_says_so():
    text = json.dumps({"type": "Discrete", "dtype": "int32", "n": 4, "start": 0})
    if TYPED_DISCRETE:
        assert space_from_json(text).dtype == np.int32
    else:
        with pytest.raises(JsonError, match=r"a space is a Discrete of int32.*install a newer one"):
            space_from_json(text)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize(
    "number", [LARGEST_EXACT, LARGEST_EXACT + 1, LARGEST_EXACT + 2, 2**31 - 1, 2**31 - 128]
)
def test_integers_are_exact_or_refused(dtype: type[np.integer[Any]], number: int):
    space = spaces.Dict({"a": spaces.Box(0, 2**31 - 1, (2,), dtype)})
    observation = {"a": np.array([0, number], dtype)}
    if int(np.float32(number)) == number:
        exactness(space)(observation)
    else:
        with pytest.raises(ValueError, match=rf"observation\['a'\] holds the integer {number}.*float32"):
            exactness(space)(observation)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1])
def test_integers_beyond_float64_too(number: int):
    space = spaces.Box(0, 2**63 - 1, (1,), np.int64)
    with pytest.raises(ValueError, match=str(number)):
        exactness(space)(np.array([number]))


def test_an_episode_with_an_integer_that_would_change_is_not_kept(tmp_path: Path):
    GOOD["large"] = (spaces.Box(2**24 + 1, 2**24 + 1, (1,), np.int64), ACTION)
    try:
        with pytest.raises(DataError, match=f"the integer {2**24 + 1}"):
            collect(_spec("large"), tmp_path / "out", pool=Here())
    finally:
        del GOOD["large"]
    assert math.log2(LARGEST_EXACT) == 24
