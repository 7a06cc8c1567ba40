"""``tdm view`` as a user runs it: a process, the address that it prints, and its end."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

ADDRESS = re.compile(r"open (http://\S+)")


class Viewing:
    """A running ``tdm view``."""

    def __init__(self, process, log):
        self.process, self.log = process, log
        self.url = self._address()
        self.port = int(self.url.split(":")[2].split("/")[0])

    def _address(self):
        until = time.monotonic() + 120
        while time.monotonic() < until:
            found = ADDRESS.search(self.log.read_text())
            if found:
                return found.group(1)
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.2)
        raise AssertionError(f"no address: {self.log.read_text()}")

    def interrupt(self):
        """Ctrl-C in the terminal, which every process of the group gets; the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(30)

    def children(self):
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]


@contextmanager
def viewing(folder, *words):
    """``tdm view`` with these words on any free port, ended at the end."""
    log = folder / "view.log"
    command = [
        sys.executable,
        "-m",
        "tdm_agents.cli.main",
        "view",
        "--port",
        "0",
        "--out",
        str(folder / "out"),
    ]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, *map(str, words)],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "COLUMNS": "500"},
            start_new_session=True,
        )
    try:
        yield Viewing(process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
