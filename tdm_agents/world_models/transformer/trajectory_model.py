"""The Trajectory Transformer (Janner et al. 2021, arXiv:2106.02039): with a return to go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from tdm_agents.protocols import Preset
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.state import TransformerState
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.presets import CONFIGS
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

DISCOUNT = 0.99
"""Factor per decision on later rewards, of returns and of the search."""

# 4 layers of 4 x 32, 100 bins of equal counts, actions weigh 5, ten steps of Hopper's 16 tokens. Its
# feedforward layers have 512 units of GELU; 344 gated ones are as many weights.
_PAPER = TransformerConfig(
    layers=4,
    width=128,
    heads=4,
    feedforward=344,
    context=160,
    action_weight=5.0,
    reward_dropout=0.0,
    dropout=0.1,
    tokenizer=TokenizerConfig(observation="equal_counts", target="absolute", bins=100, reward_to_go=DISCOUNT),
)
# changes are learned faster than values; the search tries what the model does, so actions weigh in full
_SMALL = replace(
    CONFIGS["small"],
    dropout=0.1,
    action_weight=1.0,
    tokenizer=TokenizerConfig(observation="equal_counts", bins=256, reward_to_go=DISCOUNT),
)
_SEARCH = {"level": "token", "num_expand": 2, "discount": DISCOUNT}


class TrajectoryTransformer(TransformerWorldModel):
    """A transformer that predicts, beside each reward, the return of the rest of the episode.

    That return is the value of a state for planners: what the behaviour in the data earns from there on,
    discounted by ``tokenizer.reward_to_go``. It is the mean of a predicted distribution over bins, as in the
    paper (section 3.2). There the return is a token that later tokens do not see, and here it is no token at
    all: an output layer of its own reads it where the observation is complete, before the reward is known.
    There is one output layer for all dimensions, and none of the weights of attention are dropped.

    An episode that was cut off counts as if nothing came after it.
    """

    kind: ClassVar[str] = "trajectory_transformer"
    returns: ClassVar[bool] = True

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """A small one, and the paper's sizes, bins and search."""
        return {
            "small": Preset(
                _SMALL, planner="beam_search", planner_settings={**_SEARCH, "horizon": 5, "beam_width": 16}
            ),
            "paper": Preset(
                _PAPER,
                action_repeat=1,
                planner="beam_search",
                planner_settings={**_SEARCH, "horizon": 15, "beam_width": 128, "nucleus": 0.6},
            ),
        }

    @property
    def return_discount(self) -> float:
        """Factor per decision on later rewards."""
        config: TransformerConfig = self.config
        assert config.tokenizer.reward_to_go is not None
        return config.tokenizer.reward_to_go

    @property
    def discount(self) -> float:
        """:attr:`return_discount`, as much as a planner should discount."""
        return self.return_discount

    def value(self, state: TransformerState) -> Tensor:
        """The predicted return ``[N]`` of the rest of the episode; does not consume ``state``.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        state.check_usable()
        assert state.to_go is not None
        return state.to_go
