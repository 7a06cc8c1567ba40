"""``tdm``: finds the sub-command's module, lets tyro read its arguments, runs it, and says what went wrong.

A sub-command is a module of this package with a frozen dataclass of arguments and ``run(arguments)``. Only
the requested one is imported, so that ``tdm planners`` does not wait for the others. Nothing that is slow to
import is needed to read arguments: where a module needs such things, its dataclass is in a module of its own.
"""

from __future__ import annotations

import difflib
import logging
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any

import tyro

from tdm_agents.cli import completion, config_file
from tdm_agents.cli.every_command import taken_out, with_every_option, without_them
from tdm_agents.cli.refusals import mistake
from tdm_agents.cli.speaking import speaking
from tdm_agents.errors import TDMError

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
    "serve": ("Serve", "decide for many robots or environments, over a socket"),
    "experts": ("Experts", "list tuned planners, train policies of Stable-Baselines3"),
    "data": ("Data", "look at data sets: episodes, returns, ranges, as text and as a plot"),
    "envs": ("Envs", "list environments, draw walkers, choose and check sets of bodies"),
    "demo": ("Demo", "play one episode with the shipped checkpoint, with a plot and a video"),
    "planners": ("Planners", "list the installed planners and their settings"),
    "doctor": ("Doctor", "say what is installed, what is missing, and what helps"),
}

OPTIONS_APART = frozenset({"collect", "train", "online", "distill"})
"""Commands whose dataclass of arguments is in the module ``NAME_options``."""

WITHOUT_SCREEN = frozenset(
    {
        "collect",
        "data",
        "train",
        "online",
        "distill",
        "evaluate",
        "compare",
        "study",
        "experts",
        "view",
        "serve",
    }
)
"""Commands that never render. Without this, dm_control looks for a display and warns where there is none."""

USAGE = "usage: tdm COMMAND [options]\n\ncommands:\n" + "".join(
    f"  {name:<10} {what}\n" for name, (_, what) in COMMANDS.items()
)
HINT = (
    "\ntdm COMMAND --help lists the options of a command; every one has --config FILE (options as YAML),\n"
    "--quiet, --verbose and --traceback.\n"
    "tdm --version tells the version.\n"
    "tdm --tyro-write-completion SHELL FILE writes what bash, zsh or fish needs to complete commands.\n"
)
REPORT = (
    "this is a bug of tdm-agents, of a plug-in or of the environment, not a mistake of yours; please report "
    "it with the lines above, the command that you typed, and what `tdm doctor` prints"
)

_LOG = logging.getLogger("tdm_agents")


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
    if command == "--version":
        print(f"tdm-agents {_version()}")
        return 0
    if command.replace("_", "-") in completion.OPTIONS:
        try:
            completion.write_completion({name: options_of(name) for name in COMMANDS}, arguments)
        except (TDMError, OSError) as error:
            print(f"tdm: {error}", file=sys.stderr)
            return 2
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, [*COMMANDS, "--version", "--help"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        print(f"tdm: no command {command!r}{hint}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    if command in WITHOUT_SCREEN:
        os.environ.setdefault("MUJOCO_GL", "disable")
    # users are told of settings that they typed by a former name; Python by itself is silent
    warnings.filterwarnings("once", message="setting '", category=DeprecationWarning)
    warnings.formatwarning = _warning_text
    return _run(command, rest)


def options_of(command: str) -> type[Any]:
    """The dataclass of a command's arguments."""
    module = f"{command}_options" if command in OPTIONS_APART else command
    kind: type[Any] = getattr(import_module(f"tdm_agents.cli.{module}"), COMMANDS[command][0])
    return kind


def _version() -> str:
    return metadata.version("tdm-agents")


def _tell_settings(command: str, settings: Any) -> None:
    _LOG.info("tdm-agents %s, Python %s: tdm %s", _version(), platform.python_version(), command)
    for line in config_file.config_lines(settings):
        _LOG.info("  %s", line)


def _run(command: str, words: Sequence[str]) -> int:
    """Run a command, and return the exit status."""
    wants_traceback = "--traceback" in words or os.environ.get("TDM_TRACEBACK", "") not in ("", "0")
    settings: Any = None
    try:
        every, rest = taken_out(words)
        with speaking(every):
            kind = options_of(command)
            if every.config is not None:
                rest = config_file.words_of(every.config, kind, rest, command)
            read = tyro.cli(with_every_option(kind), args=rest, prog=f"tdm {command}")
            settings = without_them(read, kind)
            if every.verbose:
                _tell_settings(command, settings)
            import_module(f"tdm_agents.cli.{command}").run(settings)
    except KeyboardInterrupt:
        return _interrupted(command)
    except BrokenPipeError:
        # the reader (head, less) has gone; without this Python complains again while it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if _comes_of_ctrl_c(error):
            return _interrupted(command)
        told = mistake(error, words, settings)
        if told is None:
            traceback.print_exc()
            print(f"tdm {command}: {REPORT}", file=sys.stderr)
            return 1
        if wants_traceback:
            raise
        print(f"tdm {command}: {told}", file=sys.stderr)
        return 2
    return 0


def _comes_of_ctrl_c(error: BaseException | None) -> bool:
    """Whether an error says that Ctrl-C caused it, as an import of a library in C++ does."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def _interrupted(command: str) -> int:
    print(
        f"\ntdm {command}: interrupted; what was already written is whole, and the same command begins again",
        file=sys.stderr,
    )
    return 130


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
