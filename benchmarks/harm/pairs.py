"""Two commands in one folder at the same time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harm import commands
from harm.commands import Started, complete
from harm.rows import Row


def together(root: Path, data: Path, times: int) -> Row:
    """Start two of the same training, collection and comparison in turn."""
    row = Row(
        "two `train`, `collect` or `compare` started together in one folder",
        "one works, the other is refused in one line; the end equals that of an undisturbed run",
    )
    kinds: list[tuple[Callable[[Path], list[str]], Callable[[Path], Any]]] = [
        (lambda out: commands.train_words(data, out, "mlp"), commands.weights_of),
        (lambda out: commands.collect_words(out, 100), commands.episodes_of),
        (commands.compare_words, commands.scores_of),
    ]
    wholes = []
    for index, (words, result) in enumerate(kinds):
        whole = root / f"together-whole-{index}"
        status, text = complete(words(whole), root / "said")
        row.check(status == 0, text)
        wholes.append(result(whole))
    while row.times < times:
        words, result = kinds[row.times % len(kinds)]
        out = root / f"together-{row.times}"
        runs = [Started(words(out), root / f"said-{row.times}-{index}") for index in (0, 1)]
        ends = [run.end() for run in runs]
        row.check(0 in [status for status, _ in ends], f"both ended without a result: {ends}")
        row.count("the other was late enough to find all done", sum(status == 0 for status, _ in ends) == 2)
        for status, text in ends:
            fine = status == 0 or (status == 2 and "another process writes" in text)
            row.check(fine and "Traceback" not in text, f"status {status}: {text}")
        row.check(result(out) == wholes[row.times % len(kinds)], "another end")
        row.times += 1
        shutil.rmtree(out, ignore_errors=True)
    return row
