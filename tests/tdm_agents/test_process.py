"""Settings of a process that trains: memory that is freed stays with it."""

import platform
import subprocess
import sys

import pytest

from tdm_agents.training.process import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from tdm_agents.training.process import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def update():
    return sum(float(np.ones(1_500_000)[-1]) for _ in range(5))  # 12 MB, freed before the next
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks = [np.ones(1_500_000) for _ in range(3)]
del blocks
update()
before = faults()
for _ in range(20):
    blocks = [np.ones(1_500_000) for _ in range(3)]
    del blocks
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_no_page_is_made_twice():
    def faults(way):
        found = subprocess.run(
            [sys.executable, "-c", FAULTS, way], check=True, capture_output=True, text=True
        )
        return int(found.stdout)

    assert faults("kept") < 100 < 10_000 < faults("given back")


def test_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not keep_freed_memory()
