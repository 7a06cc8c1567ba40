"""Agents on the Hugging Face hub: uploaded, described, downloaded, checked, against a hub on this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import hub_server
import markdown_pages
import pytest
import torch

from tdm_agents import TDMAgent
from tdm_agents.agent import agent_files
from tdm_agents.agent.hub import HubError, HubName
from tdm_agents.cli.main import main
from tdm_agents.errors import MissingPackageError, UnknownNameError, WrongValueError
from tdm_agents.storage import CheckpointError

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")

BUNDLED = agent_files.bundled()["cartpole-swingup"]
NAME = "someone/swingup"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with hub_server.running() as found:
        template = found.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # that protocol is of its servers alone
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        yield found


@pytest.fixture(scope="module")
def agent():
    return TDMAgent.load("cartpole-swingup", horizon=2, num_samples=4, iterations=1)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_pushed_is_what_is_loaded(hub, agent):
    name = agent.push_to_hub(NAME, evaluation=BUNDLED / "evaluation.json")
    (_, files) = hub.files(NAME)
    expected = {
        "README.md",
        "SHA256SUMS",
        "agent.json",
        "evaluation.json",
        "model.json",
        "weights.safetensors",
    }
    assert set(files) - {".gitattributes"} == expected
    for loaded in (TDMAgent.load(f"hf://{NAME}"), TDMAgent.load(name)):
        assert loaded.planner == agent.planner and loaded.reward_function == agent.reward_function
        mine, theirs = agent.base_model.state_dict(), loaded.base_model.state_dict()
        assert all(torch.equal(theirs[key], value) for key, value in mine.items())


def test_a_file_is_downloaded_once(hub, agent):
    agent.push_to_hub(NAME)
    for _ in range(2):
        TDMAgent.load(f"hf://{NAME}")
    assert hub.downloads.count("weights.safetensors") == 1


def test_the_name_that_push_returns_goes_on_meaning_these_files(hub, agent):
    first = agent.push_to_hub(NAME, evaluation=BUNDLED / "evaluation.json")
    other = TDMAgent.load("cartpole-swingup", planner="cem", horizon=2, num_samples=16)
    second = other.push_to_hub(NAME)
    assert "evaluation.json" not in hub.files(NAME)[1]  # it was that of the agent before
    assert type(TDMAgent.load(first).planner) is type(agent.planner)
    assert (
        type(TDMAgent.load(second).planner)
        is type(other.planner)
        is type(TDMAgent.load(f"hf://{NAME}").planner)
    )


def test_the_card_says_what_was_measured_and_its_code_loads_the_agent(hub, agent):
    agent.push_to_hub(NAME, evaluation=BUNDLED / "evaluation.json")
    card = hub.files(NAME)[1]["README.md"].decode()
    report = json.loads((BUNDLED / "evaluation.json").read_text())
    assert f"{report['summary']['iqm']:.1f}" in card and report["provenance"]["command"] in card
    metadata = huggingface_hub.ModelCard(card).data
    assert metadata.library_name == "tdm-agents" and metadata.pipeline_tag == "reinforcement-learning"
    (result,) = metadata.eval_results
    assert result.metric_value == pytest.approx(report["summary"]["mean"], abs=0.01)
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(code, names)
    assert names["agent"].env_id == agent.env_id


def test_without_an_evaluation_the_card_says_that_nothing_was_measured(hub, agent):
    agent.push_to_hub(NAME)
    card = hub.files(NAME)[1]["README.md"].decode()
    assert "Nothing was measured" in card and "model-index" not in card


def test_hashes_are_those_of_the_files(hub, agent):
    agent.push_to_hub(NAME, evaluation=BUNDLED / "evaluation.json")
    _, files = hub.files(NAME)
    sums = dict(line.split("  ")[::-1] for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {
        name: sha256(content).hexdigest()
        for name, content in files.items()
        if name not in ("SHA256SUMS", ".gitattributes")
    }


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "agent.json", "README.md"])
def test_a_file_that_is_not_the_uploaded_one_is_refused(name, hub, agent):
    agent.push_to_hub(NAME)
    files = dict(hub.files(NAME)[1])
    hub.put(NAME, files | {name: files[name].replace(b"e", b"f", 1)})
    with pytest.raises(CheckpointError, match=name):
        TDMAgent.load(f"hf://{NAME}")


@pytest.mark.parametrize("name", ["weights.safetensors", "agent.json"])
def test_a_missing_file_is_named(name, hub, agent):
    agent.push_to_hub(NAME)
    hub.put(NAME, {key: content for key, content in hub.files(NAME)[1].items() if key != name})
    with pytest.raises(CheckpointError, match=rf"{name} is missing"):
        TDMAgent.load(f"hf://{NAME}")


def test_a_folder_that_was_uploaded_by_other_means_needs_no_sums(hub):
    files = files_of(BUNDLED)
    hub.put(NAME, files)
    assert TDMAgent.load(f"hf://{NAME}").env_id == "dm_control/cartpole-swingup-v0"
    altered = files["weights.safetensors"][:-1] + b"\0"
    hub.put(NAME, files | {"weights.safetensors": altered})
    with pytest.raises(CheckpointError, match="altered"):
        TDMAgent.load(f"hf://{NAME}")


def test_a_file_of_another_kind_is_not_downloaded(hub):
    hub.put(NAME, files_of(BUNDLED) | {"setup.py": b"print()", "old/agent.pkl": b"."})
    TDMAgent.load(f"hf://{NAME}")
    assert not {"setup.py", "old/agent.pkl"} & set(hub.downloads)


def test_an_evaluation_of_other_weights_is_refused(hub, agent, tmp_path):
    report = json.loads((BUNDLED / "evaluation.json").read_text())
    report["provenance"]["weights_sha256"] = "0" * 64
    other = tmp_path / "evaluation.json"
    other.write_text(json.dumps(report))
    with pytest.raises(WrongValueError, match="000000000000"):
        agent.push_to_hub(NAME, evaluation=other)
    other.write_text("{}")
    with pytest.raises(CheckpointError, match="tdm evaluate --out"):
        agent.push_to_hub(NAME, evaluation=other)
    assert NAME not in hub.repositories


def test_a_private_repository_opens_to_its_owner_alone(hub, agent, monkeypatch):
    agent.push_to_hub(NAME, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    with pytest.raises(UnknownNameError, match="HF_TOKEN"):
        TDMAgent.load(f"hf://{NAME}")
    with pytest.raises(HubError, match="HF_TOKEN"):
        agent.push_to_hub(NAME)
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    assert TDMAgent.load(f"hf://{NAME}").env_id == agent.env_id


@pytest.mark.parametrize("name", ["hf://nobody/nothing", f"hf://{NAME}@a-branch"])
def test_a_name_that_is_not_on_the_hub_is_refused(name, hub):
    hub.put(NAME, files_of(BUNDLED))
    with pytest.raises(UnknownNameError, match=re.escape(name)):
        TDMAgent.load(name)


@pytest.mark.parametrize(
    "name", ["hf://", "hf://alone", "hf://a/b/c", "hf://a/b@", "hf://a b/c", "hf://../.."]
)
def test_what_is_no_name_is_refused(name, hub):
    with pytest.raises(WrongValueError):
        TDMAgent.load(name)


@pytest.mark.parametrize("repository", ["alone", "a/b@main", "hf://a/b"])
def test_a_repository_is_owner_and_name(repository, hub, agent):
    with pytest.raises(WrongValueError, match="owner/name"):
        agent.push_to_hub(repository)


def test_names_are_read_as_they_are_written():
    for text in ("hf://a/b", "hf://a/b@v1.0"):
        assert str(HubName.parse(text)) == text


def test_without_a_connection_what_was_loaded_before_still_is(hub, agent, monkeypatch):
    agent.push_to_hub(NAME)
    TDMAgent.load(f"hf://{NAME}")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert TDMAgent.load(f"hf://{NAME}").planner == agent.planner
    with pytest.raises(HubError, match="network"):
        TDMAgent.load("hf://someone/else")
    with pytest.raises(HubError, match="network"):
        agent.push_to_hub(NAME)


def test_commands_take_the_name_wherever_they_take_a_checkpoint(hub, tmp_path, capsys):
    hub.put(NAME, files_of(BUNDLED))
    out = tmp_path / "evaluation.json"
    small = ["--episodes", "1", "--max-steps", "4", "--planner-settings", "num_samples", "4"]
    status = main(["evaluate", "--checkpoint", f"hf://{NAME}", "--out", str(out), *small])
    assert status == 0, capsys.readouterr().err
    assert json.loads(out.read_text())["env_id"] == "dm_control/cartpole-swingup-v0"
    assert main(["evaluate", "--checkpoint", "hf://nobody/nothing"]) == 2
    assert "hf://nobody/nothing is not on the hub" in capsys.readouterr().err


def test_the_page_does_and_prints_what_it_shows(hub):
    markdown_pages.run_page(Path(__file__).parents[2] / "docs" / "hub.md")


def test_the_variable_of_huggingface_hub_says_where_the_hub_is(hub, tmp_path):
    hub.put(NAME, files_of(BUNDLED))
    script = f"from tdm_agents import TDMAgent; print(TDMAgent.load('hf://{NAME}').env_id)"
    environ = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environ)
    assert done.stdout == "dm_control/cartpole-swingup-v0\n", done.stderr
    assert hub.downloads


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match=r"tdm-agents\[hub\]"):
        TDMAgent.load(f"hf://{NAME}")


def test_a_folder_of_that_name_is_still_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(BUNDLED, tmp_path / "hf:" / "someone" / "swingup")
    assert TDMAgent.load(Path("hf:/someone/swingup")).env_id
