"""Write the measured numbers into docs/where_time_goes.md, between its comments.

python benchmarks/speed_page.py
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from tdm_agents.storage import read_json

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "where_time_goes.md"
RESULTS = ROOT / "benchmarks" / "results"
HISTORIES = (10, 118)
WHO = {
    "sequential": "the package, one scalar after another",
    "copied cache": "a cache per candidate, copied",
    "transformers": "a Llama of `transformers`, its own cache",
}

MODELS = {
    "cartpole-swingup": "the bundled checkpoint",
    "walker-stand": "dm_control's walker",
    "walker-tree-16": "a procedural walker",
}


def texts() -> dict[str, str]:
    """The texts to write, by the name of the comments around them."""
    return {
        "who": who(),
        "two threads": two_threads(),
        "bodies": bodies(),
        "training": training(),
        "rounds": rounds(),
        "few rows": few_rows(),
        "overhead": overhead(),
    }


def who() -> str:
    """The table of all contestants' decisions."""
    lines = ["| who | 10 steps of history | 118 steps |", "| --- | --- | --- |"]
    found = table_rows("planning_speed.json")
    for name, label in WHO.items():
        cells = []
        for everybody in found:
            one, own = everybody[name], everybody["sequential"]
            if one is own:
                cells.append(f"{seconds(own):.2f} s, {100 * own['of_roofline']:.0f} % of the roofline")
            else:
                cells.append(f"{seconds(one):.2f} s, {seconds(one) / seconds(own):.1f} times as long")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def two_threads() -> str:
    """A sentence about the same with two threads."""
    found = table_rows("planning_speed_two_threads.json")
    own = [everybody["sequential"] for everybody in found]
    longer = [seconds(everybody["transformers"]) / seconds(everybody["sequential"]) for everybody in found]
    return (
        f"the package takes {seconds(own[0]):.2f} s and {seconds(own[1]):.2f} s "
        f"({100 * own[0]['of_roofline']:.0f} and {100 * own[1]['of_roofline']:.0f} % of the roofline), "
        f"the Llama {longer[0]:.1f} and {longer[1]:.1f} times as long"
    )


def table_rows(name: str) -> list[dict[str, Any]]:
    """The contestants' decisions in float32, after each history."""
    rows = kept(name)["rows"]
    return [rows[f"table/history-{history}/float32"]["contestants"] for history in HISTORIES]


def bodies() -> str:
    """The table of the paper's bodies."""
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
    """Tokens per second and the share of the machine's rate."""
    ways = kept("training_speed.json")["ways"]
    said = [
        f"{way} {row['tokens_per_second']:,.0f} tokens per second, {100 * row['mfu']:.0f} %"
        for way, row in ways.items()
    ]
    return "; ".join(said)


def rounds() -> str:
    """The table of forwards and speedups of scalars guessed together."""
    found = kept("parallel_seconds.json")["rows"]
    held_out = kept("larger_models.json")["rows"]
    shipped = read_json(RESULTS / "make_checkpoint.json", schema=1)
    loss = {"cartpole-swingup": shipped["metrics"]} | {name: row["metrics"] for name, row in held_out.items()}
    lines = [
        "| model | held-out NLL | one by one | together: 1 row | 8 rows | 32 rows | 128 rows |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, label in MODELS.items():
        row = found[name]
        counts = row["decodings"]["mean"]
        cells = [f"{label}, `n = {row['observation_dim']}`", f"{loss[name]['held_out/nll_observation']:.1f}"]
        cells.append(f"{counts['1']['forwards_a_step']['one_by_one']:.0f}")
        for count in ("1", "8", "32", "128"):
            together = counts[count]["forwards_a_step"]["together"]
            times = " times" if count == "1" else ""
            cells.append(f"{together:.1f}, {counts[count]['times_one_by_one']:.1f}{times}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def few_rows() -> str:
    """A sentence about a single row, with fused attention."""
    rows = kept("parallel_seconds_few_rows.json")["rows"]
    times = {
        decoding: [f"{rows[name]['decodings'][decoding]['1']['times_one_by_one']:.2f}" for name in MODELS]
        for decoding in ("mean", "sample")
    }
    mean, sample = (f"{', '.join(found[:-1])} and {found[-1]}" for found in times.values())
    return f"it is {mean} times as fast for a single row, and {sample} times where it samples"


def overhead() -> str:
    """A phrase about the time outside the model."""
    shares = [row["outside_the_model"] for row in kept("planner_overhead.json")["rows"].values()]
    return f"at most {100 * max(shares):.1f} % of a decision"


def kept(name: str) -> dict[str, Any]:
    """A kept result."""
    return read_json(RESULTS / name, schema=1)


def seconds(found: dict[str, Any]) -> float:
    """The median seconds of a contestant's decision."""
    return float(median(found["seconds"]))


def _shown(found: dict[str, Any]) -> str:
    return f"{'' if found['whole'] else 'more than '}{seconds(found):.2f}"


def main() -> None:
    """Write the page."""
    page = PAGE.read_text()
    for name, text in texts().items():
        begin = f"<!-- {name} -->"
        if page.count(begin) != 1:
            raise ValueError(f"{PAGE} has {page.count(begin)} places for {name!r}; expected one")
        before, _, rest = page.partition(begin)
        old, end, after = rest.partition("<!-- / -->")
        space = "\n" if old.startswith("\n") else ""
        page = f"{before}{begin}{space}{text}{space}{end}{after}"
    PAGE.write_text(page)
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
