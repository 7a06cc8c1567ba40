"""SIGKILL to commands, at any moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from harm import commands
from harm.commands import Started, complete
from harm.rows import Row

SAME = "the end equals that of an undisturbed run, bit by bit, and nothing half-written is left"


def killed_training(root: Path, data: Path, model: str, kills: int) -> Row:
    """Kill trainings at random moments, most of which fall into the writing of a checkpoint."""
    row, rng = (
        Row(f"SIGKILL to `train`, {model}", f"every checkpoint was whole; {SAME}"),
        random.Random(0),
    )
    whole, said = root / f"{model}-whole", root / "said"
    status, text = complete(commands.train_words(data, whole, model), said)
    row.check(status == 0, text)
    round_ = 0
    while row.times < kills and round_ < kills:
        out = root / f"{model}-{round_}"
        round_ += 1
        for _ in range(6):  # of one run; then another, so that all stages of a run are met
            before = commands.pointer_time(out)
            run = Started(commands.train_words(data, out, model), said)
            if rng.random() < 0.8:
                run.until(lambda out=out, before=before: commands.pointer_time(out) != before)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.2))
            if not run.process.is_alive() or row.times >= kills:
                break
            run.send(signal.SIGKILL)
            run.end()
            row.times += 1
            row.count("left something half-written", len(commands.litter(out)) > 0)
            try:
                commands.step_of(out)
            except Exception as error:
                row.check(False, repr(error))
        run.end()
        status, text = complete(commands.train_words(data, out, model), said)
        row.check(status == 0, text)
        if status == 0:
            row.check(commands.weights_of(out) == commands.weights_of(whole), "other weights")
            row.check(not commands.litter(out), f"left {commands.litter(out)}")
        shutil.rmtree(out, ignore_errors=True)
    return row


EPISODES = 600


def _undisturbed_collection(root: Path, row: Row) -> list[str]:
    out = root / "collect-whole"
    status, text = complete(commands.collect_words(out, EPISODES), root / "said")
    row.check(status == 0, text)
    return commands.episodes_of(out)


def _finish_collection(out: Path, root: Path, row: Row, expected: list[str]) -> None:
    status, text = complete(commands.collect_words(out, EPISODES, workers=2), root / "said")
    row.check(status == 0, text)
    if status == 0:
        row.check(commands.episodes_of(out) == expected, "other episodes")
        row.check(not commands.litter(out), f"left {commands.litter(out)}")
    shutil.rmtree(out, ignore_errors=True)


def killed_collectors(root: Path, kills: int) -> Row:
    """Kill the parent of a collection, at any moment from its start on."""
    row, rng = Row("SIGKILL to the parent of `collect`", SAME), random.Random(1)
    expected = _undisturbed_collection(root, row)
    while row.times < kills:
        out = root / f"collect-{row.times}"
        for _ in range(8):
            run = Started(commands.collect_words(out, EPISODES, workers=2), root / "said")
            played = commands.played(out)
            if rng.random() < 0.7:  # at any moment; otherwise while episodes are written
                run.until(lambda out=out, played=played: commands.played(out) > played)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.5))
            if not run.process.is_alive() or row.times >= kills:
                break
            run.send(signal.SIGKILL)
            run.end()
            row.times += 1
        run.end()
        _finish_collection(out, root, row, expected)
    return row


def killed_workers(root: Path, kills: int) -> Row:
    """Kill workers of a collection while they play and write episodes."""
    row = Row("SIGKILL to a worker of `collect`", f"it went on, or gave up in one line after three; {SAME}")
    rng = random.Random(4)
    expected = _undisturbed_collection(root, row)
    while row.times < kills:
        out = root / f"collect-{row.times}"
        run = Started(commands.collect_words(out, EPISODES, workers=2), root / "said")
        while row.times < kills:
            played = commands.played(out)
            # an episode that kills its workers time and again is given up, so others have to get on between
            if not run.until(lambda out=out, played=played: commands.played(out) > played):  # type: ignore[misc]
                break
            time.sleep(rng.uniform(0, 0.05))
            if not (pids := run.workers()):
                break
            try:
                os.kill(rng.choice(pids), signal.SIGKILL)
            except ProcessLookupError:  # its work was done
                break
            row.times += 1
        status, text = run.end()
        row.count("collections that went on through all kills", status == 0)
        row.check(status == 0 or (status == 2 and "Traceback" not in text), f"status {status}: {text}")
        _finish_collection(out, root, row, expected)
    return row


def killed_comparison(root: Path, kills: int) -> Row:
    """Kill comparisons while they play and keep batches."""
    row, rng, said = Row("SIGKILL to `compare`", SAME), random.Random(2), root / "said"
    whole = root / "compare-whole"
    status, text = complete(commands.compare_words(whole), said)
    row.check(status == 0, text)
    while row.times < kills:
        out = root / f"compare-{row.times}"
        for _ in range(8):
            run = Started(commands.compare_words(out), said)
            time.sleep(rng.uniform(0, 1.5))
            if not run.process.is_alive() or row.times >= kills:
                break
            run.send(signal.SIGKILL)
            run.end()
            row.times += 1
        run.end()
        status, text = complete(commands.compare_words(out), said)
        row.check(status == 0, text)
        if status == 0:
            row.check(commands.scores_of(out) == commands.scores_of(whole), "other returns")
            row.check(not commands.litter(out), f"left {commands.litter(out)}")
        shutil.rmtree(out, ignore_errors=True)
    return row
