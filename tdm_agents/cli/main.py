"""``tdm``: finds the sub-command's module, lets tyro read its arguments, runs it, and says what went wrong.

A sub-command is a module of this package with a frozen dataclass of arguments and ``run(arguments)``. Only
the requested one is imported, so that ``tdm planners`` does not wait for the others.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import tyro

from tdm_agents.cli.refusals import mistake

COMMANDS = {
    "collect": ("Collect", "play episodes of an environment into a Minari data set"),
    "train": ("Train", "train a world model on a data set"),
    "online": ("Online", "train a world model on what its own agent does, from nothing"),
    "distill": ("Distill", "train a small fast model on what a slow agent decides and imagines"),
    "evaluate": ("Evaluate", "play episodes on fixed seeds and report return and cost"),
    "compare": ("Compare", "play several contestants on the same seeds: table, JSON, plot"),
    "study": ("Study", "run an experiment of the paper; the same command goes on"),
    "play": ("Play", "play one episode, with a plot and a video"),
    "view": ("View", "watch an agent think, in the browser"),
    "experts": ("Experts", "list tuned planners, train policies of Stable-Baselines3"),
    "data": ("Data", "look at data sets: episodes, returns, ranges, as text and as a plot"),
    "envs": ("Envs", "list environments, draw walkers, choose and check sets of bodies"),
    "demo": ("Demo", "play one episode with the shipped checkpoint, with a plot and a video"),
    "planners": ("Planners", "list the installed planners and their settings"),
    "doctor": ("Doctor", "say what is installed, what is missing, and what helps"),
}

WITHOUT_SCREEN = frozenset(
    {"collect", "data", "train", "online", "distill", "evaluate", "compare", "study", "experts", "view"}
)
"""Commands that never render. Without this, dm_control looks for a display and warns where there is none."""

USAGE = "usage: tdm COMMAND [options]\n\ncommands:\n" + "".join(
    f"  {name:<10} {what}\n" for name, (_, what) in COMMANDS.items()
)
HINT = (
    "\ntdm COMMAND --help lists the options of a command.\n"
    "--traceback after the command (or TDM_TRACEBACK=1) shows where an error came from.\n"
)
REPORT = (
    "this is a bug of tdm-agents, of a plug-in or of the environment, not a mistake of yours; please report "
    "it with the lines above, the command that you typed, and what `tdm doctor` prints"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command and return the exit status.

    0: done. 1: a bug, shown with its traceback and with what a report of it should contain. 2: a mistake of
    the user, shown in one line on stderr. 130: interrupted. 141: nobody reads the output any more.

    Args:
        argv: Arguments without the program's name; None = those of this process.

    Raises:
        Exception: The mistake itself, where ``--traceback`` or ``TDM_TRACEBACK`` asks for it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE + HINT, end="")
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        print(f"tdm: no command {command!r}{hint}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    wants_traceback = os.environ.get("TDM_TRACEBACK", "") not in ("", "0")
    if "--traceback" in rest:
        wants_traceback = True
        rest = [r for r in rest if r != "--traceback"]
    if command in WITHOUT_SCREEN:
        os.environ.setdefault("MUJOCO_GL", "disable")
    # users are told of settings that they typed by a former name; Python by itself is silent
    warnings.filterwarnings("once", message="setting '", category=DeprecationWarning)
    warnings.formatwarning = _warning_text
    settings: Any = None
    try:
        module = import_module(f"tdm_agents.cli.{command}")
        kind: type[Any] = getattr(module, COMMANDS[command][0])
        settings = tyro.cli(kind, args=rest, prog=f"tdm {command}")
        module.run(settings)
    except KeyboardInterrupt:
        print(
            f"\ntdm {command}: interrupted; what was already written is whole, and the same command "
            "begins again",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        # the reader (head, less) has gone; without this Python complains again while it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        told = mistake(error, rest, settings)
        if told is None:
            traceback.print_exc()
            print(f"tdm {command}: {REPORT}", file=sys.stderr)
            return 1
        if wants_traceback:
            raise
        print(f"tdm {command}: {told}", file=sys.stderr)
        return 2
    return 0


_format_warning = warnings.formatwarning


def _warning_text(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings to a user as one line; others as Python writes them."""
    if issubclass(category, UserWarning) and category.__module__.startswith("tdm_agents."):
        return f"{message}\n"
    return _format_warning(message, category, filename, lineno, line)


if __name__ == "__main__":
    sys.exit(main())
