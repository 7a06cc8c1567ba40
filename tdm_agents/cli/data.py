"""``tdm data``: what is in a data set, or in all data sets of an index, and data sets repaired."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from tdm_agents.cli.checks import output_file, output_folder
from tdm_agents.cli.config_file import keep_config
from tdm_agents.errors import WrongValueError

if TYPE_CHECKING:
    import numpy.typing as npt
    from rich.table import Table

    from tdm_agents.data.summary import Float64Array, Ranges, Summary


@dataclass(frozen=True)
class Data:
    """Look at data sets, and repair them.

    `tdm data info SOURCE` tells episodes, transitions, returns, actions at their bounds and ranges.
    `tdm data repair SOURCE --out NEW` writes a new data set without the episodes that cannot be used, and
    says which and why.
    """

    what: tyro.conf.Positional[Literal["info", "repair"]]
    """What to do."""
    source: tyro.conf.Positional[str]
    """A data set (its folder, or its id in Minari's own root), or a folder of several that `tdm collect`
    wrote."""
    plot: Path | None = None
    """File of the plot of `info` (PNG)."""
    out: Path | None = None
    """Folder of the repaired data set, OUT/data."""
    json: bool = False
    """Print JSON instead of tables."""


def run(arguments: Data) -> None:
    """Print a summary and draw it, or repair.

    Raises:
        DataError: If there is no such data set, it is damaged, or there is nothing to keep of it.
        ValueError: If the plot or the new data set cannot be written.
    """
    if arguments.what == "repair":
        _repair(arguments)
        return
    if arguments.out is not None:
        raise WrongValueError("--out is of `tdm data repair`; `tdm data info` draws with --plot FILE.png")
    from tdm_agents.data.index import data_sets
    from tdm_agents.data.summary import summarise

    if arguments.plot is not None:
        output_file(arguments.plot, "--plot")
    summaries = [summarise(path) for path in data_sets(arguments.source)]
    if arguments.json:
        print(json.dumps([to_json(summary) for summary in summaries], indent=2))
    else:
        _print(summaries)
    if arguments.plot is not None:
        from tdm_agents.data.summary_plot import plot_summaries

        plot_summaries(arguments.plot, summaries, title=arguments.source)
        if not arguments.json:
            print(f"drawn in {arguments.plot}")


def _repair(arguments: Data) -> None:
    from tdm_agents.data.repair import repair

    if arguments.out is None:
        raise WrongValueError("`tdm data repair` writes a new data set: say where with --out NEW")
    if arguments.plot is not None:
        raise WrongValueError("--plot is of `tdm data info`; draw the new data set with that")
    output_folder(arguments.out)
    done = repair(arguments.source, arguments.out)
    keep_config(arguments, "data", arguments.out)
    told = {
        "path": str(done.path),
        "episodes": done.kept,
        "transitions": done.transitions,
        "left_out": {str(index): why for index, why in done.left_out.items()},
    }
    if arguments.json:
        print(json.dumps(told, indent=2))
        return
    for index, why in done.left_out.items():
        print(f"left out episode {index}: {why}")
    print(
        f"Wrote {done.path}: {done.kept:,} episodes with {done.transitions:,} transitions; "
        f"{len(done.left_out):,} left out."
    )


def to_json(summary: Summary) -> dict[str, Any]:
    """A summary as a JSON value."""
    return {
        "path": str(summary.path),
        "environment": summary.environment,
        "bytes": summary.bytes,
        "episodes": len(summary.steps),
        "transitions": summary.transitions,
        "terminated": summary.terminated,
        "replaced": summary.replaced,
        "returns": {policy: values.tolist() for policy, values in summary.returns.items()},
        "at_bounds": None if summary.at_bounds is None else summary.at_bounds.tolist(),
        "observation": _ranges_json(summary.observation),
        "action": _ranges_json(summary.action),
    }


def _ranges_json(ranges: Ranges) -> Mapping[str, list[Any]]:
    statistics = {name: getattr(ranges, name).tolist() for name in ("low", "high", "mean", "std")}
    return {"names": list(ranges.names), **statistics}


def _print(summaries: Sequence[Summary]) -> None:
    from rich.console import Console

    console = Console()
    console.print(_many_table(summaries) if len(summaries) > 1 else _one_table(summaries[0]))
    console.print(_returns_table(summaries, console.width))
    if len(summaries) == 1:
        console.print(_ranges_table("observation", summaries[0].observation, None))
        console.print(_ranges_table("action", summaries[0].action, summaries[0].at_bounds))
    else:
        console.print("\nlowest..highest of each scalar", style="italic")
        for summary in summaries:
            console.print(_compact_ranges(summary), highlight=False, markup=False)


def _one_table(summary: Summary) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in {
        "data set": str(summary.path),
        "environment": summary.environment or "the data set does not say",
        "episodes": f"{len(summary.steps):,}, terminated {summary.terminated:,}, replaced after a failure "
        f"{summary.replaced:,}",
        "steps": f"{_span(summary.steps)} per episode",
        "transitions": f"{summary.transitions:,}",
        "return": _span(summary.all_returns),
        "actions at a bound": _percent(summary.at_bounds),
        "on disk": f"{summary.bytes / 1e6:.1f} MB",
    }.items():
        table.add_row(name, value)
    return table


def _many_table(summaries: Sequence[Summary]) -> Table:
    import numpy as np
    from rich.table import Table

    table = Table(title=f"{len(summaries)} data sets", show_footer=True)
    table.add_column("data set", footer="all", overflow="fold")
    for column, total in {
        "episodes": f"{sum(len(s.steps) for s in summaries):,}",
        "transitions": f"{sum(s.transitions for s in summaries):,}",
        "mean return": f"{np.concatenate([s.all_returns for s in summaries]).mean():.4g}",
        "at bounds": "",
        "MB": f"{sum(s.bytes for s in summaries) / 1e6:.1f}",
    }.items():
        table.add_column(column, footer=total, justify="right", overflow="fold")
    for s in summaries:
        table.add_row(
            s.path.parent.name,
            f"{len(s.steps):,}",
            f"{s.transitions:,}",
            f"{s.all_returns.mean():.4g}",
            _percent(s.at_bounds),
            f"{s.bytes / 1e6:.1f}",
        )
    return table


def _returns_table(summaries: Sequence[Summary], width: int) -> Table:
    """A histogram of the returns by policy, in text: whole counts, and bars as long as ``width`` allows."""
    import numpy as np
    from rich.table import Table

    policies = list(dict.fromkeys(policy for s in summaries for policy in s.returns))
    returns = {p: np.concatenate([s.returns.get(p, np.empty(0)) for s in summaries]) for p in policies}
    edges = np.histogram_bin_edges(np.concatenate(list(returns.values())), 10)
    table = Table(title="episodes by return")
    for column in ("return", *policies):
        table.add_column(column, overflow="fold")
    counts = {policy: np.histogram(values, edges)[0] for policy, values in returns.items()}
    most = max(int(count.max()) for count in counts.values())
    spans = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    # each column is 3 wider than what is in it, and a space is between a bar and its count
    room = (width - max(map(len, spans)) - 4) // len(policies) - len(f"{most:,}") - 4
    bar = min(max(room, 0), 12)
    for i, span in enumerate(spans):
        cells = [f"{'█' * round(bar * counts[p][i] / most):{bar}} {counts[p][i]:,}" for p in policies]
        table.add_row(span, *(cell if bar else cell.strip() for cell in cells))
    return table


def _compact_ranges(summary: Summary) -> str:
    """The ranges of a data set that is one of several, in two paragraphs."""
    lines = []
    for what, ranges in (("observation", summary.observation), ("action", summary.action)):
        spans = [
            f"{name} {low:.3g}..{high:.3g}"
            for name, low, high in zip(ranges.names, ranges.low, ranges.high, strict=True)
        ]
        lines.append(f"{summary.path.parent.name}, {what}: {'  '.join(spans)}")
    return "\n".join(lines)


def _ranges_table(name: str, ranges: Ranges, at_bounds: Float64Array | None) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{name}: ranges")
    table.add_column(f"{name} scalar", overflow="fold")
    for column in (
        "lowest",
        "highest",
        "mean",
        "deviation",
        *(("at bounds",) if at_bounds is not None else ()),
    ):
        table.add_column(column, justify="right", overflow="fold")
    for i, label in enumerate(ranges.names):
        values = [f"{values[i]:.4g}" for values in (ranges.low, ranges.high, ranges.mean, ranges.std)]
        constant = "  (constant)" if ranges.low[i] == ranges.high[i] else ""
        share = [f"{100 * at_bounds[i]:.0f} %"] if at_bounds is not None else []
        table.add_row(escape(f"{label}{constant}"), *values, *share)
    return table


def _percent(share: Float64Array | None) -> str:
    return "-" if share is None else f"{100 * share.mean():.0f} %"


def _span(values: npt.NDArray[Any]) -> str:
    """Mean, lowest and highest value."""
    low, mean, high = values.min(), values.mean(), values.max()
    return f"{mean:.4g}" if low == high else f"{mean:.4g} ({low:.4g} to {high:.4g})"
