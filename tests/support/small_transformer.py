"""A small transformer with random weights, and random histories of its environment."""

from dataclasses import fields

import numpy as np
import torch
from gymnasium import spaces

from tdm_agents.protocols import History, ModelSpec
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.model import TransformerWorldModel


def make_spec(n, m, **changes):
    return ModelSpec(
        observation_space=spaces.Box(-np.inf, np.inf, (n,)),
        action_space=spaces.Box(-1.0, 1.0, (m,)),
        observation_dim=n,
        action_dim=m,
        **changes,
    )


def options_of(settings):
    """Take the decoding options out of a transformer's settings."""
    names = [field.name for field in fields(DecodingOptions) if field.name in settings]
    return DecodingOptions(**{name: settings.pop(name) for name in names})


def make_model(n=5, m=1, *, context=24, seed=0, spec=None, kind=TransformerWorldModel, **settings):
    """A model in evaluation mode, with settings of the transformer and of its decoding."""
    torch.manual_seed(seed)
    settings = {"layers": 2, "width": 32, "heads": 2, "feedforward": 48, "bf16": False} | settings
    config = TransformerConfig(context=context, decoding=options_of(settings), **settings)
    model = kind(spec or make_spec(n, m), config)
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn((512, n), generator=generator)
    model.tokenizer.fit(data, 0.1 * data, data[:, 0])
    return model.eval()


def make_history(model, lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    n, m = model.spec.observation_dim, model.spec.action_dim
    batch, steps = len(lengths), max(lengths)
    history = History(
        observation=torch.randn((batch, steps, n), generator=generator),
        reward=torch.randn((batch, steps), generator=generator),
        action=torch.rand((batch, steps - 1, m), generator=generator) * 2 - 1,
        length=torch.tensor(lengths),
    )
    for row, length in enumerate(lengths):
        history.observation[row, : steps - length] = 0.0
        history.reward[row, : steps - length + 1] = float("nan")
        history.action[row, : steps - length] = 0.0
    return history
