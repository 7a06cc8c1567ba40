"""Models with random weights, and random histories and actions: speed does not depend on their values."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from speed.roofline import DecisionShape
from tdm_agents.protocols import History, ModelSpec
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

_SEED = 0


def random_model(
    shape: DecisionShape, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TransformerWorldModel:
    """A transformer of these sizes with random weights, which imagines with the numbers that it has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)  # modules draw their first weights from the global generator
        spec = ModelSpec(
            observation_space=spaces.Box(-np.inf, np.inf, (shape.observation_dim,)),
            action_space=spaces.Box(-1.0, 1.0, (shape.action_dim,)),
            observation_dim=shape.observation_dim,
            action_dim=shape.action_dim,
        )
        model = TransformerWorldModel(spec, shape.config)
    generator = torch.Generator().manual_seed(_SEED)
    data = torch.randn((4096, shape.observation_dim), generator=generator)
    model.tokenizer.fit(data, 0.1 * data, data[:, 0])
    return model.with_decoding(bf16=False).eval().to(device, dtype)


def random_history(shape: DecisionShape, *, device: torch.device | str = "cpu") -> History:
    """Random histories of ``B`` environments over ``T`` steps."""
    generator = torch.Generator().manual_seed(_SEED)
    batch, steps = shape.batch, shape.history_steps
    return History(
        observation=torch.randn((batch, steps, shape.observation_dim), generator=generator).to(device),
        reward=torch.rand((batch, steps), generator=generator).to(device),
        action=_actions((batch, steps - 1, shape.action_dim), generator).to(device),
        length=torch.full((batch,), steps, device=device),
    )


def random_actions(shape: DecisionShape, *, device: torch.device | str = "cpu") -> Tensor:
    """Random actions of the candidates, ``[N, H, m]``."""
    generator = torch.Generator().manual_seed(_SEED)
    return _actions((shape.rows, shape.horizon, shape.action_dim), generator).to(device)


def with_rounds(model: TransformerWorldModel, rounds: float) -> TransformerWorldModel:
    """The same weights, decoding in parallel, with guesses that settle after ``rounds`` rounds on average.

    The number of rounds depends on what a model has learnt; random weights hardly settle. Here the tokens of
    a step's last round are those of the round before, and everything else is done as usual.

    Args:
        model: Any transformer.
        rounds: Average number of rounds per step, from 1 to ``n``.
    """
    config = model.with_decoding(parallel=True).config
    other = TransformerWorldModel(model.spec, config, model.network)
    other.tokenizer = _SettlingTokenizer(model.tokenizer, rounds).to(model.spec.device)
    return other.eval()


class _SettlingTokenizer(Tokenizer):
    """A tokenizer that repeats the tokens of the previous round where guesses have to settle."""

    def __init__(self, tokenizer: Tokenizer, rounds: float) -> None:
        choices = tokenizer.action_choices
        super().__init__(tokenizer.config, tokenizer.observation_dim, tokenizer.action_dim, choices)
        self.load_state_dict(tokenizer.state_dict())
        self._rounds = rounds
        self._steps = self._round = 0
        self._last: Tensor | None = None

    def encode_observation(self, value: Tensor) -> Tensor:
        tokens = super().encode_observation(value)
        if value.ndim != 2:  # a history
            return tokens
        wanted = int((self._steps + 1) * self._rounds) - int(self._steps * self._rounds)
        if self._round == min(wanted, self.observation_dim - 1):  # the step's last; all scalars are final
            self._steps, self._round = self._steps + 1, 0
            return tokens if wanted == self.observation_dim or self._last is None else self._last
        self._round, self._last = self._round + 1, tokens
        return tokens


def _actions(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1
