"""Writes the measured numbers into docs/where_time_goes.md, between its comments.

python benchmarks/speed_page.py
"""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import Any

from tdm_agents.storage import read_json

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "where_time_goes.md"
RESULTS = ROOT / "benchmarks" / "results"
HISTORIES = (10, 118)
WHO = {
    ("sequential", "float32"): "the package, one scalar after another",
    ("parallel", "float32"): "the package, scalars together in 4.5 rounds",
    ("copied cache", "float32"): "a cache a candidate, copied",
    ("grown cache", "float32"): "a cache a candidate, grown by concatenation",
    ("transformers", "float32"): "a Llama of `transformers`, its own cache",
    ("no cache", "float32"): "no cache",
    ("sequential", "bfloat16"): "the package in bfloat16",
    ("parallel", "bfloat16"): "the package in bfloat16, together in 4.5 rounds",
    ("copied cache", "bfloat16"): "a cache a candidate, copied, in bfloat16",
    ("transformers", "bfloat16"): "the Llama in bfloat16",
}


def texts() -> dict[str, str]:
    """What is written, by the name of the comments around it."""
    return {
        "who": who(),
        "best": best(),
        "given back": given_back("planning_speed_given_back.json"),
        "two threads": given_back("planning_speed_two_threads.json"),
        "idle": given_back("planning_speed_two_threads_idle.json"),
        "fused": fused(),
        "compile": compiling(),
        "packed": packed(),
        "captured": captured(),
        "ended": ended(),
        "kept": kept_memory(),
        "bodies": bodies(),
        "training": training(),
        "overhead": overhead(),
    }


def who() -> str:
    """Everybody's decision."""
    rows = kept("planning_speed.json")["rows"]
    lines = ["| who | 10 steps of history | 118 steps |", "| --- | --- | --- |"]
    for (name, dtype), label in WHO.items():
        cells = []
        for history in HISTORIES:
            everybody = rows[f"table/history-{history}/{dtype}"]["contestants"]
            own = seconds(rows[f"table/history-{history}/float32"]["contestants"]["sequential"])
            found = everybody.get(name)
            if found is None:
                cells.append("")
            elif (name, dtype) == ("sequential", "float32"):
                cells.append(f"{seconds(found):.2f} s, {100 * found['of_roofline']:.0f} % of the roofline")
            else:
                cells.append(f"{_shown(found)} s, {seconds(found) / own:.1f} times as long")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def best() -> str:
    """The package's best way against the Llama's best."""
    rows = kept("planning_speed.json")["rows"]
    ratios = []
    for history in HISTORIES:
        found = [rows[f"table/history-{history}/{dtype}"]["contestants"] for dtype in ("float32", "bfloat16")]
        ours = min(seconds(c[way]) for c in found for way in ("sequential", "parallel"))
        llama = min(seconds(c["transformers"]) for c in found)
        ratios.append(f"{llama / ours:.1f}")
    return f"Best against best, of both types, the Llama takes {' and '.join(ratios)} times as long."


def given_back(name: str) -> str:
    """The same where freed memory is given back."""
    rows = kept(name)["rows"]
    found = [rows[f"table/history-{history}/float32"]["contestants"] for history in HISTORIES]
    own = [everybody["sequential"] for everybody in found]
    longer = [seconds(everybody["transformers"]) / seconds(everybody["sequential"]) for everybody in found]
    return (
        f"the package takes {seconds(own[0]):.2f} s and {seconds(own[1]):.2f} s "
        f"({100 * own[0]['of_roofline']:.0f} and {100 * own[1]['of_roofline']:.0f} % of the roofline), "
        f"the Llama {longer[0]:.1f} and {longer[1]:.1f} times as long"
    )


def fused() -> str:
    """The compiled loop beside products."""
    rows = kept("fused_attention.json")["rows"]
    ratios = {
        threads: [row["times_as_fast"] for row in rows if row["threads"] == threads] for threads in (1, 2)
    }
    one, two = (f"{min(found):.1f} to {max(found):.1f}" for found in ratios.values())
    same = min(row["same_scalars"] for row in rows)
    share = "all" if same == 1.0 else f"{100 * same:.2f} %"
    return (
        f"A decision is {one} times as fast as with PyTorch's products, with two threads {two} times; "
        f"{share} of the imagined scalars are the same"
    )


def compiling() -> str:
    """The first time."""
    found = kept("fused_attention.json")
    return f"which takes {found['compile_seconds']:.0f} s"


def packed() -> str:
    """Rows apart in memory."""
    ratios = [row["over_packed"]["4"] for row in kept("packed_suffix.json")["rows"]]
    return f"take {min(ratios):.1f} to {max(ratios):.1f} times as long to read"


def captured() -> str:
    """Fixed buffers on a CPU."""
    rows = kept("captured_steps.json")["rows"].values()
    eager, compiled = ([row["times_as_fast"][name] for row in rows] for name in ("captured", "compiled"))
    return (
        f"a decision is {min(eager):.2f} to {max(eager):.2f} times as fast, and {min(compiled):.2f} to "
        f"{max(compiled):.2f} times with compiled blocks"
    )


def ended() -> str:
    """Rows that ended."""
    rows = {row["life"]: row["times_as_fast"] for row in kept("ended_rows.json")["rows"]}
    return (
        f"where rows live for 5 steps on average, a decision is {rows[5.0]:.1f} times as fast, "
        f"where they live for 10, {rows[10.0]:.1f}"
    )


def kept_memory() -> str:
    """Freed memory that stays."""
    rows = [row["times_as_fast"] for row in kept("kept_memory.json")["rows"].values()]
    return (
        f"a decision is {rows[0]:.2f} times as fast after other work and {rows[1]:.2f} times after another "
        f"one, an update of training {rows[2]:.2f} times"
    )


def bodies() -> str:
    """The paper's bodies."""
    rows = kept("planning_speed_bodies.json")["rows"]
    lines = [
        "| `K` x `H` | the package | real time | roofline | copied cache | Llama | `gato-79m` |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for body in ("cartpole", "walker", "humanoid"):
        row = rows[f"{body}/small/float32"]
        shape, everybody = row["shape"], row["contestants"]
        own = everybody["sequential"]
        share = f"{100 * own['of_roofline']:.0f} %" if own["whole"] else ""
        large = rows[f"{body}/gato-79m/bfloat16"]["contestants"]["sequential"]
        cells = [
            f"{body}, {shape['num_samples']} x {shape['horizon']}",
            f"{_shown(own)} s",
            f"{own['times_real_time']:.2g} times",
            share,
            *(f"{_shown(everybody[name])} s" for name in ("copied cache", "transformers")),
            f"{_shown(large)} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def training() -> str:
    """Tokens a second and the share of the machine's rate."""
    ways = kept("training_speed.json")["ways"]
    said = [
        f"{way} {row['tokens_per_second']:,.0f} tokens a second, {100 * row['mfu']:.0f} %"
        for way, row in ways.items()
    ]
    return "; ".join(said)


def overhead() -> str:
    """Time outside the model."""
    shares = [row["outside_the_model"] for row in kept("planner_overhead.json")["rows"].values()]
    return f"at most {100 * max(shares):.1f} % of a decision"


def kept(name: str) -> dict[str, Any]:
    """A result."""
    return read_json(RESULTS / name, schema=1)


def seconds(found: dict[str, Any]) -> float:
    """Of a contestant's decision."""
    return median(found["seconds"])


def _shown(found: dict[str, Any]) -> str:
    return f"{'' if found['whole'] else 'more than '}{seconds(found):.2f}"


def main() -> None:
    """Write the page."""
    page = PAGE.read_text()
    for name, text in texts().items():
        page, count = re.subn(
            rf"(<!-- {name} -->)(\n?).*?(<!-- / -->)",
            lambda found, text=text: found[1] + found[2] + text + found[2] + found[3],
            page,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(f"{PAGE} has {count} places for {name!r}; expected one")
    PAGE.write_text(page)
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
