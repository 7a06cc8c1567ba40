"""What an environment of dm_control is answered with where dm_control is not installed: why, and what helps.

dm_control requires labmaze, of which there are no wheels for Python 3.13 and newer. So this project asks for
dm_control on Python 3.11 and 3.12 alone. Its suite never imports labmaze.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any, Final, NoReturn

from tdm_envs.mistakes import EnvsError

PYTHON = sys.version_info[:2]
LAST_WITH_WHEELS: Final = (3, 12)
"""The last Python for which labmaze has wheels."""

WITHOUT_LABMAZE: Final = (
    "pip install dm-env dm-tree glfw lxml protobuf pyopengl pyparsing requests scipy tqdm",
    "pip install --no-deps dm-control shimmy",
)
"""Commands that install the suite without labmaze."""


class DmControlMissingError(EnvsError, ImportError):
    """An environment of dm_control was asked for, and dm_control or Shimmy is not installed."""


def is_installed() -> bool:
    """Whether dm_control and Shimmy are installed."""
    try:
        return find_spec("dm_control") is not None and find_spec("shimmy") is not None
    except ModuleNotFoundError:  # of an importer that refuses them
        return False


def refuse(env_id: str, **settings: Any) -> NoReturn:
    """Stand for an environment of dm_control that cannot be made.

    Args:
        env_id: Its id.
        settings: What it would be made with; not read.

    Raises:
        DmControlMissingError: Always; it says why dm_control is not installed, and what installs it.
    """
    if PYTHON <= LAST_WITH_WHEELS:
        raise DmControlMissingError(
            f"{env_id} needs dm_control and Shimmy, which are not both installed; "
            "pip install 'shimmy[dm-control]' dm-control"
        )
    raise DmControlMissingError(
        f"{env_id} needs dm_control, which is not installed with Python 3.13 or newer (this is "
        f"{'.'.join(map(str, PYTHON))}), since it requires labmaze, which has no wheel for them; use Python "
        "3.12, or install the suite without labmaze, which it does not use: "
        f"{' && '.join(WITHOUT_LABMAZE)}"
    )
