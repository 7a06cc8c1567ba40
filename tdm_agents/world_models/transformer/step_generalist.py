"""A generalist whose steps are read and predicted whole."""

from __future__ import annotations

from typing import ClassVar

from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.step_model import StepTransformer
from tdm_agents.world_models.transformer.token_model import TokenModel


class StepGeneralist(Generalist):
    """Several environments, or bodies never seen, of which an imagined step is one forward.

    See :class:`.step_model.StepTransformer`: no policy, and nothing to search token by token.
    """

    kind: ClassVar[str] = "step_generalist"
    member: ClassVar[type[TokenModel]] = StepTransformer
