"""The layout of the tokens of a trajectory.

A decision step is ``o_1 .. o_n, r, SEP, a_1 .. a_m`` (2305.10912, figure 2): ``n + m + 2`` tokens. Read from
left to right the same weights answer ``(h, o) -> r`` (reward model), ``(h, o, r) -> a`` (behaviour cloning)
and ``(h, o, r, a) -> o'`` (dynamics).

Where steps are whole (:mod:`.step_model`), the tokens of a step see each other. Then the token of ``o_i``
predicts scalar ``i`` of the next observation and SEP the reward that comes with it, so that all are known
after one forward; nothing predicts actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tdm_agents.errors import WrongValueError


@dataclass(frozen=True, slots=True)
class StepLayout:
    """The tokens of one decision step of an environment with ``(n, m)``.

    Position embeddings are shared by environments of different sizes. Observation scalar ``i`` has position
    ``i``, or the place of its name where scalars have names, and the positions of reward, separator and
    actions come after the largest observation.

    Attributes:
        observation_dim: ``n``.
        action_dim: ``m``.
        max_observation: Largest ``n`` that the network has positions for.
        places: Position of each observation scalar; empty for 0 to ``n - 1``.
        whole: Whether the tokens of a step see each other, and predict the next observation all at once.
    """

    observation_dim: int
    action_dim: int
    max_observation: int
    places: tuple[int, ...] = ()
    whole: bool = False

    @property
    def tokens(self) -> int:
        """``n + m + 2``."""
        return self.observation_dim + self.action_dim + 2

    @property
    def chunk(self) -> int:
        """``m + 2``, the number of tokens of reward, separator and action, which are known together."""
        return self.action_dim + 2

    @property
    def acting(self) -> int:
        """Offset of the first token that is fed together with an action; the tokens before it were fed."""
        return 0 if self.whole else self.observation_dim

    def positions(self, device: torch.device | None = None) -> Tensor:
        """The position of each token inside its step, ``[tokens]`` int64."""
        observation = self.places or range(self.observation_dim)
        rest = range(self.max_observation, self.max_observation + self.chunk)
        return torch.tensor([*observation, *rest], device=device)

    def position(self, offset: int) -> int:
        """The position of the token at ``offset`` of its step."""
        behind = offset - self.observation_dim
        if behind >= 0:
            return self.max_observation + behind
        return self.places[offset] if self.places else offset


def context_steps(context: int, layout: StepLayout) -> int:
    """The whole steps that a band of ``context`` tokens holds, at least two: a transition spans two.

    Raises:
        ValueError: If not even one step fits.
    """
    if context < layout.tokens:
        raise WrongValueError(
            f"context of {context} tokens holds not even one step of {layout.tokens} tokens "
            f"(n={layout.observation_dim}, m={layout.action_dim}); use a preset with a larger context"
        )
    return max(2, context // layout.tokens)
