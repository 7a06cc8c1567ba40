"""``--import MODULE``: modules that the user trusts, imported before files name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import tyro

from tdm_agents.errors import MissingPackageError
from tdm_agents.typed_modules import import_typed

Modules = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    tyro.conf.arg(
        name="import",
        metavar="MODULE",
        help="Import a module that registers environments or holds a reward function, in the current folder "
        "or installed; repeat the option for several. Importing runs code, so a module that only a "
        "checkpoint names has to be named here too.",
    ),
]
"""The type of the option."""


def import_modules(modules: Sequence[str]) -> None:
    """Import what ``--import`` names.

    Raises:
        MissingPackageError: If one is not there or lacks something that it imports.
    """
    for module in modules:
        try:
            import_typed(module)
        except ImportError as error:
            raise MissingPackageError(
                f"--import {module}: {error}; install it, or run the command in its folder"
            ) from error


def initializer(modules: Sequence[str]) -> Callable[[], None]:
    """What a worker process does first: it computes with one thread, and imports what ``--import`` names."""
    return partial(_begin, tuple(modules))


def _begin(modules: tuple[str, ...]) -> None:
    from tdm_agents.collection.workers import one_thread

    one_thread()
    import_modules(modules)
