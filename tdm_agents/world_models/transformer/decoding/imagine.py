"""One imagined transition, whose observation is decoded by the strategy in the options."""

from __future__ import annotations

from torch import Tensor

from tdm_agents.protocols import Step
from tdm_agents.world_models.transformer.decoding.decoder import Decoder
from tdm_agents.world_models.transformer.decoding.rows import Rows
from tdm_agents.world_models.transformer.decoding.sequential import sequential
from tdm_agents.world_models.transformer.decoding.together import together
from tdm_agents.world_models.transformer.decoding.whole_steps import whole_step


def imagine(decoder: Decoder, rows: Rows, action: Tensor, draws: Tensor | None) -> Step:
    """Imagine one transition of rows whose buffers may be written to.

    Args:
        decoder: The decoder that reads and feeds.
        rows: ``N`` rows.
        action: ``[N, m]``, the action of each row.
        draws: Random numbers from :meth:`Decoder.draws`.
    """
    if decoder.layout.whole:
        return whole_step(decoder, rows, action, draws)
    hidden = decoder.act(rows, action)
    parallel = decoder.options.parallel
    if parallel is None:
        parallel = len(hidden) == 1 and hidden.device.type == "cpu"
    write = together if parallel else sequential
    observation, hidden = write(decoder, rows, hidden, draws)
    return decoder.arrive(rows, observation, hidden, draws)
