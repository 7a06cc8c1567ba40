"""Another commit's code beside this one's: its checkout, and how a process runs one of the two."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def checkout_of(commit: str) -> Iterator[Path]:
    """A folder with the code of a commit, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(other), commit], check=True)
        try:
            yield other
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], check=True)


def run_with(checkout: Path, words: Sequence[str]) -> None:
    """Run a command with a checkout's own code, silently."""
    paths = [checkout, checkout / "planners", checkout / "envs"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "MUJOCO_GL": "disable"}
    subprocess.run(words, check=True, cwd=checkout, env=environment, stdout=subprocess.DEVNULL)
