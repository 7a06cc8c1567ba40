"""The observation scalars of an imagined step, guessed together until nothing changes.

Each scalar is read from a distribution that is conditioned on the scalars before it. Dynamics are nearly
deterministic given observation and action, so that a scalar seldom depends on how finely the others were
guessed: starting from the previous observation, all are evaluated in one forward, read again, and so on (a
Jacobi iteration of the triangular system; Song et al. 2021, arXiv:2002.03629). With the random numbers of the
step fixed beforehand, its fixed point *is* what one after another gives, for sampling, mode and mean alike;
after ``k`` rounds at least ``k + 1`` scalars are final, so ``n`` rounds always suffice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.rows import Rows


def together(decoder: Decoder, rows: Rows, hidden: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rounds of one forward of ``n`` tokens per row, until no token of any row changes.

    Takes and returns what :func:`.sequential.sequential` does. To look whether a token has changed makes a
    GPU wait: there the first look is after as many rounds as sufficed in the step before, so that one look
    per step is the rule.
    """
    dim = decoder.layout.observation_dim
    first, guess = first_guess(decoder, rows, hidden, draws)
    tokens = decoder.tokenizer.encode_observation(guess)  # [N, n]
    changed: list[Tensor] = []  # whether any token did, per round
    while True:
        outputs = decoder.extend(rows, tokens, offset=0, outputs=dim)  # [N, n, d]
        if len(changed) == dim - 1:
            return guess, outputs[:, -1]
        guess = next_guess(decoder, rows, first, outputs, draws)
        before, tokens = tokens, decoder.tokenizer.encode_observation(guess)
        changed.append((before != tokens).any())
        if settled(rows, changed):
            return guess, outputs[:, -1]
        rows.fed(-dim)  # the keys and values of the last guess are written over


def first_guess(decoder: Decoder, rows: Rows, hidden: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first scalar ``[N, 1]``, which is certain; with it, the others as they were, ``[N, n]``."""
    first = decoder.read_scalars(rows, hidden[:, None], slice(0, 1), draws)
    return first, torch.cat([first, rows.observation[:, 1:]], dim=1)


def next_guess(decoder: Decoder, rows: Rows, first: Tensor, outputs: Tensor, draws: Tensor | None) -> Tensor:
    """A better guess ``[N, n]`` from the hidden states ``[N, n, d]`` after the tokens of one."""
    others = decoder.read_scalars(rows, outputs[:, :-1], slice(1, outputs.shape[1]), draws)
    return torch.cat([first, others], dim=1)


def settled(rows: Rows, changed: list[Tensor]) -> bool:
    """Whether the last round changed no token, if it is time to look, which is once per step as a rule.

    Args:
        rows: Their ``rounds`` say when; on a GPU they become those that would have sufficed.
        changed: Whether any token did, per round.
    """
    if len(changed) < rows.rounds:
        return False
    flags = torch.stack(changed).tolist()
    if flags[-1]:
        return False
    if changed[0].is_cuda:
        rows.rounds = flags.index(False) + 1
    return True
