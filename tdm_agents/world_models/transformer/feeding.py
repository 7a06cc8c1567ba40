"""One forward of new tokens through the network, against the cache of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork
from tdm_agents.world_models.transformer.seen import Sight

if TYPE_CHECKING:
    from tdm_agents.protocols import Step


class Rows(Protocol):
    """``N`` rows that tokens are fed to: they know what is cached, and what is seen of it.

    Attributes:
        observation: ``[N, n]``, of the last whole step.
        reward: ``[N]`` int64, the token of the reward that came with it.
        centres: ``[n + 1, bins]``: what each output bin stands for, observation scalars, then the reward.
        rounds: Of guesses after which it is looked whether scalars have changed, with parallel decoding.
    """

    observation: Tensor
    reward: Tensor
    centres: Tensor
    rounds: int

    def look(
        self, network: TransformerNetwork, layout: StepLayout, context_steps: int, *, offset: int, chunk: int
    ) -> Sight:
        """What ``chunk`` tokens at ``offset`` of the present step see."""
        ...

    def fed(self, chunk: int) -> None:
        """Note that so many tokens joined the cache; fewer than 0 leave it again."""
        ...

    def advance(self) -> None:
        """Go on to the next step: reward, separator and action of this one have been fed."""
        ...

    def keep(self, step: Step, reward: Tensor) -> None:
        """Stand after a step, with the token ``[N]`` of its reward."""
        ...


def feed(
    network: TransformerNetwork,
    layout: StepLayout,
    context_steps: int,
    rows: Rows,
    tokens: Tensor,
    *,
    offset: int,
    outputs: int = 1,
) -> Tensor:
    """Feed tokens of the rows' present step; their keys and values join the cache.

    Everything that decides which keys are read is a counter: no data, no synchronisation.

    Args:
        network: Whose weights.
        layout: Of its environment.
        context_steps: Attention band.
        rows: ``N`` of them, owned by the caller.
        tokens: ``[N, c]`` int64, next to each other in one decision step.
        offset: Of the first of them in that step.
        outputs: Of how many of the last tokens the hidden state is wanted.

    Returns:
        ``[N, outputs, d]``, normalised.
    """
    count, chunk = tokens.shape
    seen = rows.look(network, layout, context_steps, offset=offset, chunk=chunk)
    start = layout.position(offset)
    x = network.token(tokens) + network.position.weight[start : start + chunk]  # [N, c, d]
    last = len(network.blocks) - 1
    for index, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        x = seen.through(index, block, x, outputs if index == last else chunk)
    rows.fed(chunk)
    normal: Tensor = network.norm(x)
    return normal.view(count, outputs, -1)
