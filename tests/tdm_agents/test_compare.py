"""tdm compare: the same seeds for everybody, kept as they finish, reported with intervals and costs."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import pytest

import tdm_agents
from tdm_agents import evaluate
from tdm_agents.actors.entries import Entry, parse_entry
from tdm_agents.cli.main import main
from tdm_agents.comparison import played_batches
from tdm_agents.comparison.comparison_plot import plot_comparison
from tdm_agents.comparison.comparison_report import comparison_report, sections
from tdm_agents.comparison.matches import Rules, kept_episodes, match_of, matches_of, play
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.statistics import interval, iqm
from tdm_agents.storage import CheckpointError

PENDULUM = "Pendulum-v1"
SIMULATED = "InvertedPendulum-v5"
PLANNED = Entry(
    "simulator",
    "",
    {"planner": "cem", "horizon": 3, "num_samples": 6, "num_elites": 2, "iterations": 1},
    "plans",
)
RANDOM = Entry("random", label="random")
COST = "milliseconds_per_decision"
RULES = Rules(seeds=(3, 4, 5), batch=2, max_steps=6)


def tdm(*words):
    return main([str(word) for word in words])


def scores_of(entries, envs, rules, folder):
    return [play(match, rules, folder).scores for match in matches_of(entries, envs, rules)]


def test_everybody_plays_the_same_seeds_as_evaluate_does(tmp_path):
    matches = matches_of([PLANNED, RANDOM], [EnvRef(SIMULATED)], RULES)
    for match in matches:
        found = play(match, RULES, tmp_path)
        assert [e.seed for e in found.episodes] == [3, 4, 5] and found.env_id == SIMULATED
        expected = evaluate(match.entered.contestant, SIMULATED, RULES.seeds, batch=2, max_steps=6)
        assert found.scores == expected.scores
        assert found.plan_calls == expected.plan_calls


def test_what_is_kept_is_not_played_again_and_gives_the_same_numbers(tmp_path, monkeypatch):
    whole = scores_of([PLANNED, RANDOM], [EnvRef(SIMULATED)], RULES, tmp_path / "whole")

    def interrupt(tick):
        raise KeyboardInterrupt

    first, second = matches_of([PLANNED, RANDOM], [EnvRef(SIMULATED)], RULES)
    folder = tmp_path / "stopped"
    play(first, RULES, folder)
    (newest,) = sorted((folder / "parts").iterdir(), key=lambda p: p.stat().st_mtime)[-1:]
    newest.unlink()  # as if interrupted within the second batch
    with pytest.raises(KeyboardInterrupt):
        play(first, RULES, folder, on_step=interrupt)
    assert (kept_episodes(first, RULES, folder), kept_episodes(second, RULES, folder)) == (2, 0)
    assert [play(m, RULES, folder).scores for m in (first, second)] == whole

    def never(*arguments, **settings):
        raise AssertionError("played again")

    monkeypatch.setattr("tdm_agents.comparison.matches.evaluate", never)
    assert scores_of([PLANNED, RANDOM], [EnvRef(SIMULATED)], RULES, folder) == whole
    # one label or entry less is no reason to play either
    assert scores_of([Entry("random", label="Nobody")], [EnvRef(SIMULATED)], RULES, folder) == whole[1:]


@pytest.mark.parametrize(
    "changed",
    [
        {"seeds": (4, 5, 6)},
        {"seed": 1},
        {"batch": 3},
        {"max_steps": 5},
        {"threads": 2},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_other_rules_never_mix(changed, tmp_path):
    env = EnvRef(PENDULUM)
    (before,) = matches_of([RANDOM], [env], RULES)
    play(before, RULES, tmp_path)
    rules = Rules(**{k: getattr(RULES, k) for k in RULES.__slots__} | changed)
    (after,) = matches_of([RANDOM], [env], rules)
    assert kept_episodes(after, rules, tmp_path) == 0
    assert kept_episodes(before, RULES, tmp_path) == 3


def test_other_settings_environments_and_weights_never_mix(tmp_path):
    import stable_baselines3 as sb3

    path = tmp_path / "a.zip"
    found = []
    for seed in (0, 1):
        sb3.PPO("MlpPolicy", gym.make(PENDULUM), policy_kwargs={"net_arch": [8]}, seed=seed).save(path)
        envs = [EnvRef(PENDULUM), EnvRef(PENDULUM, {"g": 2.0})]
        entries = [Entry("policy", str(path), {"action_repeat": k}, f"every {k}") for k in (1, 2)]
        matches = matches_of(entries, envs, RULES)
        assert [kept_episodes(m, RULES, tmp_path) for m in matches] == [0] * 4
        found += [play(m, RULES, tmp_path).scores for m in matches]
        assert matches[0].settings["sha256"] == {"a.zip": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert len({tuple(scores) for scores in found}) == 8


def test_an_altered_part_is_named(tmp_path):
    (match,) = matches_of([RANDOM], [EnvRef(PENDULUM)], RULES)
    play(match, RULES, tmp_path)
    path = next((tmp_path / "parts").iterdir())
    part = json.loads(path.read_text())
    part["what"]["seed"] = 77
    path.write_text(json.dumps(part))
    with pytest.raises(CheckpointError, match="it was altered; remove it"):
        play(match, RULES, tmp_path)


def test_who_does_not_fit_is_found_before_anybody_plays(tmp_path):
    with pytest.raises(ValueError, match=r"entry 'plans' cannot play CartPole-v1: .*MuJoCo"):
        matches_of([RANDOM, PLANNED], [EnvRef("CartPole-v1")], RULES)
    with pytest.raises(ValueError, match="'random' is given twice"):
        matches_of([RANDOM, RANDOM], [EnvRef(PENDULUM)], RULES)
    with pytest.raises(ValueError, match="'Pendulum-v1' is given twice"):
        matches_of([RANDOM], [EnvRef(PENDULUM)] * 2, RULES)


def test_the_report_pools_environments_in_strata(tmp_path):
    envs = [EnvRef(PENDULUM), EnvRef(PENDULUM, {"g": 2.0})]
    played = [(m, play(m, RULES, tmp_path)) for m in matches_of([RANDOM], envs, RULES)]
    report = json.loads(json.dumps(comparison_report(played, RULES), allow_nan=False))
    assert report["env_ids"] == [PENDULUM, "Pendulum-v1 g=2.0"] and report["seeds"] == [3, 4, 5]
    (contestant,) = report["contestants"]
    expected = interval([e.scores for _, e in played], iqm)
    summary = contestant["summary"]
    assert (summary["iqm"], summary["iqm_low"]) == (expected.value, expected.low)
    assert summary["episodes"] == 6
    for own, (_, evaluation) in zip(contestant["environments"], played, strict=True):
        assert [e["return"] for e in own["episodes"]] == evaluation.scores
        assert own["summary"]["iqm"] == interval(evaluation.scores).value
    assert list(sections(report)) == ["all 2 environments", *report["env_ids"]]
    assert report["provenance"]["versions"]["torch"] is not None


def test_the_plot_shows_every_contestant(tmp_path):
    low, high = {"iqm_low": 1.0, "iqm_high": 3.0}, {"iqm_low": 700.0, "iqm_high": 900.0}
    common = {"level": 0.95, "mean": 2.0}
    reports = [
        {"contestant": "slow and good" * 9, "summary": common | high | {"iqm": 800.0, COST: 400.0}},
        {"contestant": "fast", "summary": common | low | {"iqm": 2.0, COST: 0.01}},
    ]
    plot_comparison(tmp_path / "new" / "plot.png", {"here": reports})
    picture = imageio.imread(tmp_path / "new" / "plot.png")[..., :3].reshape(-1, 3)
    for colour in ((0xE4, 0x57, 0x2E), (0x3A, 0x3F, 0x47)):
        assert (np.abs(picture.astype(int) - colour).max(axis=1) < 8).sum() > 100
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_comparison(tmp_path / "none.png", {})


def test_compare_on_the_command_line(tmp_path, capsys):
    words = (
        "compare",
        "--env-id",
        SIMULATED,
        "--episodes",
        "3",
        "--max-steps",
        "4",
        "--out",
        tmp_path / "out",
    )
    entry = "simulator planner=cem horizon=2 num_samples=8 num_elites=4 iterations=1 label='the truth'"
    assert tdm(*words, "--entry", entry, "--entry", "random") == 0, capsys.readouterr().err
    said = capsys.readouterr()
    report = json.loads((tmp_path / "out" / "comparison.json").read_text())
    planned, random = report["contestants"]
    assert [planned["contestant"], random["contestant"]] == ["the truth", "random"]
    settings = planned["environments"][0]["settings"]
    assert settings["planner_settings"]["num_samples"] == 8 and settings["replan_every"] == 1
    assert planned["summary"]["transitions_per_decision"] == 16
    assert random["summary"]["transitions_per_decision"] == 0
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "| the truth | 3 |" in page and f"## {SIMULATED}" in page
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    assert f"{planned['summary']['iqm']:.1f}" in said.out and "the truth" in said.err
    # again, with one entry more: only that one plays
    assert tdm(*words, "--entry", entry, "--entry", "random", "--entry", "random label=other") == 0
    said = capsys.readouterr()
    assert "(3 episodes are kept)" in said.err
    again = json.loads((tmp_path / "out" / "comparison.json").read_text())["contestants"]
    assert [c["summary"] for c in again[:2]] == [planned["summary"], random["summary"]]
    assert "former report" not in said.err
    # with fewer episodes the report is of those; what was played stays
    kept = sorted((tmp_path / "out" / "parts").iterdir())
    assert tdm(*words, "--episodes", "2", "--entry", "random") == 0
    assert "the former report in" in (said := capsys.readouterr()).err
    assert "of 3 episodes, is replaced by one of 2; the episodes themselves stay kept" in said.err
    assert set(kept) <= set((tmp_path / "out" / "parts").iterdir())


def without_times(path):
    """What a report says of who played, but for how long it took."""

    def plain(value):
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if "milliseconds" not in k and k != "provenance"}
        return [plain(one) for one in value] if isinstance(value, list) else value

    return plain(json.loads(path.read_text()))


def test_several_workers_play_what_one_process_plays(tmp_path, capsys):
    rules = ("--env-id", SIMULATED, "--episodes", "3", "--max-steps", "4", "--batch", "2")
    planned = "simulator planner=cem horizon=2 num_samples=8 num_elites=4 iterations=1"
    both = ("compare", *rules, "--entry", planned, "--entry", "random")
    assert tdm(*both, "--out", tmp_path / "one") == 0
    assert tdm(*both, "--out", tmp_path / "two", "--workers", "2") == 0, capsys.readouterr().err
    reports = [without_times(tmp_path / name / "comparison.json") for name in ("one", "two")]
    assert reports[0] == reports[1]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "one" / "parts").iterdir()}
    assert tdm(*both, "--out", tmp_path / "one", "--workers", "2") == 0
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "one" / "parts").iterdir()}
    settings = (
        "--planner-settings",
        "horizon",
        "2",
        "num-samples",
        "8",
        "num-elites",
        "4",
        "iterations",
        "1",
    )
    alone = ("evaluate", *rules, "--simulator", "--planner", "cem", *settings)
    for workers in ("1", "2"):
        assert tdm(*alone, "--out", tmp_path / f"{workers}.json", "--workers", workers) == 0
    assert without_times(tmp_path / "1.json") == without_times(tmp_path / "2.json")


def test_a_worker_with_other_files_or_versions_refuses(tmp_path):
    (match,) = matches_of([RANDOM], [EnvRef(PENDULUM)], RULES)
    batch = played_batches.all_batches(match, RULES)[1]
    assert played_batches.play(batch).evaluation.scores == play(match, RULES, tmp_path).scores[2:]
    other = replace(batch, what={**batch.what, "versions": {**batch.what["versions"], "numpy": "0.9"}})
    with pytest.raises(ValueError, match=r"versions.numpy is .*, and '0.9' was asked for; install the same"):
        played_batches.play(other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nobody plays: pass --entry"),
        (("--entry", "random"), "no environment: pass --env-id"),
        (("--entry", "random", "--env-id", "nonsense-v0"), "nonsense"),
        (("--entry", "cartpole-swingupp"), "did you mean 'cartpole-swingup'"),
        (("--entry", "cartpole-swingup num_sample=3"), "has no setting 'num_sample'"),
        (("--entry", "nothing.zip", "--env-id", PENDULUM), "no file nothing.zip"),
        (("--entry", "random", "--env-id", PENDULUM, "--batch", "0"), "--batch is 0; expected at least 1"),
        (("--entry", "random", "--env-id", PENDULUM, "--address", "here:1"), "--address is of a cluster"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(words, message, tmp_path, capsys):
    assert tdm("compare", *words, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "out").exists()


SLOW = """
import sys, time
import gymnasium as gym
from tdm_agents.cli.main import main

class Slow(gym.Wrapper):
    def step(self, action):
        time.sleep(0.02)
        return self.env.step(action)

gym.register("Slow-v0", lambda: Slow(gym.make("Pendulum-v1")), max_episode_steps=10)
sys.exit(main(["compare", "--entry", "random", "--env-id", "Slow-v0", "--episodes", "16", "--batch", "2",
               "--out", sys.argv[1]]))
"""


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", SLOW, str(out)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
    )
    until = time.monotonic() + 60
    while not list((out / "parts").glob("*.json")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    parts = sorted((out / "parts").iterdir())
    assert f"Stopped. {2 * len(parts)} of 16 episodes are kept in {out}" in said
    assert "the same command goes on from there" in said
    assert 0 < len(parts) < 8
    for part in parts:  # nothing half-written, and nothing else
        assert part.suffix == ".json" and len(json.loads(part.read_text())["played"]["episodes"]) == 2
    assert sorted(p.name for p in out.iterdir()) == [".lock", "parts", "tdm-compare.yaml"]
    for left in (out / ".comparison.md.7.partial", out / "parts" / f".{parts[0].name}.7.partial"):
        left.touch()  # by one that was killed
    before = {part: part.stat().st_mtime_ns for part in parts}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"({2 * len(parts)} episodes are kept)" in done.stderr
    assert before == {part: part.stat().st_mtime_ns for part in parts}
    assert len(list((out / "parts").iterdir())) == 8
    assert not list(out.rglob("*.partial"))
    (contestant,) = json.loads((out / "comparison.json").read_text())["contestants"]
    assert contestant["summary"]["episodes"] == 16


def test_looking_for_thousands_of_kept_batches_takes_no_time(tmp_path):
    """The versions of all packages were read for each, for minutes, in which Ctrl-C seemed lost."""
    rules = Rules(seeds=range(4000), batch=1, max_steps=6)
    (match,) = matches_of([RANDOM], [EnvRef(PENDULUM)], rules)
    began = time.process_time()
    assert kept_episodes(match, rules, tmp_path) == 0
    assert time.process_time() - began < 10


def test_whose_files_have_the_same_names_are_told_apart(tmp_path):
    shipped = Path(tdm_agents.__file__).parent / "checkpoints"
    for name in ("cartpole-swingup", "cartpole-swingup-value"):
        shutil.copytree(shipped / name, tmp_path / name)
    line = f"{tmp_path}/cartpole-swingup planner=mppi horizon=2 value={tmp_path}/cartpole-swingup-value"
    env = EnvRef("dm_control/cartpole-swingup-v0")

    def hashed():
        return match_of(parse_entry(line), env, RULES).settings["sha256"]

    before = hashed()
    assert sorted(before) == ["model.json", "model.json 2", "weights.safetensors", "weights.safetensors 2"]
    path = tmp_path / "cartpole-swingup/model.json"
    path.write_text(path.read_text() + "\n")
    assert {name for name, sha256 in hashed().items() if sha256 != before[name]} == {"model.json"}
