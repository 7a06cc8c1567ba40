"""The model that a run begins with: new weights fitted to its data, or those of a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.spaces.spec_json import spec_to_json
from tdm_agents.storage import CheckpointError, read_json
from tdm_agents.training.learners import TrainableWorldModel, learner_class, make_learner
from tdm_agents.world_models.model_files import SCHEMA
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.generalist import KIND, Generalist
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.model import TransformerWorldModel

TRANSFORMER = "transformer"
Transformer = TransformerWorldModel | Generalist
Learned = TrainableWorldModel | Generalist
"""What ``tdm train`` trains."""


def new_transformer(data: Mapping[str, Trajectories], config: TransformerConfig, *, seed: int) -> Transformer:
    """A transformer of the data's environment, or a :class:`Generalist` of several; its tokenizers fitted.

    Args:
        data: Training episodes by environment.
        config: Settings.
        seed: Of the initial weights.

    Raises:
        ValueError: If the settings do not fit an environment.
    """
    # PyTorch's initialisers draw from the global state: seed a copy of it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if len(data) > 1:
            generalist = Generalist({name: t.spec for name, t in data.items()}, config)
            generalist.fit(data)
            return generalist
        (only,) = data.values()
        transformer = TransformerWorldModel(only.spec, config)
    transformer.fit(only)
    return transformer


CONTEXT_STEPS = 3
"""What a context that is too small becomes: as much as the shipped checkpoint sees of cartpole."""


def with_context(config: TransformerConfig, data: Mapping[str, Trajectories]) -> TransformerConfig:
    """The settings, with a context of :data:`CONTEXT_STEPS` steps where it holds not even one.

    Presets count their context in tokens, and small ones were made for small environments. A context that
    holds a step stays as it is.

    Args:
        config: Settings.
        data: Training episodes by environment; the largest step that ``config`` has room for counts.
    """
    layout = StepLayout(
        observation_dim=config.max_observation or max(t.observation_dim for t in data.values()),
        action_dim=config.max_action or max(t.action_dim for t in data.values()),
        max_observation=0,  # positions do not matter here
    )
    return (
        config if config.context >= layout.tokens else replace(config, context=CONTEXT_STEPS * layout.tokens)
    )


def new_other(
    kind: str, data: Mapping[str, Trajectories], settings: Mapping[str, Any], *, seed: int
) -> TrainableWorldModel:
    """A model of another kind, its normaliser fitted; see :func:`~tdm_agents.training.learners.make_learner`.

    Args:
        kind: Its name in the registry.
        data: Training episodes of one environment, by its name.
        settings: Of the model.
        seed: Of the initial weights.

    Raises:
        ValueError: If the data are of several environments, or a setting makes no sense.
        TypeError: If there is no such setting.
    """
    if len(data) > 1:
        raise ValueError(
            f"a model of kind {kind!r} is of one environment, and these data are of {', '.join(data)}; train "
            f"one an environment, or a {TRANSFORMER} of all"
        )
    (only,) = data.values()
    model = make_learner(kind, only.spec, settings, seed=seed)
    model.fit(only)
    return model


def load_trained(kind: str, folder: Path) -> Learned:
    """The trained model in a folder; of kind ``"transformer"``, a generalist too.

    Raises:
        CheckpointError: If there is none, it is of another kind, or a file was altered.
    """
    if kind != TRANSFORMER:
        other: TrainableWorldModel = learner_class(kind).load(folder)
        return other
    several = read_json(folder / "model.json", schema=SCHEMA).get("type") == KIND
    return Generalist.load(folder) if several else TransformerWorldModel.load(folder)


def start_from(model: Learned, source: Learned, environments: Sequence[str]) -> None:
    """Give ``model`` the weights of a trained model, and its normaliser or tokenizers.

    Between transformers whose tokens need no data the environments may differ: a generalist is fine-tuned to
    one environment, seen before or not, or to several.

    Args:
        model: New.
        source: Trained, of the same kind.
        environments: Names of those that ``model`` is of.

    Raises:
        CheckpointError: If they differ in size or, where that matters, spaces; the message says in what.
    """
    if not (isinstance(model, Transformer) and isinstance(source, Transformer)):
        assert not (isinstance(model, Generalist) or isinstance(source, Generalist))
        _check_same(source, model)
        model.load_state_dict(source.state_dict())
        return
    if found := differences({"config": asdict(source.config)}, {"config": asdict(model.config)}):
        raise _unfit(found[0])
    if not model.config.tokenizer.fixed:
        _copy_tokenizers(model, source, environments)
    if found := differences(asdict(source.network.config), asdict(model.network.config)):
        raise _unfit(found[0])
    model.network.load_state_dict(source.network.state_dict())


def _copy_tokenizers(model: Transformer, source: Transformer, names: Sequence[str]) -> None:
    for name in names:
        mine = model.environment(name) if isinstance(model, Generalist) else model
        if isinstance(source, Generalist):
            if name not in source.environments:
                raise _unfit(
                    f"its tokens are fitted to the data of {', '.join(source.environments)}, not of {name}; "
                    "only a model whose tokens need no data (--preset small-paper-tokens, gato-79m, ...) can "
                    "be fine-tuned to another environment"
                )
            theirs = source.environment(name)
        else:
            theirs = source
        _check_same(theirs, mine)
        mine.tokenizer.load_state_dict(theirs.tokenizer.state_dict())


def _check_same(there: TrainableWorldModel, here: TrainableWorldModel) -> None:
    first, second = ({"config": asdict(m.config), "spec": spec_to_json(m.spec)} for m in (there, here))
    if found := differences(first, second):
        raise _unfit(found[0])


def _unfit(why: str) -> CheckpointError:
    return CheckpointError(
        f"--init-from does not fit: {why}; fine-tuning needs the same kind and size of model (--model, "
        "--preset, --mlp) and, where tokens or the normaliser are fitted to data, an environment with the "
        "same spaces"
    )


def differences(there: Mapping[str, Any], here: Mapping[str, Any], where: str = "") -> list[str]:
    """Sentences about the entries in which two nested mappings of JSON values differ."""
    found: list[str] = []
    for name in sorted({*there, *here}):
        a, b = there.get(name), here.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{where}{name}.")
        elif (list(a) if isinstance(a, tuple) else a) != (list(b) if isinstance(b, tuple) else b):
            found.append(f"{where}{name} is {a!r} there and {b!r} here")
    return found
