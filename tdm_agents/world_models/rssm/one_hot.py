"""Categorical latents: how they are drawn, how gradients pass through them, how far apart two are."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def likeliest(logits: Tensor) -> Tensor:
    """The most probable class, int64 ``[...]``, of each of the latents ``[..., C]``."""
    return logits.argmax(-1)


def drawn(logits: Tensor, uniform: Tensor) -> Tensor:
    """A class of each latent, drawn from its distribution.

    Args:
        logits: ``[..., C]``.
        uniform: Numbers ``[...]`` in [0, 1), one per latent, which the classes are a function of.

    Returns:
        int64 ``[...]``.
    """
    reached = logits.detach().float().softmax(-1).cumsum(-1)  # [..., C]
    # the last sum is 1 but for rounding; a number beyond it still means the last class
    return (reached[..., :-1] <= uniform[..., None]).sum(-1)


def expected(logits: Tensor) -> Tensor:
    """The mean ``[..., S * C]`` of one-hot latents with the logits ``[..., S, C]``: their probabilities."""
    return logits.float().softmax(-1).flatten(-2)


def straight_through(logits: Tensor, chosen: Tensor) -> Tensor:
    """One-hot latents whose gradient is that of the probabilities (Bengio et al., arXiv:1308.3432).

    Args:
        logits: ``[..., S, C]``.
        chosen: Classes, int64 ``[..., S]``.

    Returns:
        ``[..., S * C]`` float32; NaN where logits are NaN, which must not be hidden behind a class.
    """
    probabilities = logits.float().softmax(-1)
    hard = F.one_hot(chosen, logits.shape[-1]).to(probabilities)
    return (hard + (probabilities - probabilities.detach())).flatten(-2)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """KL(first || second) in nats, summed over the latents.

    Args:
        first: Logits ``[..., S, C]``.
        second: Logits of the same shape.

    Returns:
        ``[...]``.
    """
    log_p, log_q = first.float().log_softmax(-1), second.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum((-2, -1))


def balanced_divergence(
    posterior: Tensor, prior: Tensor, *, balance: float, free_nats: float
) -> tuple[Tensor, Tensor]:
    """The divergence that trains the prior more than the posterior: KL balancing, with free nats.

    Args:
        posterior: Logits ``[R, S, C]``, at least one row.
        prior: Logits ``[R, S, C]``.
        balance: Weight of the gradient into the prior; the posterior's is the rest.
        free_nats: Where the mean over the rows is below, neither side has a gradient.

    Returns:
        The loss, and the mean divergence without a gradient.
    """
    into_prior = divergence(posterior.detach(), prior).mean()
    into_posterior = divergence(posterior, prior.detach()).mean()
    loss = balance * into_prior.clamp(min=free_nats) + (1.0 - balance) * into_posterior.clamp(min=free_nats)
    return loss, into_prior.detach()
