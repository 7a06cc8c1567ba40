"""``benchmarks/lines_to_read.py``: what is counted, and that it finds what it follows."""

import json
import subprocess
import sys

import pytest

import lines_to_read

SOURCE = '''
"""A module."""
import os

FIRST = 1


class Kind:
    """A class."""

    size: int = 0

    @property
    def one(self):
        """Three lines: this is none of them.

        Nor this.
        """
        # nor this

        return 1

    def other(self):
        return [x for x in range(3)]


def outer():
    def inner():
        return (
            1
        )
    return inner
'''


def line(text):
    return SOURCE.splitlines().index(text) + 1


@pytest.mark.parametrize(
    ("entered", "lines"),
    [
        ([], {}),
        (["    @property"], {"Kind.one": 3}),
        (["        return [x for x in range(3)]"], {"Kind.other": 2}),
        (["    def inner():"], {"outer": 6}),
        (["def outer():", "    def inner():", "    def other(self):"], {"outer": 6, "Kind.other": 2}),
        (['"""A module."""'], {}),
    ],
)
def test_lines_of_entered_functions_are_counted_once_without_docstrings(entered, lines):
    assert lines_to_read.functions(SOURCE, {line(text) for text in entered}) == lines


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("imagined step", "TokenModel.step"),
        pytest.param("training batch", "WindowSampler.batch", marks=pytest.mark.slow),
        pytest.param("collected episode", "write_shard", marks=pytest.mark.slow),  # by the worker
    ],
)
def test_names_are_where_it_looks_for_them(name, function):
    words = [sys.executable, lines_to_read.__file__, "--follow", name]
    found = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert any(function in module for module in found.values())
    assert all(count > 0 for module in found.values() for count in module.values())
