"""Markdown pages for tests: their blocks, commands and links, and comparison of shown with real output.

In shown output ``...`` stands for any text (on a line of its own, for any lines), and ``~1.5`` for a number
within five per cent of it.
"""

import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import tyro

from tdm_agents.cli.every_command import taken_out
from tdm_agents.cli.main import main, options_of

SHARE = 0.05  # largest relative difference of a marked number

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\w+\.py)\n")
_ANYTHING = re.compile(r"^\.\.\.\n|\.\.\.|~(-?\d[\d,]*(?:\.\d+)?)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page on which its fence is."""

    language: str
    source: str
    line: int


def blocks(text, *languages):
    """The fenced blocks in these languages, or all."""
    found = [Block(m.group(1), m.group(2), text[: m.start()].count("\n") + 1) for m in _FENCE.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def sources(text, language):
    return [block.source for block in blocks(text, language)]


def commands(text, name):
    """The commands of a program in shell blocks, as words without comments."""
    lines = [line for source in sources(text, "bash") for line in source.replace("\\\n", " ").splitlines()]
    lines += [line for block in blocks(text, "console") for line, _ in shown_commands(block)]
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words and words[0] == name]


def mentioned(text, name):
    """The commands in running text, such as `tdm planners`; a name in capitals is a placeholder."""
    return [shlex.split(found) for found in re.findall(rf"`({name} [a-z][^`]*)`", text)]


def shown_commands(block):
    """The commands of a ``console`` block, which follow ``$``, and the output below each."""
    parts = re.split(r"^\$ (.*)\n", block.source.replace("\\\n", " "), flags=re.MULTILINE)
    assert not parts[0], f"line {block.line}: a console block begins with a command, after $"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def assert_parses(words):
    """Assert that ``tdm COMMAND ...`` takes these options."""
    _, command, *options = words
    kind = options_of(command)
    every, rest = taken_out(options)
    if every.config is None:  # a file that is written when the page runs
        assert isinstance(tyro.cli(kind, args=rest), kind)


def linked_files(text):
    """The files in the repository to which links lead."""
    return [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)#][^)]*)\)", text)]


def run_page(path):
    """Run a page, block after block in one namespace, and compare the output that it shows.

    ``python`` blocks are executed, and the ``text`` block that follows shows what they print; one that begins
    with a file's name, as in ``# mydrive.py``, is that file in the current folder instead. The commands of
    ``console`` blocks are run in this process. Other languages are not run.
    """
    names = {"__name__": path.stem}
    printed = None
    for block in blocks(path.read_text()):
        where = f"{path.name}, line {block.line}"
        if block.language == "python" and (file := _FILE.match(block.source)):
            Path(file.group(1)).write_text(block.source)
        elif block.language == "python":
            assert not printed, f"{where}: the block before printed what the page does not show:\n{printed}"
            printed = _executed(block, path, names)
        elif block.language == "text":
            assert printed is not None, f"{where}: no python block before it"
            assert_shown(block.source, printed, where)
            printed = None
        elif block.language == "console":
            for command, shown in shown_commands(block):
                assert_shown(shown, _command_output(command), f"{where}: {command}")
    assert not printed, f"{path.name}: the last block printed what the page does not show:\n{printed}"
    return names


def assert_shown(shown, printed, where):
    """Assert that the output that a page shows is what was printed."""
    shown, printed = (
        "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines()) for text in (shown, printed)
    )
    pattern, about, end = "", [], 0
    for mark in _ANYTHING.finditer(shown):
        pattern += re.escape(shown[end : mark.start()])
        end = mark.end()
        if mark.group(1):
            about.append(mark.group(1))
            pattern += r"(-?\d[\d,]*(?:\.\d+)?)"
        else:
            pattern += r"(?:.*\n)*?" if mark.group().endswith("\n") else r".*?"
    found = re.fullmatch(pattern + re.escape(shown[end:]), printed)
    assert found, f"{where} shows\n{shown}and not what was printed:\n{printed}"
    for expected, number in zip(about, found.groups(), strict=True):
        value, wanted = (float(n.replace(",", "")) for n in (number, expected))
        assert value == pytest.approx(wanted, rel=SHARE), f"{where}: {number}, and not about {expected}"


def _executed(block, path, names):
    # preceded by as many empty lines as on the page, so that a traceback has the page's line number
    code = compile("\n" * block.line + block.source, str(path), "exec")
    with redirect_stdout(StringIO()) as output:
        exec(code, names)
    return output.getvalue()


def _command_output(command):
    program, *words = shlex.split(command, comments=True)
    assert program == "tdm", f"{command}: only tdm is run here; show others in a bash block"
    with redirect_stdout(StringIO()) as output, redirect_stderr(output):
        status = main(words)
    assert status == 0, f"{command} ended with {status}:\n{output.getvalue()}"
    return output.getvalue()
