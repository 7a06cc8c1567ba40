"""The site is built without a warning, asks nobody else for anything, and has every page and public name."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tdm_agents

pytest.importorskip("mkdocs")
griffe = pytest.importorskip("griffe")

ROOT = Path(__file__).parents[2]
WEBSITE = ROOT / "website"


def module(name):
    spec = importlib.util.spec_from_file_location(f"website_{name}", WEBSITE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


hooks, extensions = module("hooks"), module("extensions")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=WEBSITE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.html")} | {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("search_index.json")
    }


class Asked(HTMLParser):
    """What a browser loads for a page, without links to other pages."""

    def __init__(self, text):
        super().__init__()
        self.urls, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        if tag != "a":
            self.urls += [found[name] for name in ("src", "href", "data") if found.get(name)]


def test_every_page_of_the_docs_is_there_and_in_the_order_of_the_index(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"}
    assert pages | {"index", "project", "benchmarks", "changelog", "contributing"} <= {
        name.removesuffix(".html") for name in site
    }
    listed = re.findall(r"\| \[(\w+)\.md\]", (ROOT / "docs" / "README.md").read_text())
    shown = re.findall(r'href="(\w+)\.html" class="md-nav__link"', site["index.html"])
    assert [name for name in shown if name in listed] == listed


def test_nothing_is_asked_of_another_host(site):
    pages = {name: Asked(text) for name, text in site.items() if name.endswith(".html")}
    assert not {url for page in pages.values() for url in page.urls if re.match(r"(https?:)?//", url)}


def test_it_is_light_or_dark_and_can_be_searched(site):
    assert {"default", "slate"} <= set(re.findall(r'data-md-color-scheme="(\w+)"', site["index.html"]))
    assert "prefers-color-scheme: dark" in site["index.html"]
    assert "md-search__input" in site["index.html"]
    assert "temperature" in site["search/search_index.json"]


def test_the_reference_has_every_public_name_and_every_plug_in_of_ours(site):
    ids = set().union(*(Asked(text).ids for name, text in site.items() if name.startswith("api/")))
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    wanted = {place.replace(":", ".") for group in points.values() for place in group.values()}
    for name in tdm_agents.__all__:
        found = getattr(tdm_agents, name)
        wanted.add(f"{found.__module__}.{name}")
    assert wanted <= ids


def test_no_role_of_sphinx_is_left(site):
    text = " ".join(text for name, text in site.items() if name.startswith("api/"))
    assert not re.findall(r":(?:class|meth|func|mod|data|attr|exc):", text)


@pytest.mark.parametrize(
    ("docstring", "shown"),
    [
        (":class:`~tdm_agents.agent.TDMAgent` acts", "`TDMAgent` acts"),
        ("see :func:`refuse`", "see `refuse`"),
        ("see :mod:`.attach`", "see `attach`"),
        ("Layout::\n\n    a", "Layout:\n\n    a"),
        ("``code`` and a::b", "``code`` and a::b"),
    ],
)
def test_docstrings_become_markdown(docstring, shown):
    assert extensions.as_markdown(docstring) == shown


@pytest.mark.parametrize(
    ("text", "source", "page", "moved"),
    [
        ("[a](docs/hub.md#load)", "README.md", "project.md", "[a](hub.md#load)"),
        ("![a](docs/demo.png)", "README.md", "project.md", "![a](demo.png)"),
        ("[a](../benchmarks/README.md#sac)", "docs/x.md", "x.md", "[a](benchmarks.md#sac)"),
        ("[a](LICENSE)", "README.md", "project.md", "a"),
        ("[a](https://b.c)", "README.md", "project.md", "[a](https://b.c)"),
        ("[a](#b)", "README.md", "project.md", "[a](#b)"),
    ],
)
def test_links_lead_to_their_targets_on_the_site(text, source, page, moved):
    assert hooks._moved(text, source, page) == moved
