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
    from tdm_agents.world_models.transformer.model import TransformerWorldModel
    from tdm_agents.world_models.transformer.state import TransformerState


def one_by_one(
    model: TransformerWorldModel, state: TransformerState, hidden: Tensor, uniform: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``n`` forwards of one token a row.

    Args:
        model: Whose scalars.
        state: ``N`` rows, owned, in the step whose observation is written; its observation is the last one.
        hidden: ``[N, d]``, from which the first scalar is read.
        uniform: ``[N, n]`` in [0, 1), to sample with; None otherwise.

    Returns:
        The observation ``[N, n]`` in the environment's units, and the hidden state ``[N, d]`` after it.
    """
    scalars = []
    for i in range(model.layout.observation_dim):
        column = slice(i, i + 1)
        drawn = None if uniform is None else uniform[:, column]
        scalars.append(_read(model, state, hidden[:, None], column, drawn))
        token = model.tokenizer.encode_observation_scalar(i, scalars[-1])
        hidden = model._extend(state, token, offset=i)[:, 0]
    return torch.cat(scalars, dim=1), hidden


def together(
    model: TransformerWorldModel, state: TransformerState, hidden: Tensor, uniform: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Rounds of one forward of ``n`` tokens a row, until no token of any row changes; as :func:`one_by_one`.

    To look whether one has changed makes a GPU wait: there it is looked at from the round on that sufficed in
    the step before, so that one look a step is the rule.
    """
    dim = model.layout.observation_dim
    first = _read(model, state, hidden[:, None], slice(0, 1), None if uniform is None else uniform[:, :1])
    observation = torch.cat([first, state.observation[:, 1:]], dim=1)  # the guess
    tokens = model.tokenizer.encode_observation(observation)  # [N, n]
    others = slice(1, dim)
    drawn = None if uniform is None else uniform[:, others]
    changed: list[Tensor] = []  # whether any token did, a round
    for rounds in range(1, dim + 1):
        if rounds > 1:  # the keys and values of the last guess are written over
            assert state.suffix is not None
            state.suffix.used -= dim
        outputs = model._extend(state, tokens, offset=0, outputs=dim)  # [N, n, d]
        if rounds == dim:
            break
        observation = torch.cat([first, _read(model, state, outputs[:, :-1], others, drawn)], dim=1)
        guess, tokens = tokens, model.tokenizer.encode_observation(observation)
        changed.append((guess != tokens).any())
        if rounds >= state.rounds:
            flags = torch.stack(changed).tolist()
            if not flags[-1]:
                rounds = flags.index(False) + 1
                break
    if tokens.is_cuda:
        state.rounds = rounds
    return observation, outputs[:, -1]


def _read(
    model: TransformerWorldModel,
    state: TransformerState,
    hidden: Tensor,
    columns: slice,
    uniform: Tensor | None,
) -> Tensor:
    """Scalars ``[N, c]`` of some columns, from the hidden states ``[N, c, d]`` before each."""
    value = model._read(hidden, state.centres[columns], uniform)
    return value if model.tokenizer.change is None else state.observation[:, columns] + value
