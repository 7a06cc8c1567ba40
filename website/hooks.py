"""Hooks of MkDocs: the order of pages, those that lie outside docs/, and the pages of the API reference."""

from __future__ import annotations

import posixpath
import re
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

ELSEWHERE = {
    "README.md": "project.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
}
"""Pages of the repository outside docs/, and their names on the site."""

API = {
    "The agent": (
        "tdm_agents.agent.agent",
        "tdm_agents.agent.attach",
        "tdm_agents.agent.hub",
        "tdm_agents.registry",
        "tdm_agents.errors",
    ),
    "Planners": ("tdm_planners.shooting", "tdm_planners.gaussian", "tdm_planners.distributions"),
    "World models": ("tdm_agents.world_models.learned",),
    "Wrappers": (
        "tdm_agents.wrappers.reward_function",
        "tdm_agents.wrappers.with_proposal",
        "tdm_agents.wrappers.with_value",
        "tdm_agents.wrappers.without_alive",
        "tdm_agents.wrappers.sb3",
    ),
    "Protocols": (
        "tdm_agents.protocols.imagining",
        "tdm_agents.protocols.planning",
        "tdm_agents.protocols.learning",
        "tdm_agents.protocols.observing",
        "tdm_agents.protocols.batches",
        "tdm_agents.protocols.values",
    ),
    "Environments": (
        "tdm_agents.environments",
        "tdm_envs.suite_env",
        "tdm_envs.suite_tasks",
        "tdm_envs.rewards",
        "tdm_envs.walkers.env",
        "tdm_envs.walkers.families",
    ),
    "Evaluation": (
        "tdm_agents.evaluation.episodes",
        "tdm_agents.evaluation.records",
        "tdm_agents.evaluation.report",
        "tdm_agents.evaluation.statistics",
    ),
    "Checks for your tests": (
        "tdm_agents.testing.planner_contract",
        "tdm_agents.testing.world_model_contract",
        "tdm_agents.testing.trainable_contract",
    ),
}
"""Pages of the API reference, and the modules whose public names each has, besides those of entry points."""
ENTRY_POINTS = {"Planners": "tdm_agents.planners", "World models": "tdm_agents.world_models"}
"""Groups of entry points, by the page that has the modules of all of them."""

_LINK = re.compile(
    r"(?<!!)\[(?P<text>[^]\[]*(?:\[[^]]*\][^]\[]*)?)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)"
)
_IMAGE = re.compile(r"!\[(?P<text>[^]]*)\]\((?P<target>[^)\s]+)\)")
_INDEX_ROW = re.compile(r"^(?:## (?P<section>.+)|\| \[(?P<page>[\w.]+)\]\((?P=page)\) \|.*)$", re.MULTILINE)


def api_modules(title: str) -> tuple[str, ...]:
    """The modules of a page of the API reference."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    found = [place.partition(":")[0] for place in groups.get(ENTRY_POINTS.get(title), {}).values()]
    elsewhere = {module for page, modules in API.items() if page != title for module in modules}
    return tuple(dict.fromkeys([*(module for module in found if module not in elsewhere), *API[title]]))


def api_page(title: str) -> str:
    """The file of a page of the API reference."""
    return f"api/{title.lower().replace(' ', '_')}.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages in the order of the index, docs/README.md, under its headings."""
    sections: dict[str, list[str]] = {}
    here: list[str] = []
    for row in _INDEX_ROW.finditer((ROOT / "docs" / "README.md").read_text()):
        if row["section"]:
            here = sections.setdefault(row["section"], [])
        else:
            here.append(row["page"])
    config.nav = [
        {"Pages": "README.md"},
        {"The project": "project.md"},
        *({title: pages} for title, pages in sections.items() if pages),
        {"API": [{title: api_page(title)} for title in API]},
        {"About": [page for name, page in ELSEWHERE.items() if name != "README.md"]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for name, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=_moved((ROOT / name).read_text(), name, page)))
    for title in API:
        content = f"# {title}\n\n" + "\n".join(f"::: {module}\n" for module in api_modules(title))
        files.append(File.generated(config, api_page(title), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links of the pages in docs/ to where their targets are on the site."""
    del config, files
    path = page.file.src_uri
    if page.file.generated_by:
        return markdown
    if path == "README.md":
        markdown = re.sub(
            r"^\| \[([\w.]+)\]", lambda row: f"| [{_title(row[1])}]", markdown, flags=re.MULTILINE
        )
    return _moved(markdown, f"docs/{path}", path)


def _title(page: str) -> str:
    return (ROOT / "docs" / page).read_text().partition("\n")[0].removeprefix("# ")


def _moved(text: str, source: str, page: str) -> str:
    """The text of a file of the repository as a page of the site: its links are those of the site."""
    folder = posixpath.dirname(page) or "."

    def place(target: str) -> str | None:
        """Where a file of the repository is on the site, seen from the page; None where it is not there."""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in ELSEWHERE:
            return posixpath.relpath(ELSEWHERE[path], folder)
        return posixpath.relpath(path.removeprefix("docs/"), folder) if path.startswith("docs/") else None

    def link(found: re.Match[str]) -> str:
        if re.match(r"\w+:", found["target"]):
            return found[0]
        to = place(found["target"])
        return found["text"] if to is None else f"[{found['text']}]({to}{found['anchor'] or ''})"

    def image(found: re.Match[str]) -> str:
        to = place(found["target"])
        return found[0] if to is None else f"![{found['text']}]({to})"

    return _IMAGE.sub(image, _LINK.sub(link, text))
