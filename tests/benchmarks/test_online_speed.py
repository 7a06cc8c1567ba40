"""The benchmark of updates and decisions measures every contestant."""

import json

from online_speed import Settings, main


def test_every_contestant_is_measured(tmp_path, capsys):
    out = tmp_path / "speed.json"
    main(Settings(sizes=("1m",), batch_size=4, repeats=1, out=out))
    found = json.loads(out.read_text())
    assert list(found["rows"]) == ["tdmpc2-1m-float32", "tdmpc2-1m-bfloat16", "mlp", "tdm"]
    for row in found["rows"].values():
        assert all(row[what]["cpu_seconds"] > 0 for what in ("update", "decision"))
        assert row["decision"]["hz"] == 1 / row["decision"]["seconds"]
    assert found["load"]["cores"] >= 1 and "ms of CPU" in capsys.readouterr().out
