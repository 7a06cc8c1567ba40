"""``tdm``: finds the sub-command's module, lets tyro read its arguments, runs it.

A sub-command is a module of this package with a frozen dataclass of arguments and ``run(arguments)``. Only
the one that was asked for is imported, so that ``tdm planners`` does not wait for the rest.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import tyro

COMMANDS = {
    "collect": ("Collect", "play episodes of an environment into a Minari data set"),
    "train": ("Train", "train a world model on a data set"),
    "evaluate": ("Evaluate", "play episodes on fixed seeds and report return and cost"),
    "compare": ("Compare", "play several contestants on the same seeds: table, JSON, plot"),
    "play": ("Play", "play one episode, with a plot and a video"),
    "experts": ("Experts", "list tuned planners, train policies of Stable-Baselines3"),
    "data": ("Data", "look at data sets: episodes, returns, ranges, as text and as a plot"),
    "envs": ("Envs", "list environments, draw walkers, choose and check sets of bodies"),
    "demo": ("Demo", "play one episode with the shipped checkpoint, with a plot and a video"),
    "planners": ("Planners", "list the installed planners and their settings"),
    "doctor": ("Doctor", "what is installed, what is missing, and what helps"),
}

WITHOUT_SCREEN = frozenset({"collect", "data", "train", "evaluate", "compare", "experts"})
"""Commands that never render; without this dm_control looks for a display and warns where there is none."""

USAGE = "usage: tdm COMMAND [options]\n\ncommands:\n" + "".join(
    f"  {name:<10} {what}\n" for name, (_, what) in COMMANDS.items()
)
HINT = (
    "\ntdm COMMAND --help lists the options of a command.\n"
    "--traceback after the command (or TDM_TRACEBACK=1) shows where an error came from.\n"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; the exit status: 0 done, 2 a mistake (one line on stderr), 130 interrupted.

    Args:
        argv: Arguments without the program's name; None = the process's own.
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
    traceback = os.environ.get("TDM_TRACEBACK", "") not in ("", "0")
    if "--traceback" in rest:
        traceback = True
        rest = [r for r in rest if r != "--traceback"]
    if command in WITHOUT_SCREEN:
        os.environ.setdefault("MUJOCO_GL", "disable")
    try:
        module = import_module(f"tdm_agents.cli.{command}")
        kind: type[Any] = getattr(module, COMMANDS[command][0])
        module.run(tyro.cli(kind, args=rest, prog=f"tdm {command}"))
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
        if traceback or not _is_mistake(error):
            raise
        print(f"tdm {command}: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _is_mistake(error: Exception) -> bool:
    """Whether this is how libraries refuse what a user asked for; a bug keeps its traceback."""
    ours = type(error).__module__.partition(".")[0] in ("tdm_agents", "tdm_planners", "tdm_envs", "gymnasium")
    return ours or isinstance(error, ValueError | LookupError | TypeError | OSError | ImportError)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    # str(KeyError("x")) is "'x'", which says nothing without the kind
    return f"{type(error).__name__}: {text}" if type(error) in (KeyError, IndexError) or not text else text


if __name__ == "__main__":
    sys.exit(main())
