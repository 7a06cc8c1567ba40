"""Completion of ``tdm`` in a shell, which tyro writes from the options of all commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from functools import reduce
from io import StringIO
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import tyro

from tdm_agents.cli.every_command import with_every_option
from tdm_agents.errors import WrongValueError

OPTIONS = ("--tyro-write-completion", "--tyro-print-completion")
"""The options of tyro that write a shell's script into a file, or print it."""


def write_completion(kinds: Mapping[str, type[Any]], words: Sequence[str]) -> None:
    """Do what one of :data:`OPTIONS` says.

    Args:
        kinds: The dataclass of each command's options.
        words: The option, the shell (``bash``, ``zsh``, ``fish``), and the file to write.

    Raises:
        ValueError: If words are missing, or tyro cannot write for the shell.
        OSError: If the file cannot be written.
    """
    option, shell, file = (*words, "", "")[:3]
    if not shell or (option == OPTIONS[0]) != bool(file) or len(words) > 3:
        raise WrongValueError(f"expected tdm {OPTIONS[0]} SHELL FILE, or tdm {OPTIONS[1]} SHELL")
    parts: list[Any] = [
        Annotated[with_every_option(kind), tyro.conf.subcommand(name)] for name, kind in kinds.items()
    ]
    with redirect_stdout(StringIO()) as printed, suppress(SystemExit):
        try:
            tyro.cli(reduce(or_, parts), prog="tdm", args=[OPTIONS[1], shell])
        except (AssertionError, ImportError, NotImplementedError) as error:
            raise WrongValueError(f"completion for {shell!r} cannot be written: {error}") from error
    # tyro's script for bash offers the further lines of a description as if they were options
    script = "".join(
        line.replace("\\n", " ") if line.startswith("COMPLETION_SPEC") else line
        for line in printed.getvalue().splitlines(keepends=True)
    )
    if file:
        Path(file).expanduser().write_text(script)
    else:
        print(script, end="")
