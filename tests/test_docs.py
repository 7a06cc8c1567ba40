"""The pages of docs/: their blocks run, print what they show, and name what there is."""

import json
import sys
from pathlib import Path
from statistics import mean

import gymnasium as gym
import markdown_pages as pages
import pytest

from tdm_agents.cli.main import COMMANDS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = {page.stem: page.read_text() for page in PAGES}

ON_THE_HUB = "hub"  # run against a hub by tests/tdm_agents/test_hub.py
BEGINNING = "After this page you can "

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder; what pages write and import there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    written = {
        name
        for name, module in sys.modules.items()
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path)
    }
    for spec in list(gym.registry.values()):
        made_by = spec.entry_point
        module = (
            made_by.partition(":")[0] if isinstance(made_by, str) else getattr(made_by, "__module__", None)
        )
        if module in written:
            del gym.registry[spec.id]
    for name in written:
        del sys.modules[name]


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != ON_THE_HUB], ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore::UserWarning:minari")  # that data sets should say more
def test_page_does_and_prints_what_it_shows(page, folder, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
    monkeypatch.setenv("COLUMNS", "1000")  # so that no line of output is broken
    pages.run_page(page)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=f"{name}: {' '.join(words)}")
        for name, text in TEXTS.items()
        for words in [*pages.commands(text, "tdm"), *pages.mentioned(text, "tdm")]
    ],
)
def test_tdm_command_parses(words):
    pages.assert_parses(words)


@each_page
def test_links_lead_somewhere(page):
    missing = [link for link in pages.linked_files(TEXTS[page.stem]) if not (DOCS / link).exists()]
    assert not missing


def test_the_index_names_every_page_once():
    linked = [
        link for link in pages.linked_files(TEXTS["README"]) if "/" not in link and link.endswith(".md")
    ]
    assert sorted(linked) == sorted(page.name for page in PAGES if page.stem != "README")


@each_page
def test_a_page_begins_with_what_one_can_do_after_it(page):
    title, first, *_ = TEXTS[page.stem].split("\n\n")
    assert title.startswith("# ") and first.startswith(BEGINNING) and first.endswith(".")
    if page.stem != "README":
        promise = " ".join(first.split()).removeprefix(BEGINNING).removesuffix(".")
        assert f"| [{page.name}]({page.name}) | {promise} |" in TEXTS["README"].splitlines()


def result(name):
    return json.loads((DOCS.parent / "benchmarks/results" / name).read_text())


def test_what_experts_of_the_control_suite_reach_is_what_was_measured():
    for measured in result("expert_suite.json")["results"]:
        seconds = mean(one["cpu_seconds_per_1000_steps"] for one in measured["episodes"])
        returns = f"{measured['mean_return']:.0f} | {mean(measured['random_returns']):.0f}"
        row = f"| {measured['expert']['name']} | {returns} | {seconds:.0f} |"
        assert row in TEXTS["walkers"].splitlines()


def test_what_experts_of_walkers_reach_is_what_was_measured():
    measured = result("expert_walkers.json")
    for ppo in measured["ppo"]:
        bodies = [b for b in measured["bodies"] if b["family"] == ppo["family"]]
        reward = [b["planner"]["mean_reward"] for b in bodies]
        seconds = [b["planner"]["cpu_seconds_per_1000_steps"] for b in bodies]
        row = (
            f"| {ppo['family']} | {mean(reward):.2f} ({min(reward):.2f} to {max(reward):.2f}) "
            f"| {mean(b['random'] for b in bodies):.2f} "
            f"| {mean(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f}) "
            f"| {ppo['mean_reward']:.2f}, {reward[0]:.2f} |"
        )
        assert row in TEXTS["walkers"].splitlines()


def test_every_command_has_an_example():
    shown = {words[1] for text in TEXTS.values() for words in pages.commands(text, "tdm")}
    assert shown == set(COMMANDS)


def test_the_glossary_is_in_the_order_of_the_alphabet():
    terms = [line.split("|")[1].strip() for line in TEXTS["glossary"].splitlines() if line.startswith("| ")]
    words = [term.strip("`").lower() for term in terms if term not in ("word", "---")]
    assert words == sorted(words)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\n", "a\n"),
        ("a ... d\n", "a b c d\n"),
        ("a\n...\nd\n", "a\nb\nc\nd\n"),
        ("...\n", ""),
        ("about ~1,000 of ~2.0\n", "about 1,049 of 1.92\n"),
    ],
)
def test_shown_output_is_what_was_printed(shown, printed):
    pages.assert_shown(shown, printed, "a page")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("a\n", "b\n"), ("a\n", "a\nb\n"), ("1.0\n", "1.01\n"), ("~1.0\n", "1.06\n"), ("a ... d\n", "a\nd\n")],
)
def test_shown_output_that_is_something_else_is_found(shown, printed):
    with pytest.raises(AssertionError, match="a page"):
        pages.assert_shown(shown, printed, "a page")
