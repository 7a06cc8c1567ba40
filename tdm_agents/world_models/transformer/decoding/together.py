"""Decoding of the observation scalars of an imagined step together, by guesses until nothing changes.

Each scalar is read from a distribution that is conditioned on the scalars before it. Dynamics are nearly
deterministic given observation and action, so a scalar seldom depends on how finely the others were guessed.
Starting from the previous observation, all scalars are evaluated in one forward, read again, and so on (a
Jacobi iteration of the triangular system; Song et al. 2021, arXiv:2002.03629). With the random numbers of the
step fixed beforehand, its fixed point *is* the result of reading one after another, for sampling, mode and
mean alike. After ``k`` rounds at least ``k + 1`` scalars are final, so ``n`` rounds always suffice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.rows import Rows


def together(decoder: Decoder, rows: Rows, hidden: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """Guess in rounds, of one forward of ``n`` tokens per row each, until no token of any row changes.

    Arguments and results are those of :func:`.sequential.sequential`. Checking whether a token has changed
    makes a GPU wait. There the first check comes after as many rounds as sufficed in the previous step, so
    that there is usually one check per step.
    """
    dim = decoder.layout.observation_dim
    first, guess = first_guess(decoder, rows, hidden, draws)
    tokens = decoder.tokenizer.encode_observation(guess)  # [N, n]
    changed: list[Tensor] = []  # per round, whether any token changed
    while True:
        outputs = decoder.extend(rows, tokens, offset=0, outputs=dim)  # [N, n, d]
        if len(changed) == dim - 1:
            return guess, outputs[:, -1]
        guess = next_guess(decoder, rows, first, outputs, draws)
        before, tokens = tokens, decoder.tokenizer.encode_observation(guess)
        changed.append((before != tokens).any())
        if settled(rows, changed):
            return guess, outputs[:, -1]
        rows.fed(-dim)  # the next round overwrites the keys and values of this guess


def first_guess(decoder: Decoder, rows: Rows, hidden: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first scalar ``[N, 1]``, which is final, and a guess ``[N, n]`` with the others unchanged."""
    first = decoder.read_scalars(rows, hidden[:, None], slice(0, 1), draws)
    return first, torch.cat([first, rows.observation[:, 1:]], dim=1)


def next_guess(decoder: Decoder, rows: Rows, first: Tensor, outputs: Tensor, draws: Tensor | None) -> Tensor:
    """A better guess ``[N, n]``, from the hidden states ``[N, n, d]`` after the tokens of the last one."""
    others = decoder.read_scalars(rows, outputs[:, :-1], slice(1, outputs.shape[1]), draws)
    return torch.cat([first, others], dim=1)


def settled(rows: Rows, changed: list[Tensor]) -> bool:
    """Whether the last round changed no token; False without a check where it is too early for one.

    Args:
        rows: The rows, whose ``rounds`` say when to check; on a GPU ``rounds`` becomes the number of rounds
            that would have sufficed.
        changed: Per round, whether any token changed.
    """
    if len(changed) < rows.rounds:
        return False
    flags = torch.stack(changed).tolist()
    if flags[-1]:
        return False
    if changed[0].is_cuda:
        rows.rounds = flags.index(False) + 1
    return True
