import json
from dataclasses import replace

import pytest

from tdm_agents.data.index import INDEX_FILE, IndexEntry, data_sets, read_index, write_index
from tdm_agents.data.minari_io import DataError

ENTRY = IndexEntry("tree/data", "tdm/WalkerTree-v0", {"dof": 5, "body": 3}, 2, 20, 1000, "ab")


@pytest.fixture
def folder(tmp_path):
    for name in ("tree", "line"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "metadata.json").write_text("{}")
    write_index(tmp_path, [ENTRY, replace(ENTRY, path="line/data")])
    return tmp_path


def test_an_index_is_read_as_it_was_written_and_may_be_moved(folder):
    assert read_index(folder) == (ENTRY, replace(ENTRY, path="line/data"))
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
