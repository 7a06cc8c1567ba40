"""Write the README's table of results from the JSON that the benchmarks kept.

python benchmarks/readme_results.py
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
MODELS = {
    "tdm": "TDM, the shipped checkpoint",
    "mlp": "MLP, same data and training time",
    "simulator": "the true simulator",
}
HISTORIES = (10, 118)
PLANNERS = {"mppi": "2 x 32", "cem": "2 x 32", "random_shooting": "1 x 128"}


def read(name: str) -> dict[str, Any]:
    """A kept result."""
    value: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return value


def returns() -> list[str]:
    """The IQM with its interval, and milliseconds per decision, of every planner on every model."""
    lines = [
        "| planner (iterations x candidates) | " + " | ".join(MODELS.values()) + " |",
        "|---|" + "---|" * len(MODELS),
    ]
    for planner, size in PLANNERS.items():
        cells = []
        for model in MODELS:
            s = read(f"cartpole_returns/{model}-{planner}.json")["summary"]
            cost = f"{s['milliseconds_per_decision']:.0f} ms"
            cells.append(f"**{s['iqm']:.0f}** ({s['iqm_low']:.0f} to {s['iqm_high']:.0f}), {cost}")
        lines.append(f"| `{planner}` ({size}) | " + " | ".join(cells) + " |")
    return lines


def students() -> list[str]:
    """What is faster than the shipped TDM, and how good it is."""
    lines = ["| who | IQM return | milliseconds per decision |", "|---|---|---|"]
    for name, row in read("students.json")["rows"].items():
        s = row["summary"]
        cost = f"{row['milliseconds_per_decision']:.{0 if row['milliseconds_per_decision'] >= 10 else 1}f}"
        lines.append(f"| {name} | **{s['iqm']:.0f}** ({s['iqm_low']:.0f} to {s['iqm_high']:.0f}) | {cost} |")
    return lines


def decision_seconds(history: int) -> dict[str, float]:
    """The median seconds per decision after ``history`` steps of history, by contestant."""
    row = read("planning_speed.json")["rows"][f"table/history-{history}/float32"]
    return {name: median(found["seconds"]) for name, found in row["contestants"].items()}


def text() -> str:
    """The text between the markers."""
    best = read("cartpole_returns/simulator-best.json")["summary"]
    random = read("cartpole_returns/random.json")["summary"]
    made = read("make_checkpoint.json")
    short, long = (
        seconds["transformers"] / seconds["sequential"] for seconds in map(decision_seconds, HISTORIES)
    )
    minutes = {stage: seconds / 60 for stage, seconds in made["seconds"].items()}
    paragraphs = [
        "Return on `dm_control/cartpole-swingup-v0` (at most 1000): the interquartile mean of 10 episodes, "
        "its 95 % bootstrap interval, evaluation seeds that neither collection nor tuning saw, a horizon "
        "of 25 decisions (1 s), the task's own reward function; and wall-clock time per decision, on one "
        "thread of a busy machine, of episodes that are planned for together.",
        "\n".join(returns()),
        "How fast a decision can be: one environment, one thread, everybody in turn, the same ten episodes. "
        "A value replaces most of the horizon; students learned from the TDM (`distill`; [real "
        "time](docs/real_time.md)).",
        "\n".join(students()),
        f"Random actions reach {random['iqm']:.0f}; the simulator's planner at its best settings (3 x 64) "
        f"reaches {best['iqm']:.0f}. The checkpoint ({made['parameters']:,} parameters, "
        f"{made['bytes'] / 1e6:.1f} MB) was made from nothing on two shared cores: "
        f"{minutes['collect']:.0f} minutes of collection and {minutes['train']:.0f} of training. "
        "A Llama of `transformers` of the same size, with that library's own cache, takes "
        f"{short:.1f} times as long to imagine a decision after {HISTORIES[0]} steps of history and "
        f"{long:.0f} times as long after {HISTORIES[1]}: here, candidates share the history "
        "([how fast](docs/where_time_goes.md)). "
        "Commands, seeds, machine and hashes: [benchmarks](benchmarks/README.md).",
    ]
    return "\n\n".join(
        p if p.startswith("|") else textwrap.fill(p, 110, break_on_hyphens=False) for p in paragraphs
    )


def main() -> None:
    """Replace the text between the markers."""
    path = ROOT / "README.md"
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2] if END in rest else rest
    path.write_text(f"{before}{BEGIN}\n{text()}\n{END}{after}")


if __name__ == "__main__":
    main()
