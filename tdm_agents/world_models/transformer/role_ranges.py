"""Token ranges by the role of a scalar, shared by all environments that a transformer models.

Ranges of one environment say nothing of the next. Where scalars have names, those of one role (every hinge's
angle, say) are read together over the whole mixture, so that one number has one token wherever it stands, and
an environment without data has ranges too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from tdm_agents.data.sampled_steps import SampledSteps
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import ModelSpec
from tdm_agents.spaces import FloatArray
from tdm_agents.spaces.scalar_names import names_or_numbers, role
from tdm_agents.world_models.transformer.bins import Bins
from tdm_agents.world_models.transformer.ranges import (
    CHANGE_TAIL,
    OBSERVATION_TAIL,
    column_ranges,
    least_to_most,
)
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

MOST = 2**19
"""Largest number of sampled steps of all environments together."""
LEAST = 2_000
"""Sampled steps of each environment, however many there are."""


class Tokenized(Protocol):
    """A model of one environment that has a tokenizer."""

    @property
    def spec(self) -> ModelSpec:
        """The environment."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its :class:`Tokenizer`."""
        ...


def roles_of(spec: ModelSpec) -> list[str]:
    """The role of each observation scalar."""
    return list(map(role, names_or_numbers(spec.observation_names, spec.observation_dim)))


@torch.no_grad()
def fit_roles(several: Sequence[tuple[Tokenized, Trajectories]]) -> None:
    """Fit the ranges of every role to the data of all environments, in place.

    Ranges are cut and widened as :meth:`Tokenizer.fit_columns` says. Every environment counts by the number
    of its steps, up to the same bound.

    Args:
        several: Models, and the data of their environments.

    Raises:
        ValueError: If data are missing, have another observation size or are not finite.
    """
    first: Tokenizer = several[0][0].tokenizer
    if first.config.observation == "quantile":
        observed = _by_role(several, changes=False)
        lows, highs = _ranges("observation", observed, OBSERVATION_TAIL)
        reward = least_to_most("reward", _rewards(several))
        for model, _ in several:
            _set(model.tokenizer.observation, roles_of(model.spec), lows, highs)
            model.tokenizer.reward.set_range(*reward)
    if first.change is not None:
        changed = _by_role(several, changes=True)
        lows, highs = _ranges("change", changed, CHANGE_TAIL)
        for model, _ in several:
            _set(model.tokenizer.change, roles_of(model.spec), lows, highs)


def take_roles(sources: Iterable[Tokenized], target: Tokenized) -> None:
    """Copy the ranges of roles that other environments have.

    Args:
        sources: Models whose tokenizers are fitted; those of one role have the same range in all of them.
        target: The model to copy to.

    Raises:
        ValueError: If a scalar has a role that no source has.
    """
    wanted = roles_of(target.spec)
    state: dict[str, torch.Tensor] = {
        name: value.clone() for name, value in target.tokenizer.state_dict().items()
    }
    columns = [name for name in state if name.startswith(("observation.", "change."))]
    missing = set(wanted)
    for source in sources:
        theirs = source.tokenizer.state_dict()
        at = {name: index for index, name in enumerate(roles_of(source.spec))}
        for index, name in enumerate(wanted):
            if name in missing and name in at:
                for key in columns:
                    state[key][index] = theirs[key][at[name]]
        state |= {key: theirs[key].clone() for key in state if key.startswith("reward.")}
        missing -= at.keys()
        if not missing:
            break
    if missing:
        raise WrongValueError(
            f"the model does not know the ranges of {', '.join(sorted(missing))[:120]}; train it on "
            "environments that have such scalars"
        )
    target.tokenizer.load_state_dict(state)


def _by_role(
    several: Sequence[tuple[Tokenized, Trajectories]], *, changes: bool
) -> dict[str, list[FloatArray]]:
    most = max(LEAST, MOST // len(several))
    found: dict[str, list[FloatArray]] = {}
    for model, trajectories in several:
        steps = SampledSteps(trajectories, with_next=changes, most=most)
        columns = steps.changes() if changes else steps.observations()
        for name, column in zip(roles_of(model.spec), columns, strict=True):
            found.setdefault(name, []).append(column)
    return found


def _ranges(
    what: str, columns: dict[str, list[FloatArray]], tail: float
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    joined = (torch.from_numpy(np.concatenate(parts)) for parts in columns.values())
    low, high = column_ranges(what, joined, len(columns), tail)
    return dict(zip(columns, low, strict=True)), dict(zip(columns, high, strict=True))


def _set(
    bins: Bins, roles: Sequence[str], low: dict[str, torch.Tensor], high: dict[str, torch.Tensor]
) -> None:
    bins.set_range(torch.stack([low[name] for name in roles]), torch.stack([high[name] for name in roles]))


def _rewards(several: Sequence[tuple[Tokenized, Trajectories]]) -> Iterator[torch.Tensor]:
    for _, trajectories in several:
        for part in trajectories.iterate():
            yield torch.from_numpy(part.reward[~np.isnan(part.reward)])
