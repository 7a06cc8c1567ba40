"""Model files that somebody else wrote: refused before anything is made with the sizes they state."""

import json
import math
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tdm_agents import TDMAgent, make_planner
from tdm_agents.agent.agent_files import bundled
from tdm_agents.errors import TDMError
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.storage import read_tensors, write_tensors
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.model_files import SETTINGS_SHA256, load_model, settings_sha256

BUNDLED = bundled()["cartpole-swingup"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "agent"
    shutil.copytree(BUNDLED, copy)
    return copy


def _rewrite(folder: Path, change: Any) -> None:
    """Change ``model.json`` as somebody would who wants it read: with the right hash of itself."""
    path = folder / "model.json"
    value = json.loads(path.read_text())
    change(value)
    value[SETTINGS_SHA256] = settings_sha256(value)
    path.write_text(json.dumps(value))


def _numbers(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for key, child in value.items() for p in _numbers(child, (*path, key))]
    return [path] if isinstance(value, int | float) and not isinstance(value, bool) else []


MODEL = json.loads((BUNDLED / "model.json").read_text())
SIZES = [p for part in ("spec", "config") for p in _numbers(MODEL[part], (part,))]


@pytest.mark.parametrize("size", [10**6, 10**9, 10**12, 10**30])
@pytest.mark.parametrize("where", SIZES, ids=lambda path: ".".join(map(str, path)))
def test_a_size_never_takes_more_memory_than_the_weights_are_worth(
    folder: Path, where: tuple[Any, ...], size: int
):
    def change(value: Any) -> None:
        for key in where[:-1]:
            value = value[key]
        value[where[-1]] = size

    _rewrite(folder, change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load_model(folder)  # a number that is no size of a tensor may be what it likes
    except TDMError as error:
        assert "model.json" in str(error), error
        assert len(str(error)) < 1_000
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 256, f"{grown:.0f} MiB"


@pytest.mark.parametrize("size", [10**6, 10**9, 10**12, 10**30])
@pytest.mark.parametrize("name", ["hidden", "layers"])
def test_sizes_of_an_mlp(tmp_path: Path, name: str, size: int):
    spec = spec_of(spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2))
    MLPWorldModel(spec, MLPConfig(hidden=8, layers=1), seed=0).save(tmp_path)
    _rewrite(tmp_path, lambda value: value["config"].update({name: size}))
    with pytest.raises(TDMError, match=rf"model\.json.*{name}"):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", ["simulator", "no-such-model", "", "transformer" * 10_000, None, 3, ["mlp"]])
def test_a_type_that_cannot_be_loaded(folder: Path, kind: Any):
    _rewrite(folder, lambda value: value.update(type=kind))
    with pytest.raises(TDMError, match=r"model\.json") as told:
        load_model(folder)
    assert len(str(told.value)) < 1_000


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite(folder: Path, bad: float):
    path = folder / "weights.safetensors"
    tensors = read_tensors(path)
    name = next(n for n, t in tensors.items() if t.is_floating_point() and t.ndim == 2)
    tensors[name].view(-1)[3] = bad
    sha256 = write_tensors(path, tensors)
    _rewrite(folder, lambda value: value.update(sha256=sha256))
    with pytest.raises(TDMError, match=rf"weights\.safetensors holds NaN or infinity in {name}"):
        load_model(folder)


@pytest.mark.parametrize(
    ("planner", "settings"),
    [
        ("mppi", {"iterations": 100_000}),
        ("cem", {"num_samples": 10**12}),
        ("cem", {"horizon": 10**9}),
        ("random_shooting", {"horizon": 10_000, "num_samples": 100_000}),
        ("beam_search", {"beam_width": 10**9}),
        ("beam_search", {"beam_width": 10**5, "num_expand": 10**4}),
        ("policy", {"horizon": 10**9}),
        ("mppi", {"temperature": 10**400}),
    ],
)
def test_planner_settings_that_would_take_hours(folder: Path, planner: str, settings: dict[str, int]):
    with pytest.raises(TDMError, match=f"{next(reversed(settings))}.*(at most|largest)"):
        make_planner(planner, **settings)
    path = folder / "agent.json"
    value = json.loads(path.read_text())
    value["planner"] = {"name": planner, "settings": settings}
    path.write_text(json.dumps(value))
    with pytest.raises(TDMError, match=r"agent\.json"):
        TDMAgent.load(folder)


def test_the_bundled_agent_is_within_the_bounds():
    agent = TDMAgent.load("cartpole-swingup")
    assert all(bool(torch.isfinite(p).all()) for p in load_model(BUNDLED).parameters())
    assert agent.planner.horizon >= 1
