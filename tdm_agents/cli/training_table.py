"""What training ended with, as tables; every column is a word of ``docs/glossary.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

if TYPE_CHECKING:
    from tdm_agents.online.online_trainer import OnlineResult
    from tdm_agents.training.verdict import Verdict


def training_table(verdicts: Mapping[str, Verdict], metrics: Mapping[str, float]) -> Table | None:
    """Errors by environment and horizon; None where there is nothing to judge a model by.

    Args:
        verdicts: By environment.
        metrics: The last evaluation, as :class:`tdm_agents.training.held_out.Evaluator` gives it.
    """
    several = len(verdicts) > 1
    judged = {name: verdict for name, verdict in verdicts.items() if verdict.errors}
    if not judged:
        return None
    what = " or ".join(sorted({verdict.judged for verdict in judged.values()}))
    table = Table(
        title=f"errors of {what}, held-out, in standard deviations",
        caption=f"held-out loss {metrics['held_out/loss']:.4g}" if "held_out/loss" in metrics else None,
    )
    if several:
        table.add_column("environment", overflow="fold")
    for column in ("horizon", "median error", "rms error", "unchanged", "exploded", "reward error"):
        table.add_column(column, justify="right")
    for name, verdict in judged.items():
        for at in verdict.errors:
            label = name if at is verdict.errors[0] else ""
            reward = metrics.get(f"prediction/reward_rms@{at.horizon}" + f"/{name}" * several)
            table.add_row(
                *([label] * several),
                str(at.horizon),
                f"{at.median:.3g}",
                f"{at.rms:.3g}",
                _number(at.unchanged),
                f"{at.exploded} of {verdict.starts}",
                _number(reward),
                end_section=at is verdict.errors[-1],
            )
    return table


def online_table(result: OnlineResult) -> Table | None:
    """Returns of the last evaluation of online training, by environment; None where there was none."""
    if not result.returns:
        return None
    counts, several = result.counts, len(result.returns) > 1
    done = {"environment steps": counts.env_steps, "decisions": counts.decisions, "updates": counts.updates}
    title = ", ".join(f"{count:,} {what}" for what, count in done.items())
    table = Table(title=f"the last evaluation: {title}")
    for column in [*(["environment"] * several), "mean return", "returns"]:
        table.add_column(column, justify="right", overflow="fold")
    for name, returns in result.returns.items():
        told = " ".join(f"{one:.1f}" for one in returns)
        table.add_row(*([name] * several), f"{np.mean(returns):.1f}", told)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
