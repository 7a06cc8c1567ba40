"""SIGINT and SIGTERM to commands."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from harm import commands
from harm.commands import Started
from harm.rows import Row


def signalled(root: Path, data: Path, number: signal.Signals, times: int) -> Row:
    """Interrupt commands that would take long, then run each again until it has got further."""
    row = Row(
        f"{number.name} to `train` (mlp, transformer), `collect` and `compare` in turn",
        "no traceback; status 130 (collections and comparisons end by SIGTERM itself); trainings save and "
        "leave nothing half-written; the same command goes on",
    )
    kinds: list[Callable[[Path], list[str]]] = [
        lambda out: commands.train_words(data, out, "mlp", steps=100_000),
        lambda out: commands.train_words(data, out, "transformer", steps=100_000),
        lambda out: commands.collect_words(out, 20_000, workers=2),
        lambda out: commands.compare_words(out, 10_000),
    ]
    rng = random.Random(3)
    while row.times < times:
        out, said = root / f"{number.name}-{row.times}", root / f"{number.name}-{row.times}.txt"
        words = kinds[row.times % len(kinds)](out)
        run = Started(words, said)
        row.check(run.until(lambda out=out: commands.progress_of(out) > 0), f"{words[0]} did not begin")  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.5))
        run.send(number)
        status, text = run.end(seconds=120)
        row.times += 1
        training = words[0] == "train"
        allowed = {130} if training or number == signal.SIGINT else {130, -number}
        row.check(status in allowed and "Traceback" not in text, f"{words[0]}: {text}")
        if training:
            row.check("run the same command to go on" in text, text)
            row.check(not commands.litter(out), f"left {commands.litter(out)}")
        before = commands.progress_of(out)
        again = Started(words, said)
        went_on = again.until(lambda out=out, before=before: commands.progress_of(out) > before)  # type: ignore[misc]
        row.check(went_on, f"{words[0]} did not go on from {before}: {said.read_text()}")
        again.send(signal.SIGKILL)
        again.end()
        shutil.rmtree(out, ignore_errors=True)
    return row
