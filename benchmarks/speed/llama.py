"""A Llama of the ``transformers`` library, with the same shape and the library's own cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from speed.caches import history_tokens, sampled
from speed.roofline import DecisionShape
from tdm_agents.protocols import History
from tdm_agents.world_models.transformer.model import TransformerWorldModel


class Llama:
    """A Llama with random weights, and the same number of blocks and heads and the same widths.

    The history is encoded once and its cache is repeated for every candidate; reward, separator and action
    are fed together. Where the attention band slides, it is a Mistral, which is a Llama with a sliding
    window.

    Args:
        model: The model whose tokens, device and dtype are used.
        shape: Shape of the decision.

    Raises:
        ImportError: If ``transformers`` is not installed; the message says how.
    """

    def __init__(self, model: TransformerWorldModel, shape: DecisionShape) -> None:
        kinds = require_transformers()
        config, layout = shape.config, shape.layout
        window = shape.band_steps * layout.tokens
        longest = shape.prefix_tokens + shape.horizon * layout.tokens
        sizes = {
            "vocab_size": config.tokenizer.bins + 2,
            "hidden_size": config.width,
            "intermediate_size": config.feedforward,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.heads,
            "max_position_embeddings": longest,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # modules draw their first weights from the global generator
            if longest > window:
                made = kinds.MistralForCausalLM(kinds.MistralConfig(sliding_window=window, **sizes))
            else:
                made = kinds.LlamaForCausalLM(kinds.LlamaConfig(**sizes))
        weight = model.network.head.weight
        self._llama: Any = made.eval().to(weight.device, weight.dtype)
        self._new_cache = kinds.DynamicCache
        self._model, self._shape = model, shape

    @torch.no_grad()
    def imagine(self, history: History, actions: Tensor, *, generator: torch.Generator) -> Iterator[Tensor]:
        """The observations ``[N, n]`` of one imagined step at a time; see :mod:`speed.caches`."""
        shape, model = self._shape, self._model
        cache = self._new_cache(config=self._llama.config)
        self._llama(history_tokens(model, history), past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(len(actions) // history.batch)
        bins = shape.config.tokenizer.bins

        def extend(tokens: Tensor, offset: int, time: int) -> Tensor:
            logits: Tensor = self._llama(tokens, past_key_values=cache, logits_to_keep=1).logits
            return logits[:, -1, :bins].float()

        yield from sampled(model, history, actions, extend, generator=generator)


def require_transformers() -> Any:
    """The ``transformers`` library.

    Raises:
        ImportError: If it is not installed; the message says how.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "transformers is not installed, so there is no Llama to compare with: "
            "pip install 'tdm-agents[bench]', or leave it out with --without transformers"
        ) from error
    return transformers
