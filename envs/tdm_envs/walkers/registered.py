"""The classes behind the four Gymnasium ids: walkers of the family that the id names, and of no other."""

from __future__ import annotations

from typing import Any, ClassVar

from tdm_envs.mistakes import EnvsValueError
from tdm_envs.walkers.env import WalkerEnv
from tdm_envs.walkers.families import FAMILIES


class _OneFamily(WalkerEnv):
    """A :class:`~tdm_envs.walkers.env.WalkerEnv`; another ``family`` than its own raises ``ValueError``."""

    _family: ClassVar[str]

    def __init__(self, family: str, **settings: Any) -> None:
        if family != self._family:
            ids = ", ".join(f"tdm/Walker{known.capitalize()}-v0" for known in FAMILIES)
            raise EnvsValueError(
                f"family is {family!r}; expected {self._family!r}, which the id says already: leave it out, "
                f"or make the id of the other family ({ids})"
            )
        super().__init__(family, **settings)


class LineWalker(_OneFamily):
    """``tdm/WalkerLine-v0``."""

    _family = "line"


class ChainWalker(_OneFamily):
    """``tdm/WalkerChain-v0``."""

    _family = "chain"


class BushWalker(_OneFamily):
    """``tdm/WalkerBush-v0``."""

    _family = "bush"


class TreeWalker(_OneFamily):
    """``tdm/WalkerTree-v0``."""

    _family = "tree"
