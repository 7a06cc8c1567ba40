"""``benchmarks/keep.py``: what is written with a result, what is measured once, and what anew."""

import json
from dataclasses import dataclass
from pathlib import Path

import keep


@dataclass(frozen=True)
class Settings:
    out: Path
    sizes: tuple[int, ...] = (1, 2)


def test_a_result_has_its_settings_and_provenance(tmp_path, capsys):
    out = tmp_path / "results" / "one.json"
    weights = tmp_path / "weights"
    weights.write_bytes(b"")
    keep.result(out, Settings(out), weights=weights, rows=[1.5])
    value = json.loads(out.read_text())
    assert list(value) == ["schema", "settings", "rows", "provenance"]
    assert value["settings"] == {"out": str(out), "sizes": [1, 2]} and value["rows"] == [1.5]
    assert value["provenance"]["weights_sha256"] is not None
    assert capsys.readouterr().out == f"kept in {out}\n"


def test_a_part_is_measured_once_and_anew_with_other_settings(tmp_path):
    path, measured = tmp_path / "runs" / "part.json", []

    def measure():
        measured.append(len(measured))
        return {"reward": measured[-1]}

    settings = {"noise_sds": (0.0, 0.1), "steps": 1000}
    assert keep.part(path, settings, measure) == keep.part(path, settings, measure) == {"reward": 0}
    assert keep.part(path, settings | {"steps": 10}, measure) == {"reward": 1}
    path.write_text(json.dumps({"reward": 7}))  # a part that does not say of what it is
    assert keep.part(path, settings, measure) == {"reward": 2}
    assert measured == [0, 1, 2]
