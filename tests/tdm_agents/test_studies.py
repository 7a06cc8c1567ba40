"""Studies: what a product depends on, what is made again, what goes on, and what is refused."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_study
from rich.console import Console

from tdm_agents.cli.main import main
from tdm_agents.collection.pool import WorkerPool
from tdm_agents.collection.seeds import COLLECTION_FIRST, EVALUATION_LAST, TUNING_FIRST
from tdm_agents.collection.workers import one_thread
from tdm_agents.environments import EnvRef
from tdm_agents.errors import TDMError, UnknownNameError
from tdm_agents.storage import FolderInUseError, locked
from tdm_agents.studies.catalogue import STUDIES
from tdm_agents.studies.entry_text import named
from tdm_agents.studies.forecast import forecast
from tdm_agents.studies.rates import SHARES
from tdm_agents.studies.running import opened, run
from tdm_agents.studies.share_done import share_done
from tdm_agents.studies.stage_products import products_of
from tdm_agents.studies.stages import Collect, Evaluate, Figure, Plan, Protocol, Train
from tdm_agents.world_models.transformer.layout import StepLayout, context_steps
from tdm_envs.walkers.families import build_body
from tdm_envs.walkers.universe import split_of

HERE = Path(__file__).parents[1] / "support"


def do(out, adopted=None, **changes):
    return do_study(tiny_study.study(**changes), out, adopted)


def do_study(study, out, adopted=None, workers=1):
    return run(
        opened(study, "smoke", out),
        adopted=adopted or {},
        hands=WorkerPool(workers, one_thread),
        device="cpu",
        threads=1,
        side_by_side=workers > 1,
        console=Console(file=open(os.devnull, "w")),
    )


def keys(**changes):
    plan = tiny_study.plan(**changes)
    return {name: product.key for name, product in products_of(plan.stages, Path("out")).items()}


def report(folder):
    """A report without what tells when and where it was made."""
    value = json.loads((folder / "results.json").read_text())
    return {name: part for name, part in value.items() if name not in ("provenance", "origins", "costs")}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The finished tiny study."""
    out = tmp_path_factory.mktemp("studies")
    do(out)
    return out


CHANGES = {
    "collection": ({"seed": 5}, {"data", "more", "first", "second", "planned"}),
    "model": (
        {"recipe": replace(tiny_study.RECIPE, settings={"hidden": 9})},
        {"first", "second", "planned"},
    ),
    "training": (
        {"recipe": replace(tiny_study.RECIPE, training=replace(tiny_study.TRAINING, learning_rate=1e-4))},
        {"first", "second", "planned"},
    ),
    "planner": ({"planner": tiny_study.PLANNER + " discount=0.9"}, {"simulator", "planned"}),
    "protocol": (
        {"protocol": replace(tiny_study.PROTOCOL, first_seed=7)},
        {"random", "simulator", "planned"},
    ),
    "observers of training": (
        {"recipe": replace(tiny_study.RECIPE, training=replace(tiny_study.TRAINING, evaluate_every=5))},
        set(),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_setting_changes_what_depends_on_it_and_nothing_else(what):
    changes, expected = CHANGES[what]
    before, after = keys(), keys(**changes)
    assert {name for name in before if before[name] != after[name]} == expected


def test_a_name_is_no_part_of_what_a_product_is():
    plan = tiny_study.plan()
    renamed = replace(plan.stages[0], name="other")
    (product,) = products_of([renamed], Path("out")).values()
    assert product.key == keys()["data"]


def test_a_finished_study_has_its_report_and_is_not_made_again(done, capsys):
    folder = done / "tiny-smoke"
    assert {path.name for path in folder.iterdir()} == {"results.json", "results.md", "figure.png"}
    made = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()}
    assert opened(tiny_study.study(), "smoke", done).finished
    do(done)  # even if it is asked to
    again = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()}
    assert {path for path in made if made[path] != again[path]} <= {*folder.iterdir(), done / ".lock"}


def test_a_report_has_returns_scales_and_gaps(done):
    rows = {row["label"]: row for row in report(done / "tiny-smoke")["contestants"]}
    assert set(rows) == {"random", "true dynamics", "MLP"}
    (task,) = rows["MLP"]["tasks"]
    assert len(rows["MLP"]["tasks"][task]["returns"]) == tiny_study.PROTOCOL.episodes
    assert rows["random"]["normalised"] is None and rows["true dynamics"]["gap"] is None
    best, zero = (rows[label]["tasks"][task]["returns"] for label in ("true dynamics", "random"))
    if sum(best) > sum(zero):  # the scale exists
        assert rows["MLP"]["normalised"]["low"] <= rows["MLP"]["normalised"]["high"]
        assert rows["MLP"]["gap"] is not None


def test_only_what_depends_on_a_change_is_made_again(done):
    folder = do(done, planner=tiny_study.PLANNER + " discount=0.9")
    before = {
        name: product.folder for name, product in opened(tiny_study.study(), "smoke", done).products.items()
    }
    assert all(path.exists() for path in before.values())  # what was made stays
    made = set(report(folder)["products"].values())
    assert made & {path.name for path in before.values()} == {
        before[name].name for name in ("data", "more", "first", "second", "random")
    }
    do(done)  # the report of the study as it was, of products that are all there


@pytest.mark.timeout(600)
def test_a_study_that_is_killed_time_and_again_has_the_same_report(done, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import tiny_study, pathlib\n"
    code += "from rich.console import Console\nfrom tdm_agents.studies.running import opened, run\n"
    code += "from tdm_agents.collection.pool import WorkerPool\n"
    code += "if __name__ == '__main__':\n"
    code += "    one = opened(tiny_study.study(), 'smoke', pathlib.Path(sys.argv[1]))\n"
    code += "    run(one, adopted={}, hands=WorkerPool(1), device='cpu', threads=1, console=Console())\n"
    script = tmp_path / "again.py"
    script.write_text(code)
    out = tmp_path / "out"

    def begin():
        return subprocess.Popen([sys.executable, str(script), str(out)], stdout=subprocess.DEVNULL)

    # killed once some of each kind of product is there, in the middle of the next
    for marks in (
        "products/data-*/files/data",
        "products/model-*/files/checkpoint.json",
        "products/returns-*",
    ):
        process = begin()
        while not list(out.glob(marks)) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert begin().wait() == 0
    do(done)
    assert report(out / "tiny-smoke") == report(done / "tiny-smoke")


def independent(**training):
    """A study with three trainings that do not need each other (two are the same), and one that needs one."""
    data, more, first, _, random, simulator, planned = tiny_study.plan().stages
    recipe = replace(first.recipe, training=replace(first.recipe.training, **training))
    trainings = [
        Train(name=name, data=(of.name,), recipe=recipe)
        for name, of in {"second": data, "third": more, "fourth": data}.items()
    ]
    trainings.append(Train(name="fifth", data=(more.name,), recipe=recipe, init_from="third"))
    stages = (data, more, *trainings, random, simulator, planned)
    return tiny_study.Study(
        name="apart", paper="", question="", plan=lambda _size: Plan(stages=stages, figure=Figure(title=""))
    )


def test_trainings_side_by_side_have_the_same_report(tmp_path):
    alone = do_study(independent(), tmp_path / "alone")
    assert report(do_study(independent(), tmp_path / "beside", workers=2)) == report(alone)
    third = opened(independent(), "smoke", tmp_path / "beside").products["third"]
    assert "parameters" in (third.folder / "log.txt").read_text()
    assert not (
        opened(independent(), "smoke", tmp_path / "alone").products["third"].folder / "log.txt"
    ).exists()


def test_trainings_side_by_side_keep_what_they_learned_when_they_are_stopped(tmp_path):
    code = "import sys, test_studies as t\n"
    code += "if __name__ == '__main__':\n"
    code += "    study = t.independent(steps=100_000, checkpoint_every=100_000)\n"
    code += "    t.do_study(study, t.Path(sys.argv[1]), workers=2)\n"
    (tmp_path / "go.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(Path(__file__).parent), *sys.path])}
    running = subprocess.Popen([sys.executable, str(tmp_path / "go.py"), str(tmp_path / "out")], env=env,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    study = independent(steps=100_000, checkpoint_every=100_000)
    products = opened(study, "smoke", tmp_path / "out").products
    logs = [products[name].folder / "log.txt" for name in ("second", "third")]
    wait_until(lambda: all(log.exists() and "step" in log.read_text() for log in logs))
    running.send_signal(signal.SIGINT)
    assert running.wait(60) != 0
    assert all(0.0 < share_done(products[name]) < 1.0 for name in ("second", "third"))


def wait_until(true, seconds=120.0):
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last
        time.sleep(0.1)


def test_two_processes_in_one_folder_are_refused(tmp_path):
    with locked(tmp_path), pytest.raises(FolderInUseError, match="another process writes to"):
        do(tmp_path)


def test_what_was_made_elsewhere_is_adopted(done, tmp_path):
    products = opened(tiny_study.study(), "smoke", done).products
    adopted = {name: products[name].files for name in ("data", "more", "first", "second")}
    folder = do(tmp_path, adopted)
    assert report(folder) == report(done / "tiny-smoke")
    again = opened(tiny_study.study(), "smoke", tmp_path).products
    assert again["first"].files.resolve() == adopted["first"].resolve()


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("data", "more", "was collected with seed 1, now 0 is asked for"),
        ("first", "second", "holds another run"),
        ("data", "first", "holds .* and no collection"),
        ("first", "data", "holds .* and no run of tdm train"),
    ],
)
def test_what_has_other_settings_is_not_adopted(done, tmp_path, name, other, message):
    products = opened(tiny_study.study(), "smoke", done).products
    needed = {"data": products["data"].files} if name == "first" else {}
    with pytest.raises(TDMError, match=message):
        do(tmp_path, {**needed, name: products[other].files})
    here = opened(tiny_study.study(), "smoke", tmp_path).products[name]
    assert not here.done and not here.files.is_symlink()  # so that another may be adopted, or it is made


def test_names_of_products_to_adopt_are_checked(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'data'"):
        do(tmp_path / "a", {"date": tmp_path})
    with pytest.raises(TDMError, match="random is an evaluation"):
        do(tmp_path / "b", {"random": tmp_path})
    with pytest.raises(TDMError, match="is not a folder"):
        do(tmp_path / "c", {"data": tmp_path / "nowhere"})


def test_after_a_refusal_nothing_is_adopted_that_was_not_checked(done, tmp_path):
    products = opened(tiny_study.study(), "smoke", done).products
    wrong = {"data": products["more"].files, "more": products["data"].files}
    with pytest.raises(TDMError, match="was collected with seed 1, now 0"):
        do(tmp_path, wrong)
    here = opened(tiny_study.study(), "smoke", tmp_path).products
    assert not any(here[name].files.is_symlink() for name in wrong)
    assert report(do(tmp_path)) == report(done / "tiny-smoke")  # without what was refused


def test_a_refused_adoption_does_not_leave_another_one_unchecked(done, tmp_path):
    do(tmp_path)
    products = opened(tiny_study.study(), "smoke", tmp_path).products
    shutil.rmtree(products["data"].folder)
    there = opened(tiny_study.study(), "smoke", done).products
    wrong = {"data": there["more"].files, "more": there["more"].files}
    with pytest.raises(TDMError, match="more has files already"):
        do(tmp_path, wrong)
    assert not products["data"].files.is_symlink() and products["more"].done
    assert report(do(tmp_path)) == report(done / "tiny-smoke")


def test_a_refused_adoption_leaves_those_of_earlier_runs(done, tmp_path):
    there = opened(tiny_study.study(), "smoke", done).products
    products = opened(tiny_study.study(), "smoke", tmp_path).products
    assert products["data"].adopt(there["data"].files) and not products["data"].adopt(there["data"].files)
    with pytest.raises(TDMError, match="data has files already"):
        do(tmp_path, {"data": there["more"].files})
    assert products["data"].files.resolve() == there["data"].files.resolve()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(TDMError, match=r"holds 'thesis\.tex' and no study"):
        do(tmp_path)


@pytest.mark.parametrize("first", [TUNING_FIRST, COLLECTION_FIRST, EVALUATION_LAST, -1])
def test_evaluation_seeds_are_apart_from_all_others(first):
    with pytest.raises(TDMError, match="apart from those of collections and of tuning"):
        Protocol(episodes=2, first_seed=first)


def test_stages_that_do_not_fit_together_are_refused():
    data, _, first, *_ = tiny_study.plan().stages
    figure = tiny_study.plan().figure
    with pytest.raises(TDMError, match="first needs 'data', which no stage before it makes"):
        Plan(stages=(first, data), figure=figure)
    with pytest.raises(TDMError, match="two stages are called 'data'"):
        Plan(stages=(data, data), figure=figure)
    random, simulator, _ = tiny_study.plan().stages[4:]
    for other in (
        replace(random, reference="simulator", protocol=Protocol(episodes=1)),
        replace(random, reference="simulator", envs=(EnvRef("Pendulum-v1"),)),
        replace(random, reference="simulated"),
    ):
        with pytest.raises(TDMError, match="in the same environments and by the same protocol"):
            Plan(stages=(simulator, other), figure=figure)


@pytest.mark.parametrize("name", ["zero-shot", "zero-shot-families"])
def test_bodies_that_are_played_are_not_trained_on(name):
    stages = {stage.name: stage for stage in STUDIES[name].plan("small").stages}
    seen = {dataset.env for dataset in stages["walkers"].datasets}
    played = stages["planned"].envs
    assert len(seen) >= 150 and len(played) >= 10 and seen.isdisjoint(played)
    for env in (*seen, *played):
        family = env.id.removeprefix("tdm/Walker").removesuffix("-v0").lower()
        body = build_body(family, env.kwargs["dof"], env.kwargs["body"])
        assert split_of(body) == ("train" if env in seen else "test")


def test_the_nearest_name_is_told(capsys):
    with pytest.raises(UnknownNameError, match="did you mean 'zero-shot'"):
        named("study", "zeroshot", STUDIES)
    assert main(["study", "zeroshot", "--size", "smoke"]) == 2
    assert "did you mean 'zero-shot'? there are" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["smoke", "small", "paper"])
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_fits_together_at_every_size(name, size, tmp_path):
    one = opened(STUDIES[name], size, tmp_path / "out")
    assert {Collect, Train, Evaluate} <= {type(product.stage) for product in one.products.values()}
    roles = {stage.role for stage in one.plan.stages if isinstance(stage, Evaluate)}
    assert {"random", "simulator"} < roles
    trained = {stage.recipe.model for stage in one.plan.stages if isinstance(stage, Train)}
    assert trained <= SHARES.keys()  # or a dry run has no forecast
    assert not (tmp_path / "out").exists()  # nothing is written


def test_a_dry_run_makes_nothing_and_names_what_is_missing(done, capsys, monkeypatch):
    monkeypatch.setitem(STUDIES, "tiny", tiny_study.study(seed=9))
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    assert main(["study", "tiny", "--size", "smoke", "--out", str(done), "--dry-run"]) == 0
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*")} == before
    told = capsys.readouterr().out
    assert "5 of 7 products are missing, about" in told  # all but random actions and the true dynamics
    assert "train mlp, 40 updates" in told


def test_more_workers_than_processors_are_expected_to_take_as_long(tmp_path, monkeypatch):
    one = opened(tiny_study.study(), "smoke", tmp_path)
    monkeypatch.setattr("tdm_agents.studies.forecast.os.cpu_count", lambda: 2)
    monkeypatch.setattr("tdm_agents.studies.forecast.operations_per_second", lambda _: 1e9)
    monkeypatch.setattr("tdm_agents.studies.forecast._seconds_per_step", lambda *_: 1.0)
    seconds = {
        workers: [each.seconds for each in forecast(one, device="cpu", workers=workers, threads=1)]
        for workers in (1, 2, 50)
    }
    assert seconds[50] == seconds[2] == [each / 2 for each in seconds[1]]


def test_ctrl_c_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tdm_agents.studies.running.make", interrupted)
    monkeypatch.setitem(STUDIES, "tiny", tiny_study.study())
    with pytest.raises(SystemExit) as end:
        main(["study", "tiny", "--size", "smoke", "--out", str(tmp_path)])
    assert end.value.code == 130
    assert "Stopped. 0 of 7 products are complete" in capsys.readouterr().out


def test_a_finished_study_says_so(done, capsys, monkeypatch):
    monkeypatch.setitem(STUDIES, "tiny", tiny_study.study())
    do(done)
    assert main(["study", "tiny", "--size", "smoke", "--out", str(done)]) == 0
    assert "is complete already; nothing to do" in capsys.readouterr().out


def test_what_is_complete_is_reported_before_the_rest_is_made(done, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(STUDIES, "tiny", tiny_study.study())
    words = ["study", "tiny", "--size", "smoke", "--out", str(tmp_path / "out"), "--so-far"]
    assert main(words) == 2
    assert "nobody has played yet" in capsys.readouterr().err
    shutil.copytree(done / "products", tmp_path / "out/products")
    products = opened(tiny_study.study(), "smoke", tmp_path / "out").products
    (products["planned"].folder / "product.json").unlink()
    assert main(words) == 0
    rows = report(tmp_path / "out/tiny-smoke")["contestants"]
    assert [row["label"] for row in rows] == ["random", "true dynamics"]
    assert report(tmp_path / "out/tiny-smoke")["missing"] == ["planned"]
    said = (tmp_path / "out/tiny-smoke/results.md").read_text()
    assert "1 evaluations are still to be played: planned." in said
    assert not opened(tiny_study.study(), "smoke", tmp_path / "out").finished
    do(tmp_path / "out")
    assert report(tmp_path / "out/tiny-smoke") == report(done / "tiny-smoke")


def test_who_has_played_before_the_reference_is_reported_without_a_scale(done, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(STUDIES, "tiny", tiny_study.study())
    shutil.copytree(done / "products", tmp_path / "products")
    (opened(tiny_study.study(), "smoke", tmp_path).products["simulator"].folder / "product.json").unlink()
    assert main(["study", "tiny", "--size", "smoke", "--out", str(tmp_path), "--so-far"]) == 0
    found = report(tmp_path / "tiny-smoke")
    assert [row["label"] for row in found["contestants"]] == ["random", "MLP"]
    assert found["missing"] == ["simulator"]
    assert found["contestants"][1]["normalised"] is None


def test_threads_are_no_sign_of_another_machine(done):
    for product in opened(tiny_study.study(), "smoke", done).products.values():
        (origin,) = product.makers()
        assert "threads" not in origin["machine"] and origin["machine"]


def test_all_versions_that_worked_on_a_product_are_told(tmp_path):
    do(tmp_path)
    products = opened(tiny_study.study(), "smoke", tmp_path).products
    for name in ("first", "planned"):  # as if this version went on where another one had begun
        (products[name].folder / "product.json").unlink()
    parts = sorted((products["planned"].files / "parts").glob("*.json"))
    for path in (products["first"].folder / "makers.json", parts[0]):
        value = json.loads(path.read_text())
        made = value["provenance"] if "provenance" in value else value["makers"][0]
        made["git_commit"] = "older"
        path.write_text(json.dumps(value))
    do(tmp_path)
    commits = {name: [one["git_commit"] for one in products[name].makers()] for name in products}
    assert len(parts) == 2
    assert {name for name, told in commits.items() if "older" in told} == {"first", "planned"}
    assert len(commits["first"]) == len(commits["planned"]) == 2
    told = json.loads((tmp_path / "tiny-smoke/results.json").read_text())["origins"]
    assert [set(one["products"]) for one in told if one["by"]["git_commit"] == "older"] == [
        {"first", "planned"}
    ]


@pytest.mark.parametrize("size", ["smoke", "small", "paper"])
def test_contexts_of_ablations_are_as_long_as_they_say(size):
    stages = {stage.name: stage for stage in STUDIES["ablations"].plan(size).stages}
    for task, (n, m) in {"cartpole-swingup": (5, 1), "walker-stand": (24, 6)}.items():
        of_task = {name: stage for name, stage in stages.items() if name.startswith(f"{task}-context-")}
        assert len(of_task) >= 2
        for name, stage in of_task.items():
            layout = StepLayout(n, m, n)
            assert context_steps(stage.recipe.settings["context"], layout) == int(name.split("-")[-1])


def test_studies_are_listed(capsys):
    assert main(["study", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(STUDIES)
    assert main(["study"]) == 2
    assert "no study is named; expected one of zero-shot" in capsys.readouterr().err


IN_EVERY_RUN = ("zero-shot",)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in IN_EVERY_RUN else pytest.mark.slow) for name in STUDIES]
)
def test_a_study_runs_from_beginning_to_end(name, tmp_path, capsys):
    if name == "offline":
        pytest.importorskip("gymnasium_robotics", reason='pip install "tdm-agents[mazes]"')
    assert main(["study", name, "--size", "smoke", "--out", str(tmp_path)]) == 0
    folder = tmp_path / f"{name}-smoke"
    assert f"figure: {folder / 'figure.png'}" in capsys.readouterr().out
    plan = STUDIES[name].plan("smoke")
    rows = report(folder)["contestants"]
    assert {row["label"] for row in rows} == {s.label for s in plan.stages if isinstance(s, Evaluate)}
    assert all(len(task["returns"]) for row in rows for task in row["tasks"].values())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_study_killed_at_ten_random_moments_has_the_same_report(tmp_path):
    def begin(out):
        words = ["study", "zero-shot", "--size", "smoke", "--out", str(out)]
        command = [sys.executable, "-m", "tdm_agents.cli.main", *words]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    began = time.monotonic()
    assert begin(tmp_path / "whole").wait() == 0
    whole = time.monotonic() - began
    moments, kills = random.Random(0), 0
    while kills < 10:
        process = begin(tmp_path / "killed")
        try:
            process.wait(timeout=moments.uniform(0.1, 0.5) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait() == 0:  # done before ten: what is left is killed while the report is made again
            (tmp_path / "killed/zero-shot-smoke/results.json").unlink(missing_ok=True)
    assert begin(tmp_path / "killed").wait() == 0
    assert report(tmp_path / "killed/zero-shot-smoke") == report(tmp_path / "whole/zero-shot-smoke")


def test_what_is_begun_is_told_with_its_share(done, tmp_path):
    products = opened(tiny_study.study(), "smoke", done).products
    assert {share_done(product) for product in products.values()} == {1.0}
    fresh = opened(tiny_study.study(), "smoke", tmp_path).products
    assert {share_done(product) for product in fresh.values()} == {0.0}
    for name, product in fresh.items():  # all there, but not marked as complete
        shutil.copytree(products[name].files, product.files)
        assert not product.done and share_done(product) == 1.0
    first = next((fresh["planned"].files / "parts").glob("*.json"))
    first.unlink()
    assert share_done(fresh["planned"]) == 0.5


def test_the_report_says_which_versions_made_what(done, tmp_path):
    shutil.copytree(done, tmp_path / "out")
    product = opened(tiny_study.study(), "smoke", tmp_path / "out").products["first"]
    path = product.folder / "product.json"
    value = json.loads(path.read_text())
    value["origin"] = value.pop("makers")[0]  # as an older version of this package wrote it
    value["origin"]["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(value))
    (tmp_path / "out/tiny-smoke/results.json").unlink()
    folder = do(tmp_path / "out")
    found = json.loads((folder / "results.json").read_text())["origins"]
    assert [one["products"] for one in found] == [
        ["data", "more", "second", "random", "simulator", "planned"],
        ["first"],
    ]
    assert "Not everything was made by one version" in (folder / "results.md").read_text()
