"""Freed memory stays with the process once it is asked to."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from tdm_agents.benchmark.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    print(keep_freed_memory())
def work():
    blocks = [torch.ones(12 * 2**20) for _ in range(2)]  # 48 MiB each: glibc's default never keeps these
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such settings")
def test_fewer_pages_are_asked_for_again():
    said = {
        how: subprocess.run(
            [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True
        ).stdout.split()
        for how in ("keep", "leave")
    }
    assert said["keep"][0] == "True"
    assert int(said["keep"][1]) < int(said["leave"][0])


def test_other_libraries_are_left_alone(monkeypatch):
    from tdm_agents.benchmark import allocation

    monkeypatch.setattr(allocation.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocation.ctypes, "CDLL", None)
    assert allocation.keep_freed_memory() is False
