"""Mutated files of every kind that is read, each opened as the package opens it; run as a process of its own.

``python tests/support/fuzz_files.py FOLDER COUNT SEED`` prints one JSON object: cases, refusals, and the
failures, each with what was done to which file. A failure is an exception that is no mistake of the user's, a
message that does not name the file, one that is too long, or a case that takes too long.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from gymnasium import spaces

from tdm_agents import TDMAgent, make_planner
from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.collection.collection_check import check
from tdm_agents.collection.collection_manifest import read_manifest, write_manifest
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.shards import read_shard, read_shard_info, write_shard
from tdm_agents.comparison.matches import _read as read_part
from tdm_agents.data.index import IndexEntry, data_sets, read_index, write_index
from tdm_agents.data.minari_io import (
    FlatEpisode,
    content_hash,
    describe,
    episode_metadata,
    read_episodes,
    write_dataset,
)
from tdm_agents.environments import EnvRef
from tdm_agents.errors import is_mistake
from tdm_agents.evaluation.as_json import evaluation_to_json
from tdm_agents.evaluation.records import Episode, Evaluation
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.training import run_file, run_state
from tdm_agents.world_models.learned import identity
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.model_files import SETTINGS_SHA256, settings_sha256
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_envs.walkers.body import BodyKey
from tdm_envs.walkers.manifest import read_manifest as read_bodies
from tdm_envs.walkers.manifest import write_manifest as write_bodies

OLD_RUNS = Path(__file__).parent / "old_runs"
SECONDS = 10
MEMORY = 2**30
LONGEST = 2_000
OBSERVATIONS = spaces.Dict({"x": spaces.Box(-9, 9, (2,), np.float32), "k": spaces.Discrete(3)})
ACTIONS = spaces.Discrete(3)
SPEC = DatasetSpec(env=EnvRef("CartPole-v1"), mix=((RandomPolicy(), 2),))

HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**12, 10**30, -(10**15), 1e308, float("nan"),
    float("inf"), 0.5, "", "x", "x" * 100_000, "/", "..", "\0", "\ud800", "{}", "[", "int64", "float32",
    "U100000000", [], {}, [[]], [None], [1, 2], {"": 0}, [10**9], [1e9] * 3,
    {"type": "Dict", "subspaces": {}},
    {"type": "Discrete", "n": 10**12, "start": 0, "dtype": "int64"}, "os:system", "simulator", "transformer",
)  # fmt: skip


class TooSlowError(BaseException):
    """A case has not ended after :data:`SECONDS`."""


def make_corpus(folder: Path) -> None:
    """Small whole files of every kind."""
    folder.mkdir(parents=True)
    spec = spec_of(OBSERVATIONS, ACTIONS)
    model = MLPWorldModel(spec, MLPConfig(hidden=8, layers=1), seed=0)
    TDMAgent(model, make_planner("mppi", horizon=5), env_id="CartPole-v1").save(folder / "agent")
    config = TransformerConfig(context=24, layers=1, width=16, heads=2, feedforward=16)
    transformer = TransformerWorldModel(spec_of(OBSERVATIONS, ACTIONS), config)
    TDMAgent(transformer, make_planner("beam_search", horizon=5)).save(folder / "tokens")
    write_bodies(folder / "bodies.json", [BodyKey("chain", 4, 3), BodyKey("tree", 6, 1)])
    evaluation = Evaluation("CartPole-v1", (Episode(0, 1.5, 9, 9, 18.0, 0.5, "terminated"),), 9, 0)
    part = {"schema": 1, "kind": "part", "what": {}, "played": evaluation_to_json(evaluation)}
    (folder / "part.json").write_text(json.dumps(part))
    shutil.copytree(OLD_RUNS / "mlp", folder / "run")
    env: Any = gym.Env()
    env.observation_space, env.action_space = OBSERVATIONS, ACTIONS
    one_hot = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    episodes = [
        FlatEpisode(
            np.concatenate([one_hot, np.ones((4, 2), np.float32)], 1),
            np.arange(3),
            np.ones(3, np.float32),
            terminated=True,
            seed=7,
            metadata={"policy": "random", "index": i},
        )
        for i in range(3)
    ]
    told = {"settings": SPEC.settings(), "episodes": SPEC.counts}
    data = write_dataset(
        folder / "sets" / "one", env, episodes, description="", metadata={"collection": json.dumps(told)}
    )
    entry = IndexEntry("one/data", SPEC.env, 3, 9, 1, content_hash(data))
    write_index(folder / "sets", [entry])
    write_manifest(folder / "manifest.json", [SPEC])
    write_shard(folder / "shard.safetensors", episodes[0])
    shards = folder / "begun" / ".episodes"
    shards.mkdir(parents=True)
    (shards / "settings.json").write_text(json.dumps(SPEC.settings()))


def _agent(folder: Path) -> None:
    TDMAgent.load(folder / "agent")


def _tokens(folder: Path) -> None:
    TDMAgent.load(folder / "tokens")


def _bodies(folder: Path) -> None:
    read_bodies(folder / "bodies.json")


def _part(folder: Path) -> None:
    read_part(folder / "part.json", {})


def _run(folder: Path) -> None:
    run_state.load(folder / "run")
    there = json.loads((OLD_RUNS / "mlp" / "run.json").read_text())
    here = {"environments": {"the only one": there["spec"]}, "config": identity(MLPConfig())}
    here = run_file._of_schema_1(there, here) | {"config": here["config"] | there["config"]}
    run_file.claim(folder / "run", here, MLPConfig())


def _data(folder: Path) -> None:
    info = describe(folder / "sets" / "one" / "data")
    for _ in read_episodes(info):
        pass
    for _ in episode_metadata(info):
        pass


def _index(folder: Path) -> None:
    read_index(folder / "sets")
    data_sets(folder / "sets")


def _manifest(folder: Path) -> None:
    read_manifest(folder / "manifest.json")


def _shard(folder: Path) -> None:
    read_shard(folder / "shard.safetensors")
    read_shard_info(folder / "shard.safetensors")


def _begun(folder: Path) -> None:
    check([SPEC], folder / "begun")


def _finished(folder: Path) -> None:
    check([SPEC], folder / "sets" / "one")


TARGETS: tuple[tuple[str, Callable[[Path], None], int], ...] = (
    ("agent/agent.json", _agent, 8),
    ("agent/model.json", _agent, 12),
    ("agent/weights.safetensors", _agent, 4),
    ("tokens/model.json", _tokens, 12),
    ("tokens/agent.json", _tokens, 4),
    ("bodies.json", _bodies, 2),
    ("part.json", _part, 4),
    ("run/run.json", _run, 6),
    ("run/checkpoint.json", _run, 8),
    ("run/checkpoints/step-00000006.weights.safetensors", _run, 2),
    ("run/checkpoints/step-00000006.moments.safetensors", _run, 2),
    ("sets/index.json", _index, 8),
    ("manifest.json", _manifest, 8),
    ("sets/one/data/metadata.json", _data, 8),
    ("sets/one/data/metadata.json", _finished, 4),
    ("sets/one/data/main_data.hdf5", _data, 12),
    ("shard.safetensors", _shard, 4),
    ("begun/.episodes/settings.json", _begun, 3),
)
"""Files by their place in the corpus, what reads them, and how often each is taken."""


def _bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    kind = rng.choice(("truncate", "flip", "flip", "zero", "insert", "random", "repeat", "empty", "swap"))
    at = rng.randrange(len(data) + 1)
    more = rng.randrange(1, 64)
    if kind == "truncate":
        return data[:at], f"cut at {at}"
    if kind == "flip":
        changed = bytearray(data)
        places = [rng.randrange(len(data)) for _ in range(rng.choice((1, 1, 2, 8)))]
        for place in places:
            changed[place] ^= 1 << rng.randrange(8)
        return bytes(changed), f"bits flipped at {places}"
    if kind == "zero":
        return data[:at] + b"\0" * len(data[at : at + more]) + data[at + more :], f"{more} zeros at {at}"
    if kind == "insert":
        return data[:at] + rng.randbytes(more) + data[at:], f"{more} bytes put in at {at}"
    if kind == "random":
        return rng.randbytes(more), f"{more} random bytes"
    if kind == "repeat":
        return data[:at] + data, f"begins twice, {at}"
    if kind == "swap":
        return data[at:] + data[:at], f"turned at {at}"
    return b"", "empty"


def _nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: what holds it, and under which key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(value, key) for key, _ in pairs] + [node for _, child in list(pairs) for node in _nodes(child)]


def _value(value: Any, rng: random.Random) -> tuple[Any, str]:
    """A JSON value with one place changed; inside of texts that hold JSON too."""
    nodes = _nodes(value)
    if not nodes:
        return rng.choice(HOSTILE), "the whole"
    holder, key = rng.choice(nodes)
    here = holder[key]
    if isinstance(here, str) and here[:1] in "{[" and len(here) > 1 and rng.random() < 0.8:
        with contextlib.suppress(ValueError):
            inner, what = _value(json.loads(here), rng)
            holder[key] = json.dumps(inner)
            return value, f"{key!r} > {what}"
    kind = rng.choice(("replace", "replace", "replace", "delete", "rename", "more"))
    hostile = rng.choice(HOSTILE)
    if kind == "replace" or isinstance(holder, list):
        holder[key] = hostile
    elif kind == "delete":
        del holder[key]
    elif kind == "rename":
        holder[str(key) + "_"] = holder.pop(key)
    else:
        holder["more"] = hostile
    return value, f"{kind} {key!r}: {str(hostile)[:40]!r}"


def _json(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    choice = rng.random()
    if choice < 0.25:
        return _bytes(data, rng)
    if choice < 0.28:
        return b"[" * 100_000, "nested 100,000 deep"
    if choice < 0.31:
        depth = rng.choice((60, 500, 900, 2_000))
        return b'{"schema": 1, "a": ' * depth + b"1" + b"}" * depth, f"objects {depth} deep"
    if choice < 0.36:
        text = data.decode()
        digits = [i for i, c in enumerate(text) if c.isdigit()]
        at = rng.choice(digits)
        count = rng.choice((400, 4_299, 5_000))
        return (text[:at] + "9" * count + text[at:]).encode(), f"{count} digits at {at}"
    value, what = _value(json.loads(data), rng)
    if isinstance(value, dict) and SETTINGS_SHA256 in value and rng.random() < 0.8:
        with contextlib.suppress(ValueError, TypeError):
            value[SETTINGS_SHA256] = settings_sha256(value)
            what += ", with the right hash"
    return json.dumps(value).encode(), what


KINDS = ("delete", "group", "text", "huge", "scalar", "other length", "link", "attribute", "object")


def _hdf5(path: Path, rng: random.Random) -> str:
    """Change the structure of an HDF5 file."""
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        leaf = isinstance(file[name], h5py.Dataset)
        kind = rng.choice(
            ("delete", "group", "text", "huge", "scalar", "other length", "link", "attribute", "object")
        )
        if kind == "attribute":
            file[name].attrs[rng.choice(("seed", "id", "policy", "a/b", "total_steps"))] = rng.choice(
                ("x", -1, 2**60, np.nan, np.arange(5))
            )
            return f"{kind} of {name}"
        shape = file[name].shape if leaf else (3,)
        del file[name]
        if kind == "group":
            file.create_group(name)
        elif kind == "text":
            file[name] = ["a", "b"]
        elif kind == "huge":
            size = rng.choice((10**7, 10**9, 10**12))
            file.create_dataset(
                name, (size, *shape[1:]), np.float32, chunks=(1024, *shape[1:]), compression="gzip"
            )
        elif kind == "scalar":
            file[name] = 1.0
        elif kind == "other length":
            file[name] = np.zeros((rng.randrange(9), *shape[1:]), np.float32)
        elif kind == "link":
            file[name] = h5py.SoftLink(rng.choice(("/nowhere", "/", f"/{name}")))
        elif kind == "object":
            file[name] = np.array([b"x" * 5, b"y"], dtype="S5")
        return f"{kind} at {name}"


def mutate(folder: Path, name: str, rng: random.Random) -> str:
    """Change a file of a corpus; what was done."""
    path = folder / name
    if path.suffix == ".hdf5" and rng.random() < 0.5:
        return _hdf5(path, rng)
    data = path.read_bytes()
    changed, what = (_json if path.suffix == ".json" else _bytes)(data, rng)
    path.write_bytes(changed)
    if name.endswith("/weights.safetensors") and rng.random() < 0.7:
        value = json.loads((path.parent / "model.json").read_text())
        value["sha256"] = hashlib.sha256(changed).hexdigest()
        value[SETTINGS_SHA256] = settings_sha256(value)
        (path.parent / "model.json").write_text(json.dumps(value))
        what += ", with the right hash"
    return what


def play(folder: Path, name: str, read: Callable[[Path], None]) -> tuple[bool, str | None]:
    """Read a mutated corpus: whether it was refused, and what is wrong with how."""
    file = folder / name
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        read(folder)
    except TooSlowError:
        return False, f"not done after {SECONDS} s"
    except Exception as error:
        if not is_mistake(error):
            return True, "".join(traceback.format_exception(error))[-1500:]
        text = str(error)
        parents = [str(p) for p in (file, *file.parents) if p.is_relative_to(folder) and p != folder]
        if not any(p in text for p in parents):
            return True, f"no file is named: {text[:300]}"
        return True, f"{len(text)} characters: {text[:200]}" if len(text) > LONGEST else None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return False, None


def _peak_mib() -> float:
    """The most memory since this program began; ``ru_maxrss`` would count that of the parent at the fork."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(folder: Path, count: int, seed: int) -> None:
    """Play ``count`` cases and print what came out."""

    def late(signum: int, frame: Any) -> None:
        raise TooSlowError

    signal.signal(signal.SIGALRM, late)
    warnings.simplefilter("ignore")
    whole, here = folder / "whole", folder / "here"
    make_corpus(whole)
    names, readers, weights = zip(*TARGETS, strict=True)
    shutil.copytree(whole, here)
    for name, read in zip(names, readers, strict=True):
        refused, wrong = play(here, name, read)
        assert not refused or read is _finished, (name, wrong)
    begun = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begun + MEMORY, begun + MEMORY))
    rng, started = random.Random(seed), time.monotonic()
    refusals, failures, slowest = 0, list[dict[str, str]](), 0.0
    files = Counter[str]()
    for case in range(count):
        (which,) = rng.choices(range(len(names)), weights)
        name = names[which]
        files[name] += 1
        what = mutate(here, name, rng)
        begun_at = time.monotonic()
        with contextlib.redirect_stderr(io.StringIO()):
            refused, wrong = play(here, name, readers[which])
        slowest = max(slowest, time.monotonic() - begun_at)
        refusals += refused
        if wrong:
            failures.append({"case": str(case), "file": name, "change": what[:300], "wrong": wrong})
        top = name.split("/")[0]
        (shutil.rmtree if (here / top).is_dir() else Path.unlink)(here / top)
        (shutil.copytree if (whole / top).is_dir() else shutil.copy)(whole / top, here / top)
    print(
        json.dumps(
            {
                "cases": count,
                "files": files,
                "refused": refusals,
                "failures": failures,
                "slowest_s": slowest,
                "seconds": time.monotonic() - started,
                "peak_mib": _peak_mib(),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
