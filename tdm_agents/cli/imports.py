"""``--import MODULE``: modules that the user vouches for, imported before files name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import tyro

from tdm_agents.environments import import_typed
from tdm_agents.errors import MissingPackageError

Modules = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    tyro.conf.arg(
        name="import",
        metavar="MODULE",
        help="Import a module that registers environments, in the current folder or installed; repeat it for "
        "several. A checkpoint may name one: importing it runs its code, so that you have to.",
    ),
]
"""The type of the option."""


def import_modules(modules: Sequence[str]) -> None:
    """Import what ``--import`` names.

    Raises:
        MissingPackageError: If one is not there or does not import.
    """
    for module in modules:
        try:
            import_typed(module)
        except ImportError as error:
            raise MissingPackageError(
                f"--import {module} cannot be imported ({error}); expected a module that is installed or in "
                "the current folder"
            ) from error
