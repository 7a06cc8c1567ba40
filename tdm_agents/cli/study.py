"""``tdm study``: the paper's experiments, each in one command that goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from tdm_agents.cli.checks import at_least, output_folder, usable_device
from tdm_agents.cli.config_file import keep_config
from tdm_agents.cli.pool_options import Hands, PoolOptions, telling
from tdm_agents.errors import WrongValueError


@dataclass(frozen=True)
class Study:
    """Run an experiment of the paper: collect, train, evaluate, draw. The same command goes on.

    What is made is kept in OUT/products by the hash of what it depends on. A changed setting makes anew only
    what depends on it, and studies with the same OUT share what they have in common. The report is in
    OUT/NAME-SIZE: results.json, results.md, figure.png.
    """

    name: tyro.conf.Positional[str] = ""
    """Name of the study; see --list."""
    size: Literal["smoke", "small", "paper"] = "small"
    """`smoke`: a minute, to see that it runs, without results; `small`: hours on two cores; `paper`: the
    paper's sizes, for GPUs."""
    out: Path = Path("runs/studies")
    """Folder of products and reports."""
    list: bool = False
    """List the studies, and do nothing."""
    dry_run: bool = False
    """List what is missing and about how long it takes on this machine, and make nothing."""
    so_far: bool = False
    """Write the report of what is complete already, and make nothing."""
    adopt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """PRODUCT=FOLDER: what `tdm collect` or `tdm train` made elsewhere, if it has the settings that the study
    declares; repeat the option for several. An unfinished one goes on in its folder."""
    device: str = "cpu"
    """Where models train and plan."""
    threads: int = 1
    """Threads of PyTorch while a model trains."""
    hands: Hands = field(default_factory=PoolOptions)


def run(arguments: Study) -> None:
    """Do what ``tdm study`` says.

    Raises:
        LookupError: If there is no such study or product.
        ValueError: If an option makes no sense, or what is adopted has other settings.
        FolderInUseError: If another process works in the folder.
        SystemExit: On Ctrl-C, with code 130, after saying how to go on.
    """
    from tdm_agents.collection.workers import one_thread
    from tdm_agents.remarks import remarks
    from tdm_agents.studies.catalogue import STUDIES
    from tdm_agents.studies.entry_text import named
    from tdm_agents.studies.running import opened, report_so_far
    from tdm_agents.studies.running import run as run_study

    console = Console()
    if arguments.list:
        for study in STUDIES.values():
            console.print(f"{study.name:<18} {study.paper}: {study.question}", soft_wrap=True, markup=False)
        return
    if not arguments.name:
        raise WrongValueError(f"no study is named; expected one of {', '.join(STUDIES)} (see --list)")
    at_least(1, threads=arguments.threads)
    arguments.hands.check()
    output_folder(arguments.out)
    usable_device(arguments.device)
    one = opened(named("study", arguments.name, STUDIES), arguments.size, arguments.out)
    adopted = dict(map(_adoption, arguments.adopt))
    if arguments.dry_run:
        if adopted:
            raise WrongValueError("--adopt has no place beside --dry-run, which makes nothing")
        from tdm_agents.studies.forecast import forecast, table

        expected = forecast(
            one, device=arguments.device, workers=arguments.hands.processes, threads=arguments.threads
        )
        console.print(table(one, expected))
        return
    if one.finished:
        console.print(f"{one.folder} is complete already; nothing to do.", soft_wrap=True)
        return
    if arguments.so_far:
        if adopted:
            raise WrongValueError("--adopt has no place beside --so-far, which makes nothing")
        _tell(report_so_far(one), console)
        return
    keep_config(arguments, "study", arguments.out, f"{arguments.name}-{arguments.size}")
    try:
        folder = run_study(
            one,
            adopted=adopted,
            hands=arguments.hands.opened(one_thread, telling(remarks())),
            device=arguments.device,
            threads=arguments.threads,
            # not on a cluster, whose nodes would have to be told to save before they end
            side_by_side=arguments.hands.pool == "local"
            and arguments.hands.processes > 1
            and arguments.device == "cpu",
            console=remarks(),
        )
    except KeyboardInterrupt:
        console.print(
            f"Stopped. {one.progress} in {arguments.out}; what there is of the others "
            "is kept, and the same command goes on from there.",
            soft_wrap=True,
            markup=False,
        )
        raise SystemExit(130) from None
    _tell(folder, console)


def _tell(folder: Path, console: Console) -> None:
    """Show a report, and say where it is."""
    console.print((folder / "results.md").read_text(), markup=False, soft_wrap=True)
    print(f"report: {folder / 'results.json'}, {folder / 'results.md'}; figure: {folder / 'figure.png'}")


def _adoption(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise WrongValueError(f"--adopt {text!r} is not PRODUCT=FOLDER, for example walkers=runs/walkers")
    return name, Path(folder).expanduser()
