"""How much must somebody read to follow one imagined token, one training batch, one collected episode?

This runs three small things under a profiler and collects every function of this project that is entered. For
the collection, the work of its worker is repeated in this process. It counts their source lines without
docstrings, comments and blank lines, and their modules. It does not count functions that are entered while
modules are imported, generated methods, and kernels that numba has compiled.

It looks for names in their present and former modules, so that it also runs on other commits:

    python benchmarks/lines_to_read.py
    git worktree add /tmp/before 526cf19
    PYTHONPATH=/tmp/before:/tmp/before/planners:/tmp/before/envs python benchmarks/lines_to_read.py

One row per commit is kept; the row of the same commit is replaced.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import threading
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal

import tyro

PACKAGES = ("tdm_agents", "tdm_planners", "tdm_envs")
COLLECT = ["collect", "--env-id", "dm_control/cartpole-swingup-v0", "--max-steps", "8"]
COLLECT += ["--random-episodes", "1", "--planner-episodes", "0", "--workers", "1", "--out"]
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
SILENT |= {tokenize.ENCODING, tokenize.ENDMARKER}

Entered = set[CodeType]
Follow = Callable[[Callable[[], object]], None]
"""A function that runs something and collects the functions that are entered."""


@dataclass(frozen=True)
class Settings:
    """What to follow, and files."""

    out: Path = Path("benchmarks/results/lines_to_read.json")
    """Where to keep the row of this commit."""
    follow: Literal["all", "imagined step", "training batch", "collected episode"] = "all"
    """For the processes: the thing that this process follows, whose functions it prints as JSON."""


def find(name: str, *modules: str) -> Any:
    """An object by name, from the first of some modules that has it."""
    for module in modules:
        with contextlib.suppress(ModuleNotFoundError, AttributeError):
            return getattr(import_module(module), name)
    raise LookupError(f"no {name} in {', '.join(modules)}; add where it is now")


def imagined_step(follow: Follow) -> None:
    """Read a history and imagine one step of eight candidates with the bundled checkpoint."""
    torch = import_module("torch")
    agents = import_module("tdm_agents")
    history_class = find("History", "tdm_agents.protocols")
    model = agents.TransformerWorldModel.load(
        Path(str(agents.__file__)).parent / "checkpoints" / "cartpole-swingup"
    )
    history = history_class.of_observation(torch.zeros(1, 5), action_dim=1)

    def imagine() -> None:
        state = model.start(history, horizon=1)
        state = model.take(state, torch.zeros(8, dtype=torch.int64))
        model.step(state, torch.zeros(8, 1), generator=torch.Generator().manual_seed(0))

    follow(imagine)


def training_batch(follow: Follow) -> None:
    """Read a batch of windows with a small specialist, and compute the gradients of its loss."""
    torch = import_module("torch")
    presets = import_module("tdm_agents.world_models.transformer.presets")
    configs = getattr(presets, "CONFIGS", None) or presets.PRESETS  # the latter before there were both
    sampler_class = find("WindowSampler", "tdm_agents.data.windows", "tdm_agents.data.sampling")
    trajectories_class = find("Trajectories", "tdm_agents.data.trajectories")
    with tempfile.TemporaryDirectory() as folder:
        command([*COLLECT, folder])
        data = trajectories_class.from_minari(Path(folder) / "data", action_repeat=4)
    model = import_module("tdm_agents").TransformerWorldModel(data.spec, configs["small-paper-tokens"])
    sampler = sampler_class(data, steps=2, batch_size=2, seed=0)

    def train() -> None:
        loss_of = getattr(model, "loss", model)  # once a method, today the call
        loss_of(sampler.batch(0), generator=torch.Generator().manual_seed(0))[0].backward()

    follow(train)


def collected_episode(follow: Follow) -> None:
    """Play one random episode of eight steps in a worker with ``tdm collect``."""
    pool_class = find("WorkerPool", "tdm_agents.collection.pool", "tdm_agents.data.pool")
    hand_out = pool_class.imap_unordered

    def here_and_there(pool: Any, work: Callable[[Any], Any], tasks: Any) -> Iterator[Any]:
        tasks = list(tasks)
        for task in tasks:
            work(task)  # in this process, where its functions are seen
        yield from hand_out(pool, work, tasks)

    pool_class.imap_unordered = here_and_there
    with tempfile.TemporaryDirectory() as folder:
        follow(lambda: command([*COLLECT, folder]))


FOLLOWED = {
    "imagined step": imagined_step,
    "training batch": training_batch,
    "collected episode": collected_episode,
}


def command(words: list[str]) -> None:
    """Run a ``tdm`` command in this process, silently unless it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = find("main", "tdm_agents.cli.main")(words)
    if status != 0:
        raise RuntimeError(f"tdm {' '.join(words)} ended with {status}: {said.getvalue()}")


@contextmanager
def profiled(entered: Entered) -> Iterator[None]:
    """Note the code of every function that is entered, except while modules are imported."""
    importing = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal importing
        module = frame.f_code.co_name == "<module>"
        if event == "call":
            importing += module
            if not importing:
                entered.add(frame.f_code)
        elif event == "return":
            importing -= module

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def counted(entered: Entered) -> dict[str, dict[str, int]]:
    """The source lines of the entered functions of this project, by module and function."""
    first_lines: dict[str, set[int]] = defaultdict(set)
    for code in entered:
        first_lines[code.co_filename].add(code.co_firstlineno)
    found: dict[str, dict[str, int]] = {}
    for name in PACKAGES:
        root = Path(str(import_module(name).__file__)).parent
        for path in sorted(root.rglob("*.py")):
            lines = functions(path.read_text(), first_lines.get(str(path), set()))
            if lines:
                found[".".join((name, *path.relative_to(root).with_suffix("").parts))] = lines
    return found


def functions(source: str, entered: set[int]) -> dict[str, int]:
    """The number of lines of the functions whose code begins at these lines; no line counts twice.

    A function inside another entered one is a part of it, and so are lambdas and comprehensions.
    """
    tree = ast.parse(source)
    told: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            told.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            told.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    found: dict[str, int] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, ast.ClassDef):
                name = f"{prefix}{child.name}."
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
                span = range(first, (child.end_lineno or first) + 1)
                if not entered.isdisjoint(span):
                    found[f"{prefix}{child.name}"] = len(told.intersection(span))
                continue
            visit(child, name)

    visit(tree, "")
    return found


def commit() -> str:
    """The commit of the checkout whose packages are followed, with ``+changes`` where there are some."""
    folder = Path(str(import_module("tdm_agents").__file__)).parent

    def git(*words: str) -> str:
        return subprocess.check_output(["git", "-C", str(folder), *words], text=True).strip()

    return git("rev-parse", "--short=7", "HEAD") + ("+changes" if git("status", "--porcelain", ".") else "")


def main(settings: Settings) -> None:
    """Follow each thing in its own process, print and keep."""
    if settings.follow != "all":
        entered: Entered = set()

        def follow(work: Callable[[], object]) -> None:
            with profiled(entered):
                work()

        FOLLOWED[settings.follow](follow)
        print(json.dumps(counted(entered)))
        return
    row = {}
    for name in FOLLOWED:
        words = [sys.executable, __file__, "--follow", name]
        # a first time, which leaves numba's compiled functions on disk
        lines = [json.loads(subprocess.check_output(words)) for _ in range(2)][-1]
        row[name] = {
            "lines": sum(sum(module.values()) for module in lines.values()),
            "functions": sum(map(len, lines.values())),
            "modules": len(lines),
            "lines_by_function": lines,
        }
    commits = json.loads(settings.out.read_text())["commits"] if settings.out.exists() else {}
    commits[commit()] = row
    find("write_json", "tdm_agents.storage")(settings.out, {"schema": 1, "commits": commits})
    for where, found in commits.items():
        for name, one in found.items():
            print(
                f"{where:16} {name:18} {one['lines']:6,} lines {one['functions']:5} functions "
                f"{one['modules']:4} modules"
            )
    print(f"kept in {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
