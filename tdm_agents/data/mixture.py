"""Several environments as one source of training windows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tdm_agents.data.minari_io import DataError
from tdm_agents.data.trajectories import IntArray, Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import MixedBatch, Rows


def by_environment(several: Sequence[Trajectories]) -> dict[str, Trajectories]:
    """The data of each environment, by name; data sets of the same environment are joined, in order.

    See :func:`environment_name`.

    Raises:
        DataError: If there are none, or data sets with the same name differ in their spaces.
    """
    if not several:
        raise DataError("there is no data set; name at least one")
    groups: dict[str, list[Trajectories]] = {}
    for trajectories in several:
        groups.setdefault(environment_name(trajectories.info), []).append(trajectories)
    joined: dict[str, Trajectories] = {}
    for name, group in groups.items():
        try:
            joined[name] = Trajectories.concatenate(group)
        except DataError as error:
            raise DataError(
                f"several data sets are of {name!r} by their metadata, but not of one environment: {error}; "
                "give each environment its own env_id in metadata.json"
            ) from error
    return joined


def environment_name(info: TrajectoryInfo) -> str:
    """The name of the environment in reports: its id, and sorted arguments other than the registered ones.

    For example ``"CartPole-v1"`` or ``"tdm/WalkerTree-v0 body=3 dof=5"``.
    """
    env = EnvRef.of_data(info)
    return "unnamed" if env is None else env.name


def shares(
    trajectories: Mapping[str, Trajectories], weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The share of the training windows that each environment gets; they sum to 1.

    Args:
        trajectories: Episodes by environment.
        weights: Positive numbers, one per environment; by default the numbers of transitions.

    Raises:
        ValueError: If ``weights`` names other environments, or one is not a positive finite number.
    """
    if weights is None:
        weights = {name: float(t.num_decisions) for name, t in trajectories.items()}
    return check_shares(weights, trajectories)


def check_shares(weights: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """Weights as shares that sum to 1.

    Args:
        weights: Positive numbers, one per name.
        names: The names, in the order of the result.

    Raises:
        ValueError: If ``weights`` has other names, or one is not a positive finite number.
    """
    names = list(names)
    if weights.keys() != set(names):
        raise WrongValueError(
            f"weights are for {', '.join(weights)}; expected one for each of {', '.join(names)}"
        )
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise WrongValueError(f"the weight of {name} is {weight}; expected a positive number")
    total = sum(weights.values())
    return {name: weights[name] / total for name in names}


def windows_of(shares: Mapping[str, float], count: int, rng: np.random.Generator) -> dict[str, int]:
    """How many of ``count`` windows each one gets, by systematic sampling: its share, to less than one.

    Args:
        shares: Share of each, by name; they sum to 1.
        count: Windows in all.
        rng: Source of the one draw.
    """
    counts = _windows(np.cumsum([0.0, *shares.values()]), count, rng)
    return dict(zip(shares, counts.tolist(), strict=True))


def _windows(cumulated: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> IntArray:
    """:func:`windows_of` for shares that are summed up, beginning with 0."""
    before = cumulated * count
    before[-1] = count  # whatever the sum was rounded to
    return np.diff(np.floor(before + rng.random())).astype(np.int64)


class MixtureSampler:
    """Random windows of several environments, each with its share of every batch.

    Counts are drawn by systematic sampling: an environment with a share of ``s`` gets ``s * B`` windows per
    batch on average, and never differs from that by more than one. As in :class:`WindowSampler`, a batch
    depends on the seed and its index alone.

    Args:
        trajectories: Episodes by environment.
        weights: See :func:`shares`.
        steps: ``T``, at least 2.
        batch_size: ``B``, windows of all environments together.
        seed: Seed of the draws, at least 0.

    Raises:
        ValueError: If a setting makes no sense, or an environment has no episode of two steps.

    Attributes:
        shares: Share of each environment, by name.
    """

    def __init__(
        self,
        trajectories: Mapping[str, Trajectories],
        *,
        weights: Mapping[str, float] | None = None,
        steps: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.shares = shares(trajectories, weights)
        self._samplers = {
            name: WindowSampler(t, steps=steps, batch_size=batch_size, seed=seed)
            for name, t in trajectories.items()
        }
        self._names = list(trajectories)
        self._cumulated = np.cumsum([0.0, *self.shares.values()])
        self._batch_size = batch_size
        self._seed = seed

    def batch(self, index: int, *, part: int = 0, parts: int = 1) -> MixedBatch:
        """The batch of training step ``index``: ``B`` windows in all.

        Args:
            index: The step.
            part: Which micro-batch, from 0; windows are dealt in turn, so that each gets of every
                environment as many as the others, to one.
            parts: Into how many the batch is divided; only one's windows are read.
        """
        rng = np.random.default_rng([self._seed, index])
        counts = _windows(self._cumulated, self._batch_size, rng)
        batches, before = {}, 0
        for place in np.flatnonzero(counts):
            name, count = self._names[place], int(counts[place])
            rows = Rows((part - before) % parts, parts, count) if parts > 1 else None
            batches[name] = self._samplers[name].draw(rng, count, rows)
            before += count
        return MixedBatch(batches)
