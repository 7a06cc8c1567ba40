"""Initialisation of a transformer: room for its environments, their ranges, another model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from tdm_agents.data.sampled_steps import SampledSteps
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces.scalar_names import names_or_numbers
from tdm_agents.world_models.learned import differences, does_not_fit, identity, unnamed
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.role_ranges import take_roles
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

CONTEXT_STEPS = 3
"""Steps that replace a context that is too small: as many as the shipped checkpoint sees of cartpole."""

ROOM_STEPS = 4
"""Steps that a context should hold, so that a model sees more of the past than one change."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's global state, from which its initialisers draw, and restore it at the end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        yield


def with_room(config: TransformerConfig, specs: Mapping[str, ModelSpec], source: Any) -> TransformerConfig:
    """The settings, with a context that holds a step of the largest environment.

    Presets give their context in tokens, and small ones were made for small environments. A context that
    does not hold a step becomes :data:`CONTEXT_STEPS` steps; any other stays as it is.

    Args:
        config: Settings; the largest step that they have room for counts.
        specs: Spec of each environment, by name.
        source: A transformer to start from, or None. Its context is taken over, and so are its maxima where
            ``config`` has none.
    """
    if isinstance(before := getattr(source, "config", None), TransformerConfig):
        return replace(
            config,
            context=before.context,
            max_observation=config.max_observation or before.max_observation,
            max_action=config.max_action or before.max_action,
            names=config.names or before.names,
        )
    step = _largest_step(config, specs).tokens
    return config if config.context >= step else replace(config, context=CONTEXT_STEPS * step)


def _largest_step(config: TransformerConfig, specs: Mapping[str, ModelSpec]) -> StepLayout:
    return StepLayout(
        observation_dim=config.max_observation or max(s.observation_dim for s in specs.values()),
        action_dim=config.max_action or max(s.action_dim for s in specs.values()),
        max_observation=0,  # positions do not matter here
    )


def suggested(config: TransformerConfig, specs: Mapping[str, ModelSpec]) -> tuple[TransformerConfig, str]:
    """The settings with a context of at least :data:`ROOM_STEPS` steps of the largest environment.

    Args:
        config: Settings, for example of a preset that was made for a smaller environment.
        specs: Spec of each environment, by name.

    Returns:
        The settings, and a sentence about what was changed; ``""`` where nothing was.
    """
    layout = _largest_step(config, specs)
    step = layout.tokens
    if config.context >= ROOM_STEPS * step:
        return config, ""
    return replace(config, context=ROOM_STEPS * step), (
        f"the preset's context of {config.context} tokens holds {config.context // step} steps of {step} "
        f"tokens ({layout.observation_dim} of the observation, {layout.action_dim} of the action, 2 more); "
        f"it becomes {ROOM_STEPS * step}, {ROOM_STEPS} steps"
    )


def with_names(config: TransformerConfig, specs: Sequence[ModelSpec]) -> TransformerConfig:
    """The settings, with the names of all observation scalars where ranges go by role.

    Those of the largest environment come first.
    """
    if config.tokenizer.ranges != "role" or config.names:
        return config
    largest_first = sorted(specs, key=lambda spec: -spec.observation_dim)
    found = [names_or_numbers(spec.observation_names, spec.observation_dim) for spec in largest_first]
    return replace(config, names=tuple(dict.fromkeys(name for names in found for name in names)))


def fit_tokens(tokenizer: Tokenizer, trajectories: Trajectories) -> None:
    """Fit the ranges of a tokenizer to episodes of its environment, which need not fit into memory.

    Raises:
        ValueError: If the data have another observation size, are empty or are not finite.
    """
    known = (part.reward[~np.isnan(part.reward)] for part in trajectories.iterate())
    tokenizer.fit_columns(
        map(torch.from_numpy, SampledSteps(trajectories).observations()),
        map(torch.from_numpy, SampledSteps(trajectories, with_next=True).changes()),
        map(torch.from_numpy, known),
    )


def fit_returns(tokenizer: Tokenizer, trajectories: Trajectories) -> None:
    """Fit the range of returns to episodes that have them (``Trajectories.with_returns``)."""
    tokenizer.fit_to_go(
        torch.from_numpy(trajectories.to_go[part][first : first + steps])
        for part, first, steps in trajectories.episodes
    )


def begin_with(source: Any, model: Any, names: Mapping[str, Any]) -> None:
    """Copy the weights of one transformer or generalist to another, and its tokens for some environments.

    Where tokens need no data the environments may differ: a generalist can be fine-tuned to one environment,
    seen before or not, or to several.

    Args:
        source: The trained model.
        model: The new model.
        names: Environments of ``model``, by name.

    Raises:
        CheckpointError: If they differ in size or, where that matters, in spaces; the message says how.
    """
    if not isinstance(getattr(source, "network", None), TransformerNetwork):
        raise does_not_fit(f"it is a {type(source).__name__}, not a transformer")
    if _whole(source) != _whole(model):
        scheme = "whole steps" if _whole(source) else "token by token"
        raise does_not_fit(f"it predicts {scheme}; step_transformer and step_generalist predict whole steps")
    theirs, ours = ({"config": identity(m.config)} for m in (source, model))
    if found := differences(theirs, ours):
        raise does_not_fit(found[0])
    if model.config.tokenizer.ranges == "role":
        known = [source.environment(name) for name in getattr(source, "environments", (None,))]
        for name in names:
            take_roles(known, model.environment(name))
    elif not model.config.tokenizer.fixed:
        for name in names:
            _copy_tokens(source, model, name)
    if found := differences(asdict(source.network.config), asdict(model.network.config)):
        raise does_not_fit(found[0])
    model.network.load_state_dict(source.network.state_dict())


def _whole(model: Any) -> bool:
    return bool(getattr(model, "member", model).whole_steps)


def _copy_tokens(source: Any, model: Any, name: str) -> None:
    try:
        theirs = source.environment(name)
    except LookupError as error:
        raise does_not_fit(
            f"its tokens are fitted to the data of {', '.join(source.environments)}, not of {name}; only a "
            "model "
            "whose tokens need no data (--preset small-paper-tokens, gato-79m, ...) can be fine-tuned to "
            "another "
            "environment"
        ) from error
    mine = model.environment(name)
    there, here = ({"spec": unnamed(m.spec)} for m in (theirs, mine))
    if found := differences(there, here):
        raise does_not_fit(found[0])
    mine.tokenizer.load_state_dict(theirs.tokenizer.state_dict())
