"""Disks that are full or read-only: a small tmpfs where one may be mounted."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harm import commands
from harm.commands import complete
from harm.rows import Row

SAID = "status 2 and one line that says what is wrong; nothing half-written is left"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path | None]:
    """A tmpfs of its own; None where it may not be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True
    )
    if done.returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def full_disks(root: Path, data: Path) -> Row:
    """Train, collect and compare on disks of growing size, on most of which they do not fit."""
    row = Row("`train`, `collect` and `compare` on a full disk (tmpfs)", SAID)
    for kilobytes in (8, 16, 32, 64, 128, 256):
        with small_disk(root / "disk", f"{kilobytes}k") as disk:
            if disk is None:
                row.count("tmpfs could not be mounted")
                return row
            out = disk / "out"
            for words in (
                commands.train_words(data, out, "mlp", steps=4),
                commands.train_words(data, out, "transformer", steps=4),
                commands.collect_words(out, 40),
                commands.compare_words(out, 10),
            ):
                said = root / f"full-{kilobytes}-{row.times}"
                status, text = complete(words, said)
                row.times += 1
                row.count("did not fit", status == 2)
                row.check(status in (0, 2) and "Traceback" not in text, f"{words[0]} {kilobytes}k: {text}")
                row.check(words[0] != "train" or commands.step_of(out) >= -1, "a checkpoint is not whole")
                row.check(status == 0 or not _litter(out), f"{words[0]} {kilobytes}k left {_litter(out)}")
                shutil.rmtree(out, ignore_errors=True)
    return row


def _litter(out: Path) -> list[str]:
    return [name for name in commands.litter(out) if ".episodes" not in name] if out.exists() else []


def read_only(root: Path, data: Path) -> Row:
    """The same where nothing may be written."""
    row = Row("`train`, `collect` and `compare` into a read-only folder", SAID)
    with small_disk(root / "disk", "2m") as disk:
        if disk is None:
            row.count("tmpfs could not be mounted")
            return row
        (disk / "out").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for out in (disk / "out", disk / "new" / "out"):
            for words in (
                commands.train_words(data, out, "mlp", steps=4),
                commands.train_words(data, out, "transformer", steps=4),
                commands.collect_words(out, 4),
                commands.compare_words(out, 4),
            ):
                status, text = complete(words, root / f"read-only-{row.times}")
                row.times += 1
                row.check(
                    status == 2 and "Traceback" not in text, f"{out} {words[0]} status {status}: {text}"
                )
    return row


def read_only_data(root: Path, data: Path, times: int) -> Row:
    """Train on data in a folder that is read-only, where the cache beside them cannot be made."""
    row = Row("`train` on data in a read-only folder", "it trained, with its cache elsewhere")
    with small_disk(root / "disk", "2m") as disk:
        if disk is None:
            row.count("tmpfs could not be mounted")
            return row
        shutil.copytree(data, disk / "data", ignore=shutil.ignore_patterns(".tdm-cache"))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for index in range(times):
            out = root / f"of-read-only-{index}"
            status, text = complete(commands.train_words(disk / "data", out, "mlp", steps=4), root / "said")
            row.times += 1
            row.check(status == 0 and "Traceback" not in text, text)
            shutil.rmtree(out, ignore_errors=True)
    return row
