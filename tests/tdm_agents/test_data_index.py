import json
from dataclasses import replace
from multiprocessing.pool import ThreadPool

import h5py
import pytest

from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.cli.main import main
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.index import INDEX_FILE, IndexEntry, data_sets, read_index, write_index
from tdm_agents.data.minari_io import DataError, content_hash
from tdm_agents.environments import EnvRef

ENTRY = IndexEntry("tree/data", EnvRef("tdm/WalkerTree-v0", {"dof": 5, "body": 3}), 2, 20, 1000, "ab")


@pytest.fixture
def entries(tmp_path):
    """Of two folders that are there."""
    for name in ("tree", "line"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "metadata.json").write_text("{}")
    paths = ("tree/data", "line/data")
    return tuple(replace(ENTRY, path=path, sha256=content_hash(tmp_path / path)) for path in paths)


@pytest.fixture
def folder(tmp_path, entries):
    write_index(tmp_path, entries)
    return tmp_path


def test_an_index_is_read_as_it_was_written_and_may_be_moved(folder, entries):
    assert read_index(folder) == entries
    moved = folder.rename(folder.with_name("elsewhere"))
    assert data_sets(moved) == [moved / "tree/data", moved / "line/data"]


def test_a_folder_without_an_index_is_a_single_data_set(folder):
    assert data_sets(folder / "tree") == data_sets(folder / "tree/data") == [folder / "tree/data"]
    with pytest.raises(DataError, match="no Minari data set"):
        data_sets(folder / "bush")


def test_a_data_set_that_went_missing_is_named(folder):
    (folder / "line/data/metadata.json").unlink()
    with pytest.raises(DataError, match="line/data, where there is no data set"):
        data_sets(folder)


@pytest.mark.parametrize("damage", ["a changed reward", "a cut off file"])
@pytest.mark.parametrize("command", [["data", "info"], ["train", "--out", "run", "--data"]])
def test_a_data_set_that_was_changed_is_named(damage, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    datasets = [
        DatasetSpec(name=name, env=EnvRef("Pendulum-v1"), mix=((RandomPolicy(), 2),), max_steps=4)
        for name in ("a", "b")
    ]
    with ThreadPool(1) as pool:
        collect(datasets, "out", pool=pool)
    file = tmp_path / "out/b/data/main_data.hdf5"
    if damage == "a changed reward":
        with h5py.File(file, "a") as opened:
            opened["episode_1/rewards"][2] = 7.0
    else:
        file.write_bytes(file.read_bytes()[:-100])
    assert main([*command, "out"]) == 2
    assert "the files in out/b/data have sha256" in capsys.readouterr().err
    if damage == "a cut off file":  # by itself a data set has no hash
        assert main(["data", "info", "out/b"]) == 2
        assert "out/b/data cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2"),
        ({"datasets": []}, "does not list data sets"),
        ({"datasets": [{"path": "tree/data"}]}, "does not list data sets"),
    ],
)
def test_a_changed_index_is_refused(folder, change, message):
    content = json.loads((folder / INDEX_FILE).read_text())
    (folder / INDEX_FILE).write_text(json.dumps(content | change))
    with pytest.raises(DataError, match=message):
        read_index(folder)


@pytest.mark.parametrize("path", ["../other/data", "/tmp/data"])
def test_an_index_names_nothing_outside_its_folder(folder, path):
    write_index(folder, [replace(ENTRY, path=path)])
    with pytest.raises(DataError, match="below the index"):
        data_sets(folder)


def test_half_an_index_is_refused(folder):
    text = (folder / INDEX_FILE).read_text()
    (folder / INDEX_FILE).write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match="not JSON"):
        read_index(folder)
