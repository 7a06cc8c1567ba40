"""``benchmarks/parts.py``: what is measured once, and what anew."""

import importlib.util
import json
from pathlib import Path

PATH = Path(__file__).parents[2] / "benchmarks" / "parts.py"
SPEC = importlib.util.spec_from_file_location("parts", PATH)
parts = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(parts)


def test_a_part_is_measured_once_and_anew_with_other_settings(tmp_path):
    path, measured = tmp_path / "runs" / "part.json", []

    def measure():
        measured.append(len(measured))
        return {"reward": measured[-1]}

    settings = {"noise_sds": (0.0, 0.1), "steps": 1000}
    assert parts.kept(path, settings, measure) == parts.kept(path, settings, measure) == {"reward": 0}
    assert parts.kept(path, settings | {"steps": 10}, measure) == {"reward": 1}
    path.write_text(json.dumps({"reward": 7}))  # a part that does not say of what it is
    assert parts.kept(path, settings, measure) == {"reward": 2}
    assert measured == [0, 1, 2]
