"""The one reader of JSON: whatever is in a file, the answer is a value or a mistake that names the file."""

import json
from pathlib import Path

import pytest

from tdm_agents.agent.agent_files import read_settings
from tdm_agents.collection.collection_manifest import read_manifest
from tdm_agents.data.index import read_index
from tdm_agents.data.minari_io import describe
from tdm_agents.errors import TDMError
from tdm_agents.json_text import MAX_BYTES, MAX_DEPTH, JsonError, check_fields, load_json, parse_json
from tdm_agents.training import run_state
from tdm_agents.world_models.model_files import load_model, weights_sha256

BAD = {
    "deeper than any stack": b"[" * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"schema": 1, "a": ' * 500 + b"1" + b"}" * 500,
    "an integer of 5,000 digits": b'{"schema": ' + b"9" * 5_000 + b"}",
    "no UTF-8": b"\xff\xfe\x00",
    "empty": b"",
    "cut off": b'{"schema": 1, "a": [1, 2',
    "a list": b"[1, 2, 3]",
    "a number": b"7",
    "null": b"null",
    "a schema that is true": b'{"schema": true}',
    "a schema that is a list": b'{"schema": [1]}',
}

READERS = {
    "agent.json": read_settings,
    "model.json": load_model,
    "weights of model.json": weights_sha256,
    "checkpoint.json": run_state.load,
    "index.json": read_index,
    "manifest.json": lambda folder: read_manifest(folder / "manifest.json"),
    "metadata.json": describe,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", BAD)
def test_every_reader_names_the_file(tmp_path: Path, kind: str, reader: str):
    name = reader.split()[-1]
    (tmp_path / name).write_bytes(BAD[kind])
    with pytest.raises(TDMError, match=name.replace(".", r"\.")) as told:
        READERS[reader](tmp_path)
    assert len(str(told.value)) < 1_000


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path):
    path = tmp_path / "agent.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: reading it would take a terabyte
    with pytest.raises(JsonError, match=f"agent.json has {2**40:,} bytes.*{MAX_BYTES:,}"):
        load_json(path)


@pytest.mark.parametrize(("depth", "fits"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_the_depth_that_is_read(depth: int, fits: bool):
    text = "[" * depth + "]" * depth
    if fits:
        assert parse_json(text, "it") == json.loads(text)
    else:
        with pytest.raises(JsonError, match="it has lists or objects nested deeper"):
            parse_json(text, "it")


def test_a_wide_value_is_what_json_says(tmp_path: Path):
    value = {"a": [{"b": [1, 2.5, None, True]}] * 1_000, "c": {}}
    assert parse_json(json.dumps(value), "it") == value


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        (int, 3, True),
        (int, True, False),
        (int, 3.0, False),
        (float, 3, True),
        (bool, True, True),
        (bool, 1, False),
        (int | None, None, True),
        (str, None, False),
        (dict, [], False),
    ],
)
def test_types_of_fields(kind: type, value: object, fits: bool):
    if fits:
        assert check_fields({"x": value}, "it", {"x": kind}) == {"x": value}
    else:
        with pytest.raises(JsonError, match=r"it has .* as 'x'; expected"):
            check_fields({"x": value}, "it", {"x": kind})
    with pytest.raises(JsonError, match="it has no 'y'"):
        check_fields({"x": value}, "it", {"y": kind})
