"""SIGKILL, SIGINT and SIGTERM to commands, and two commands in one folder."""

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
        Row(f"SIGKILL to `tdm train`, {model}", f"every checkpoint was whole; {SAME}"),
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


def killed_collection(root: Path, kills: int, victim: str) -> Row:
    """Kill the parent of a collection, or one of its workers."""
    row, rng, said = Row(f"SIGKILL to {victim} of `tdm collect`", SAME), random.Random(1), root / "said"
    episodes = 300
    whole = root / "collect-whole"
    if not whole.exists():
        status, text = complete(commands.collect_words(whole, episodes), said)
        row.check(status == 0, text)
    while row.times < kills:
        out = root / f"collect-{victim.replace(' ', '-')}-{row.times}"
        for _ in range(12):
            run = Started(commands.collect_words(out, episodes, workers=2), said)
            if victim == "the parent":
                if row.times < kills:
                    run.until(lambda run=run: bool(run.workers()))  # type: ignore[misc]
                    time.sleep(rng.uniform(0, 5.0))
                if row.times < kills and run.process.is_alive():
                    run.send(signal.SIGKILL)
                    row.times += 1
            else:
                for _ in range(5):
                    known = set(run.workers())
                    if row.times >= kills or not run.until(lambda run=run: bool(run.workers())):  # type: ignore[misc]
                        break
                    time.sleep(rng.uniform(0, 3.0))
                    pids = run.workers() or sorted(known)
                    try:
                        signal_to = rng.choice(pids)
                        os.kill(signal_to, signal.SIGKILL)
                        row.times += 1
                    except (ProcessLookupError, IndexError):
                        break
            status, text = run.end()
            if status == 0:
                break
            if victim != "the parent":
                row.check("Traceback" not in text, text)
                row.count("a collection gave up on an episode that was killed too often")
        row.check(status == 0, f"status {status}")
        if status == 0:
            row.check(commands.episodes_of(out) == commands.episodes_of(whole), "other episodes")
            row.check(not commands.litter(out), f"left {commands.litter(out)}")
        shutil.rmtree(out, ignore_errors=True)
    return row


def killed_comparison(root: Path, kills: int) -> Row:
    """Kill comparisons while they play and keep batches."""
    row, rng, said = Row("SIGKILL to `tdm compare`", SAME), random.Random(2), root / "said"
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


def signalled(root: Path, data: Path, number: signal.Signals, times: int) -> Row:
    """Interrupt trainings, which save where they are, and comparisons."""
    row = Row(
        f"{number.name} to `tdm train` (three of four) and `tdm compare`",
        "no traceback, status 130 (a comparison ends by SIGTERM itself), and the folder goes on",
    )
    rng = random.Random(3)
    while row.times < times:
        out, said = root / f"{number.name}-{row.times}", root / f"{number.name}-{row.times}.txt"
        training = row.times % 4 != 3
        words = (
            commands.train_words(data, out, "mlp", steps=100_000)
            if training
            else commands.compare_words(out, 4000)
        )
        run = Started(words, said)
        run.until(lambda out=out: bool(list(out.rglob("*.json"))))  # type: ignore[misc]
        time.sleep(rng.uniform(0.05, 0.5))
        run.send(number)
        status, text = run.end(seconds=60)
        row.times += 1
        allowed = {130} if training or number == signal.SIGINT else {130, -number}
        row.check(status in allowed, f"status {status}: {text}")
        row.check("Traceback" not in text, text)
        if training:
            row.check("run the same command to go on" in text and commands.step_of(out) >= 0, text)
        row.check(not training or not commands.litter(out), f"left {commands.litter(out)}")
        shutil.rmtree(out, ignore_errors=True)
    return row


def together(root: Path, data: Path, times: int) -> Row:
    """Two of the same training in one folder at the same time."""
    row = Row(
        "two `tdm train` started together in one folder", "one trains, the other is refused in one line"
    )
    whole = root / "together-whole"
    complete(commands.train_words(data, whole, "mlp"), root / "said")
    for index in range(times):
        out = root / f"together-{index}"
        runs = [Started(commands.train_words(data, out, "mlp"), root / f"said-{index}-{i}") for i in (0, 1)]
        ends = [run.end() for run in runs]
        row.times += 1
        row.check(0 in [status for status, _ in ends], f"nobody trained: {ends}")
        row.count("the other was late enough to find all done", sum(status == 0 for status, _ in ends) == 2)
        for status, text in ends:
            fine = status == 0 or (status == 2 and "another process writes" in text)
            row.check(fine and "Traceback" not in text, f"status {status}: {text}")
        row.check(commands.weights_of(out) == commands.weights_of(whole), "other weights")
        shutil.rmtree(out, ignore_errors=True)
    return row
