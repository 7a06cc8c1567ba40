"""5,000 mutated files of every kind: each is read, or refused in a message that names it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "fuzz_files.py"


def _fuzz(folder: Path, count: int, seed: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder / "fuzz"), str(count), str(seed)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "MUJOCO_GL": "disable", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]  # -11: HDF5 died of a damaged file
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _check(found: dict[str, Any]) -> None:
    assert not found["failures"], json.dumps(found["failures"][:5], indent=1)
    assert found["refused"] > found["cases"] / 2  # most changes are noticed
    assert found["slowest_s"] < 10
    assert found["peak_mib"] < 1024


def test_some_mutated_files(tmp_path: Path):
    _check(_fuzz(tmp_path, 150, 0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [int(os.environ.get("TDM_FUZZ_SEED", "1"))])
def test_five_thousand_mutated_files(tmp_path: Path, seed: int):
    found = _fuzz(tmp_path, 5_000, seed)
    _check(found)
    assert min(found["files"].values()) >= 30
