"""The observation scalars of an imagined step: one after another, or guessed together until nothing changes.

Each scalar is read from a distribution that is conditioned on the scalars before it. Dynamics are nearly
deterministic given observation and action, so that a scalar seldom depends on how finely the others were
guessed: starting from the previous observation, all are evaluated in one forward, read again, and so on (a
Jacobi iteration of the triangular system; Song et al. 2021, arXiv:2002.03629). With the random numbers of the
step fixed beforehand, its fixed point *is* what one after another gives, for sampling, mode and mean alike;
after ``k`` rounds at least ``k + 1`` scalars are final, so ``n`` rounds always suffice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tdm_agents.world_models.transformer.feeding import Rows
    from tdm_agents.world_models.transformer.model import TransformerWorldModel


def one_by_one(
    model: TransformerWorldModel, rows: Rows, hidden: Tensor, uniform: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``n`` forwards of one token a row.

    Args:
        model: Whose scalars.
        rows: ``N`` of them, in the step whose observation is written; their observation is the last one.
        hidden: ``[N, d]``, from which the first scalar is read.
        uniform: ``[N, n + 2]`` in [0, 1), to sample with; None otherwise.

    Returns:
        The observation ``[N, n]`` in the environment's units, and the hidden state ``[N, d]`` after it.
    """
    scalars = []
    for i in range(model.layout.observation_dim):
        scalars.append(_read(model, rows, hidden[:, None], slice(i, i + 1), uniform))
        token = model.tokenizer.encode_observation_scalar(i, scalars[-1])
        hidden = model._extend(rows, token, offset=i)[:, 0]
    return torch.cat(scalars, dim=1), hidden


def together(
    model: TransformerWorldModel, rows: Rows, hidden: Tensor, uniform: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Rounds of one forward of ``n`` tokens a row, until no token of any row changes; as :func:`one_by_one`.

    To look whether one has changed makes a GPU wait: there it is looked at from the round on that sufficed in
    the step before, so that one look a step is the rule.
    """
    dim = model.layout.observation_dim
    first, guess = first_guess(model, rows, hidden, uniform)
    tokens = model.tokenizer.encode_observation(guess)  # [N, n]
    changed: list[Tensor] = []  # whether any token did, a round
    while True:
        outputs = model._extend(rows, tokens, offset=0, outputs=dim)  # [N, n, d]
        if len(changed) == dim - 1:
            return guess, outputs[:, -1]
        guess = next_guess(model, rows, first, outputs, uniform)
        before, tokens = tokens, model.tokenizer.encode_observation(guess)
        changed.append((before != tokens).any())
        if settled(rows, changed):
            return guess, outputs[:, -1]
        rows.fed(-dim)  # the keys and values of the last guess are written over


def first_guess(
    model: TransformerWorldModel, rows: Rows, hidden: Tensor, uniform: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The first scalar ``[N, 1]``, which is certain; with it, the others as they were, ``[N, n]``."""
    first = _read(model, rows, hidden[:, None], slice(0, 1), uniform)
    return first, torch.cat([first, rows.observation[:, 1:]], dim=1)


def next_guess(
    model: TransformerWorldModel, rows: Rows, first: Tensor, outputs: Tensor, uniform: Tensor | None
) -> Tensor:
    """A better guess ``[N, n]`` from the hidden states ``[N, n, d]`` after the tokens of one."""
    others = _read(model, rows, outputs[:, :-1], slice(1, outputs.shape[1]), uniform)
    return torch.cat([first, others], dim=1)


def settled(rows: Rows, changed: list[Tensor]) -> bool:
    """Whether the last round changed no token, if it is time to look, which is once a step as a rule.

    Args:
        rows: Whose ``rounds`` say when; on a GPU they become those that would have sufficed.
        changed: Whether any token did, a round.
    """
    if len(changed) < rows.rounds:
        return False
    flags = torch.stack(changed).tolist()
    if flags[-1]:
        return False
    if changed[0].is_cuda:
        rows.rounds = flags.index(False) + 1
    return True


def _read(
    model: TransformerWorldModel, rows: Rows, hidden: Tensor, columns: slice, uniform: Tensor | None
) -> Tensor:
    """Scalars ``[N, c]`` of some columns, from the hidden states ``[N, c, d]`` before each."""
    drawn = None if uniform is None else uniform[:, columns]
    value = model._read(hidden, rows.centres[columns], drawn)
    return value if model.tokenizer.change is None else rows.observation[:, columns] + value
