import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.actors.tuned import EXPERTS
from tdm_agents.cli.collect import Collect, datasets_of
from tdm_agents.cli.main import main
from tdm_agents.collection.collection_manifest import default_name, read_manifest, write_manifest
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.data.index import data_sets, read_index
from tdm_agents.data.minari_io import DataError
from tdm_agents.environments import EnvRef
from tdm_envs.walkers import sample_bodies
from tdm_envs.walkers import write_manifest as write_bodies

RANDOM = RandomPolicy(max_correlation=0.5)
EXPERT = PlannerPolicy(
    "mppi", {"horizon": 3, "num_samples": 4, "iterations": 1}, name="expert", noise_sds=(0.1, 0.2)
)
WRITTEN = {
    "schema": 1,
    "policies": {
        "random": {"kind": "RandomPolicy"},
        "expert": {"kind": "PlannerPolicy", "planner": "cem", "settings": {"horizon": 3}},
    },
    "environments": [
        {
            "env_id": "tdm/WalkerTree-v0",
            "env_kwargs": {"dof": 5, "body": 3},
            "episodes": {"random": 2, "expert": 1},
        },
        {
            "name": "swing",
            "env_id": "Pendulum-v1",
            "episodes": {"random": 5},
            "action_repeat": 2,
            "max_steps": 9,
        },
    ],
}


@settings(deadline=None, max_examples=10)
@given(
    st.lists(
        st.builds(
            DatasetSpec,
            env=st.builds(
                EnvRef,
                st.just("tdm/WalkerTree-v0"),
                st.fixed_dictionaries({"dof": st.integers(4, 20), "body": st.integers(0)}),
            ),
            name=st.from_regex(r"\A[A-Za-z0-9_][-A-Za-z0-9_.]{0,8}\Z"),
            mix=st.sampled_from([((RANDOM, 3),), ((EXPERT, 1), (RANDOM, 2))]),
            action_repeat=st.integers(1, 5),
            max_steps=st.none() | st.integers(1),
            seed=st.just(7),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda dataset: dataset.name,
    )
)
def test_a_manifest_is_read_as_it_was_written(tmp_path_factory, datasets):
    path = tmp_path_factory.mktemp("manifest") / "manifest.json"
    write_manifest(path, datasets)
    assert read_manifest(path) == tuple(datasets)


def test_a_manifest_may_be_written_by_hand(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps(WRITTEN))
    tree, swing = read_manifest(tmp_path / "m.json")
    assert tree.name == "WalkerTree-v0-dof5-body3" and tree.counts == {"random": 2, "expert": 1}
    assert (tree.action_repeat, tree.max_steps, tree.seed) == (1, None, 0)
    assert tree.mix[0][0] == RandomPolicy() and tree.mix[1][0].settings["horizon"] == 3
    assert (swing.name, swing.action_repeat, swing.max_steps, swing.env.kwargs) == ("swing", 2, 9, {})


def test_the_manifest_of_the_documentation_can_be_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "collecting.md").read_text()
    (tmp_path / "m.json").write_text(page.split("```json\n")[1].split("```")[0])
    tree, swingup = read_manifest(tmp_path / "m.json")
    assert (tree.name, swingup.name) == ("WalkerTree-v0-dof12-body3", "swingup")
    assert tree.mix[1][0].noise_sds == (0.0, 0.3)


def change(path, value):
    """The manifest with ``value`` at ``path``."""
    content = json.loads(json.dumps(WRITTEN))
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (change(["schema"], 2), "has schema 2"),
        (change(["enviroments"], []), "the manifest has 'enviroments'; expected only environments, policies"),
        (change(["environments"], []), "no environments"),
        (change(["environments"], {}), 'expected a list "environments"'),
        (change(["environments", 1], "Pendulum-v1"), "environment 1 is 'Pendulum-v1'"),
        (
            change(["environments", 1], {"env_id": "Pendulum-v1"}),
            "expected an object with env_id and episodes",
        ),
        (change(["environments", 1, "episode"], 3), "environment 1 has 'episode'"),
        (change(["environments", 1, "episodes"], {"randon": 3}), "episodes of 'randon'; the policies are"),
        (
            change(["environments", 1, "episodes"], {"random": "3"}),
            "episodes of 'random' is '3'; expected int",
        ),
        (change(["environments", 1, "episodes"], {"random": 0}), "at least one episode"),
        (change(["environments", 1, "episodes"], {"random": -1, "expert": 2}), "episodes of 'random' is -1"),
        (change(["environments", 1, "max_steps"], 0), "swing: max_steps is 0; expected at least 1"),
        (change(["environments", 1, "action_repeat"], True), "action_repeat is True; expected int"),
        (change(["environments", 1, "name"], "../up"), "name is '../up'"),
        (change(["environments", 1, "name"], "index.json"), "name is 'index.json', as the collection's own"),
        (change(["environments", 1, "name"], "a" * 300), "300 characters; expected at most 200"),
        (change(["environments", 1, "name"], "WalkerTree-v0-dof5-body3"), "two environments are called"),
        (change(["environments", 0, "env_kwargs"], [5, 3]), "env_kwargs is .*; expected dict"),
        (change(["seed"], "0"), "seed is '0'; expected int"),
        (change(["policies", "random"], {"kind": "Random"}), "kind 'Random'; expected one of RandomPolicy"),
        (change(["policies", "random", "scale"], 2), "'random' has 'scale'; expected only max_correlation"),
        (
            change(["policies", "../../../evil"], {"kind": "RandomPolicy"}),
            "name of a policy is '../../../evil'",
        ),
        (change(["policies", "random"], 5), "policy 'random' is 5; expected an object"),
        (change(["policies", "random", "min_scale"], "0.1"), "min_scale is '0.1'; expected a number"),
        (change(["policies", "expert", "noise_sds"], 5), "noise_sds is 5; expected a list of numbers"),
        (change(["policies", "expert", "noise_sds"], [None]), "noise_sds is .None.; expected a list"),
        (change(["policies", "expert", "settings"], 5), "settings is 5; expected an object"),
        (change(["policies", "expert", "burst_max"], 1.5), "burst_max is 1.5; expected a whole number"),
        (change(["policies", "expert", "planner"], "cme"), "cme"),
        (change(["policies", "expert", "settings"], {"horizont": 3}), "no setting"),
        (change(["policies", "random", "max_correlation"], 2), "max_correlation < 1"),
    ],
)
def test_a_manifest_that_was_edited_wrongly_says_where(content, message, tmp_path):
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(tmp_path / "m.json")
    assert str(tmp_path / "m.json") in str(caught.value)


def test_no_manifest_and_half_a_manifest_are_refused(tmp_path):
    with pytest.raises(DataError, match="missing"):
        read_manifest(tmp_path / "m.json")
    (tmp_path / "m.json").write_text(json.dumps(WRITTEN)[:80])
    with pytest.raises(DataError, match="not JSON"):
        read_manifest(tmp_path / "m.json")


def test_policies_of_one_name_have_one_meaning(tmp_path):
    datasets = [
        DatasetSpec(name=name, env=EnvRef("Pendulum-v1"), mix=((RandomPolicy(min_scale=scale), 1),))
        for name, scale in (("a", 0.1), ("b", 0.2))
    ]
    with pytest.raises(ValueError, match="'random' of 'b' has other settings"):
        write_manifest(tmp_path / "m.json", datasets)
    assert not list(tmp_path.iterdir())


def test_names_are_made_of_the_environment_and_its_arguments():
    assert default_name(EnvRef("tdm/WalkerTree-v0", {"dof": 12, "body": 3})) == "WalkerTree-v0-dof12-body3"
    assert default_name(EnvRef.of("my_module:ns/Env-v1", {"path": "a/b c"})) == "Env-v1-path_a_b_c_"


@pytest.fixture
def bodies(tmp_path):
    keys = sample_bodies("line", 1, "train", 0, dof=5) + sample_bodies("tree", 1, "train", 0, dof=6)
    write_bodies(tmp_path / "bodies.json", keys)
    return tmp_path / "bodies.json"


def test_from_a_set_of_bodies_to_data_in_one_command(bodies, tmp_path, capsys):
    out = tmp_path / "out"
    planner = ["--planner-settings", "horizon", "3", "num-samples", "4", "iterations", "1"]
    command = [
        "collect",
        "--bodies",
        str(bodies),
        "--random-episodes",
        "1",
        "--planner-episodes",
        "1",
        *planner,
    ]
    command += ["--max-steps", "4", "--seed", "3", "--out", str(out)]
    assert main([*command, "--write-manifest", str(tmp_path / "m.json")]) == 0
    assert not out.exists()
    assert main(command) == 0
    assert "environments 2, episodes 4, transitions 16" in " ".join(capsys.readouterr().out.split())
    assert [(entry.episodes, entry.transitions) for entry in read_index(out)] == [(2, 8)] * 2
    before = [path.stat().st_mtime_ns for path in data_sets(out)]
    # the manifest is the same collection in other words
    assert main(["collect", "--manifest", str(tmp_path / "m.json"), "--out", str(out)]) == 0
    assert "complete already" in " ".join(capsys.readouterr().out.split())
    assert [path.stat().st_mtime_ns for path in data_sets(out)] == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--manifest", "m.json", "--seed", "3"], "--seed has no place beside --manifest"),
        (["--manifest", "m.json", "--planner-settings", "horizon", "3"], "--planner-settings has no place"),
        (["--bodies", "bodies.json", "--env-id", "Pendulum-v1"], "--bodies says which environments"),
        (["--bodies", "nowhere.json"], "nowhere.json does not exist"),
        (["--env-id", "tdm/WalkerTree-v0 dof=21"], "dof is 21"),
        (["--planner", "expert", "--planner-settings", "horizon", "3"], "--planner expert has its own"),
        (["--planner", "expert", "--env-id", "Pendulum-v1"], "no expert for 'Pendulum-v1'"),
        (["--env-id", "Pendulum-v1 g"], "g"),
        (["--env-id", "Pendulum-v1", "--planner-episodes", "1"], "no episodes of 'planner' can be played in"),
        (["--manifest", "bodies.json"], "a set of bodies of `tdm envs sample`, no manifest"),
        (["--bodies", "m.json"], 'has no list "bodies"'),
    ],
)
def test_options_that_contradict_are_refused(words, message, tmp_path, bodies, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.json").write_text(json.dumps(WRITTEN))
    assert main(["collect", *words, "--random-episodes", "1", "--out", "out"] if "--manifest" not in words
                else ["collect", *words, "--out", "out"]) == 2  # fmt: skip
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "out").exists()


def test_experts_are_those_of_each_environment(bodies, tmp_path):
    path = tmp_path / "m.json"
    command = ["collect", "--bodies", str(bodies), "--planner", "expert", "--planner-episodes", "2"]
    assert main([*command, "--out", str(tmp_path / "out"), "--write-manifest", str(path)]) == 0
    for dataset, family in zip(read_manifest(path), ("line", "tree"), strict=True):
        expert = EXPERTS[f"walker-{family}"]
        assert dataset.counts == {"random": 200, expert.name: 2}
        assert dataset.mix[1][0] == expert.make_policy() and dataset.action_repeat == expert.action_repeat


def test_a_set_of_bodies_that_was_edited_is_refused(bodies, tmp_path, capsys):
    bodies.write_text(bodies.read_text().replace('"dof": 5', '"dof": 7'))
    assert main(["collect", "--bodies", str(bodies), "--out", str(tmp_path / "out")]) == 2
    assert "was changed after it was written" in capsys.readouterr().err


def test_an_environment_is_said_as_everywhere_else(tmp_path):
    (dataset,) = datasets_of(Collect(out=tmp_path, env_id="tdm/WalkerTree-v0 dof=9 body=3"))
    assert dataset.env == EnvRef("tdm/WalkerTree-v0", {"dof": 9, "body": 3})
    assert (
        dataset.make_env().unwrapped.body.key
        == EnvRef.parse("tdm/WalkerTree-v0 dof=9 body=3").make().unwrapped.body.key
    )
    assert dataset.counts == {"random": 200, "planner": 200} and dataset.action_repeat == 4
