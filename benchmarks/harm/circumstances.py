"""Deciding under odd circumstances: the same actions as under ordinary ones."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import tdm_agents
from harm.rows import Row

# a tiny transformer that plans; prints its actions
DECIDE = """
    import sys
    import numpy as np
    import torch
    from tdm_agents import TDMAgent

    def actions(count):
        agent = TDMAgent.load(sys.argv[1], "random_shooting", horizon=3, num_samples=6)
        agent.reset(seed=0)
        rng = np.random.default_rng(0)
        return [agent.act(rng.uniform(-1, 1, 3).astype(np.float32)).tolist() for _ in range(count)]
"""
SHOW = "print(actions(4))"
MANY = """
    agent = TDMAgent.load(sys.argv[1], "random_shooting", horizon=1, num_samples=2)
    agent.reset(seed=0)
    def megabytes():
        return int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1]) / 1024
    observation = np.zeros(3, np.float32)
    for call in range(20_000):
        action = agent.act(observation)
        assert np.isfinite(action).all()
        if call == 1000:
            before = megabytes()
    grown = megabytes() - before
    assert grown < 20, f"memory grew by {grown:.0f} MB"
    print(actions(4))
"""
THREADS = """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: actions(4), range(8)))
    assert all(one == found[0] for one in found), found
    print(found[0])
"""
CHILDREN = """
    import multiprocessing
    def child(queue):
        queue.put(actions(4))
    if __name__ == "__main__":
        before = actions(4)  # the parent has compiled and planned already
        context = multiprocessing.get_context("{}")
        queue = context.SimpleQueue()
        several = [context.Process(target=child, args=(queue,)) for _ in range(2)]
        for process in several: process.start()
        found = [queue.get() for _ in several]
        for process in several: process.join()
        assert found == [before, before], (found, before)
        print(before)
"""


# in a view of the file system of its own, in which everything that modules are imported from is read-only
READ_ONLY = """
for folder in "$@"; do
    if [ "$folder" = -- ]; then break; fi
    mount --bind "$folder" "$folder" && mount -o remount,ro,bind "$folder" || exit 1
    if touch "$folder/written" 2>/dev/null; then echo "$folder can be written to" >&2; exit 1; fi
done
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


def in_read_only_packages() -> tuple[str, ...]:
    """Words before a command that make the packages' folders read-only for it."""
    clone = Path(tdm_agents.__file__).parents[1]
    folders = {str(clone), *(path for path in sys.path if path.endswith("site-packages"))}
    return ("unshare", "--mount", "sh", "-c", READ_ONLY, "sh", *sorted(folders), "--")


class Deciding:
    """Runs the agent in a folder in processes of its own.

    Args:
        agent: Folder.
        root: For scripts and caches.
    """

    def __init__(self, agent: Path, root: Path) -> None:
        self.agent = agent
        self.root = root
        self.usual = self.end(self.start(SHOW, {}))

    def start(
        self,
        body: str,
        environ: Mapping[str, str],
        flags: tuple[str, ...] = (),
        before: tuple[str, ...] = (),
    ) -> subprocess.Popen[str]:
        """Start a process that decides."""
        script = self.root / f"decide-{abs(hash((body, flags)))}.py"
        if not script.exists():  # one that starts at the same time may be reading it
            script.write_text(textwrap.dedent(DECIDE) + textwrap.dedent(body))
        return subprocess.Popen(
            [*before, sys.executable, "-X", "faulthandler", *flags, script, self.agent],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )

    @staticmethod
    def end(process: subprocess.Popen[str]) -> str:
        """Its actions; what went wrong, where something did."""
        try:
            said, wrong = process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            process.kill()
            return "no answer within 900 s"
        if process.returncode == 0 and said.strip():
            return said.strip().splitlines()[-1]
        return f"status {process.returncode}: {wrong[-1200:]}"

    def row(
        self,
        what: str,
        body: str = SHOW,
        *,
        rounds: Sequence[Mapping[str, str]] = ({},),
        flags: tuple[str, ...] = (),
        before: tuple[str, ...] = (),
        processes: int = 1,
        promise: str = "the same actions as usual",
        same: bool = True,
    ) -> Row:
        """Run processes at once, a round for each environment; a row about them."""
        row = Row(what, promise)
        for environ in rounds:
            for process in [self.start(body, environ, flags, before) for _ in range(processes)]:
                found = self.end(process)
                row.times += 1
                row.check(found == self.usual if same else found.startswith("["), found)
        return row


def rows(agent: Path, root: Path) -> list[Row]:
    """All of them."""
    deciding = Deciding(agent, root)
    nowhere = {"HOME": "/proc/1/nowhere", "XDG_CACHE_HOME": "/proc/1/nowhere"}
    unwritable = nowhere | {"NUMBA_CACHE_DIR": "/proc/1/nowhere"}
    read_only = in_read_only_packages()
    raising = "np.seterr(all='raise')\n" + SHOW
    return [
        deciding.row(
            "four processes at once, compile cache empty",
            rounds=[{"NUMBA_CACHE_DIR": str(root / f"numba-{index}")} for index in range(3)],
            processes=4,
        ),
        deciding.row("HOME that cannot be written", rounds=[nowhere]),
        deciding.row("nowhere to keep compiled code (HOME and `NUMBA_CACHE_DIR`)", rounds=[unwritable]),
        deciding.row(
            "site-packages that cannot be written, compile cache empty",
            rounds=[{"HOME": str(root / "home"), "XDG_CACHE_HOME": str(root / "home" / "cache")}],
            before=read_only,
        ),
        deciding.row("neither site-packages nor HOME can be written", rounds=[nowhere], before=read_only),
        deciding.row(
            "`NUMBA_DISABLE_JIT=1`",
            rounds=[{"NUMBA_DISABLE_JIT": "1"}],
            promise="it decides (sums are rounded in another order)",
            same=False,
        ),
        deciding.row("`python -O`", flags=("-O",)),
        deciding.row('`numpy.seterr(all="raise")`', raising),
        deciding.row(
            "20,000 calls of `act`", MANY, promise="finite actions, memory grows by less than 20 MB"
        ),
        deciding.row("eight threads, an agent each", THREADS),
        deciding.row("children by fork, after the parent has planned", CHILDREN.format("fork")),
        deciding.row("children by spawn", CHILDREN.format("spawn")),
    ]
