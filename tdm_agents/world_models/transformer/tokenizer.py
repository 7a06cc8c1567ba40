"""The tokenizer, which turns numbers into tokens and back: the scheme of Gato and TDM, and our own.

A scalar becomes one of ``bins`` tokens; a token becomes the centre of its bin. Three scales exist:

- *mu-law*, the papers' preset: ``sign(x) log(1 + mu |x|) / log(1 + mu M)``, clipped to [-1, 1], then uniform
  bins (Gato, arXiv 2205.06175, appendix B; TDM, arXiv 2305.10912). It needs no data, so it fits any body.
- *quantile*: uniform bins over the range that the data of each dimension cover: finer at the same number.
- *equal_counts*: bins that hold equally many of the data of each dimension: finest where the data are (the
  Trajectory Transformer's).

The output bins of an observation scalar cover its next value (``absolute``) or its change (``change``). A
discrete action has no scale: its choice, counted from 0, is its token.

The control flow of no function depends on data, so all of them may be compiled or captured in a CUDA graph.
Values are clipped to the range. NaN has no token except as a reward, and has to be refused earlier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tdm_agents.errors import WrongValueError
from tdm_agents.world_models.transformer.bins import Bins, MuLaw
from tdm_agents.world_models.transformer.counted_bins import CountedBins
from tdm_agents.world_models.transformer.ranges import (
    CHANGE_TAIL,
    OBSERVATION_TAIL,
    check_samples,
    column_edges,
    column_ranges,
    least_to_most,
)


@dataclass(frozen=True)
class TokenizerConfig:
    """Settings of a tokenizer. The paper's scheme is ``observation="mu_law", target="absolute"``.

    Attributes:
        observation: Scale of the bins of rewards, and of observation scalars as inputs. Rewards and changes
            have uniform bins with ``equal_counts``, too: a planner seeks the top of rewards, where there are
            few.
        target: What the output bins of an observation scalar cover: its next value, or its change.
        bins: Number of bins per scalar, from 2 to 65536 (float32 cannot reliably tell more apart).
        mu: Compression of the mu-law.
        limit: ``M`` of the mu-law, the magnitude at which it clips.
        ranges: Whose data a fitted range covers: a scalar's of one ``environment``, or a scalar's ``role`` in
            all environments together (:func:`tdm_agents.spaces.scalar_names.role`). The latter also fits an
            environment without data, if its scalars have roles that are known.
        reward_to_go: Factor per decision on later rewards, in (0, 1], in the return that is predicted beside
            the reward, and has bins of its own (the Trajectory Transformer's). None: it is not.

    Raises:
        ValueError: If a setting makes no sense.
    """

    observation: Literal["mu_law", "quantile", "equal_counts"] = "quantile"
    target: Literal["absolute", "change"] = "change"
    bins: int = 1024
    mu: float = 100.0
    limit: float = 256.0
    ranges: Literal["environment", "role"] = "environment"
    reward_to_go: float | None = None

    def __post_init__(self) -> None:
        if self.observation not in ("mu_law", "quantile", "equal_counts"):
            raise WrongValueError(
                f"observation={self.observation!r}; expected 'mu_law', 'quantile' or 'equal_counts'"
            )
        if self.target not in ("absolute", "change"):
            raise WrongValueError(f"target={self.target!r}; expected 'absolute' or 'change'")
        if self.ranges not in ("environment", "role"):
            raise WrongValueError(f"ranges={self.ranges!r}; expected 'environment' or 'role'")
        if self.observation == "equal_counts" and self.ranges == "role":
            raise WrongValueError(
                "observation='equal_counts' counts the data of one environment; expected ranges='environment'"
            )
        if self.reward_to_go is not None:
            if not 0.0 < self.reward_to_go <= 1.0:
                raise WrongValueError(
                    f"reward_to_go={self.reward_to_go}; expected a discount in (0, 1], or none"
                )
            if self.ranges == "role":
                raise WrongValueError(
                    f"reward_to_go={self.reward_to_go}, whose range is fitted to one environment's data; "
                    "expected ranges='environment'"
                )
        if not 2 <= self.bins <= 65536:
            raise WrongValueError(f"bins={self.bins}; expected 2 to 65536 (the papers use 1024)")
        for name, value in (("mu", self.mu), ("limit", self.limit)):
            if not (math.isfinite(value) and value > 0):
                raise WrongValueError(f"{name}={value}; expected a finite positive number")

    @property
    def fixed(self) -> bool:
        """Whether no range is fitted to data, so that one scheme fits any environment."""
        return self.observation == "mu_law" and self.target == "absolute"

    @property
    def transfers(self) -> bool:
        """Whether environments without data can have tokens: those of the same roles, or any if fixed."""
        return self.fixed or self.ranges == "role"


class Tokenizer(nn.Module):
    """The tokenizer of one environment's observations, rewards and actions; buffers only, no parameters.

    Tokens ``0 .. bins - 1`` are values, :attr:`none` is an unknown reward, and :attr:`separator` comes
    between reward and action. The decoding methods expect value tokens (``decode_reward`` also :attr:`none`)
    and do not check them. Bins that have not been fitted yet (:meth:`fit`) raise ``RuntimeError``, and a last
    axis of the wrong length raises ``ValueError``.

    ``encode(decode(token)) == token`` holds for every token. For changes it holds if the float32 spacing of
    ``previous`` is below half a bin of change.

    Args:
        config: The settings.
        observation_dim: ``n``.
        action_dim: ``m``.
        action_choices: Number of choices of each component where actions are discrete; else empty.
        device: Where the ranges of its bins are.

    Raises:
        ValueError: If a dimension is below 1, or ``action_choices`` is not ``m`` numbers from 1 to ``bins``.
    """

    choices: Tensor

    def __init__(
        self,
        config: TokenizerConfig,
        observation_dim: int,
        action_dim: int,
        action_choices: Sequence[int] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        if observation_dim < 1 or action_dim < 1:
            raise WrongValueError(f"{observation_dim=}, {action_dim=}; expected at least 1 each")
        if action_choices and len(action_choices) != action_dim:
            raise WrongValueError(
                f"action_choices={tuple(action_choices)}; expected {action_dim}, one per component"
            )
        if action_choices and not 1 <= min(action_choices) <= max(action_choices) <= config.bins:
            raise WrongValueError(
                f"action_choices={tuple(action_choices)}; expected 1 to {config.bins} choices per component, "
                "because each is a token: raise bins"
            )
        self.config = config
        self.observation_dim = observation_dim
        self.action_dim = action_dim
        scale = MuLaw(config.mu, config.limit) if config.observation == "mu_law" else None
        fixed = scale is not None
        self.observation = (
            CountedBins(observation_dim, config.bins, device=device)
            if config.observation == "equal_counts"
            else Bins(observation_dim, config.bins, scale=scale, fixed=fixed, device=device)
        )
        self.reward = Bins(None, config.bins, scale=scale, fixed=fixed, device=device)
        self.to_go = (
            None
            if config.reward_to_go is None
            else Bins(None, config.bins, scale=scale, fixed=fixed, device=device)
        )
        self.action_choices = tuple(action_choices)
        self.action = (
            None if action_choices else Bins(action_dim, config.bins, scale=None, fixed=True, device=device)
        )
        # not in checkpoints, whose spec says it
        self.register_buffer(
            "choices", torch.tensor(self.action_choices, dtype=torch.int64, device=device), persistent=False
        )
        self.change = (
            Bins(observation_dim, config.bins, scale=None, fixed=False, device=device)
            if config.target == "change"
            else None
        )

    @property
    def none(self) -> int:
        """The token of an unknown or first reward."""
        return self.config.bins

    @property
    def separator(self) -> int:
        """The token between reward and action."""
        return self.config.bins + 1

    @property
    def vocabulary(self) -> int:
        """The number of different tokens."""
        return self.config.bins + 2

    @property
    def fitted(self) -> bool:
        """Whether all bins have a range; those of the paper's scheme always do."""
        return all(b.fitted for b in self.children() if isinstance(b, Bins))

    def fit(self, observation: Tensor, change: Tensor, reward: Tensor) -> None:
        """Fit the ranges to data in memory; see :meth:`fit_columns`.

        Args:
            observation: ``[S, n]``.
            change: ``[S', n]``, next minus previous observation within episodes.
            reward: ``[S'']``, known rewards only.

        Raises:
            ValueError: If one is empty, has another shape, is not floating point, or has a NaN or inf.
        """
        check_samples("observation", observation, self.observation_dim)
        check_samples("change", change, self.observation_dim)
        check_samples("reward", reward)
        self.fit_columns(observation.unbind(1), change.unbind(1), [reward])

    @torch.no_grad()
    def fit_columns(
        self, observation: Iterable[Tensor], change: Iterable[Tensor], reward: Iterable[Tensor]
    ) -> None:
        """Fit the ranges that the scheme takes from data, in place.

        The range of observations is from quantile ``.0005`` to ``.9995``, that of changes from ``.0002`` to
        ``.9998``, both widened by 10 % of their length at each end. That of rewards is from minimum to
        maximum, widened by 5 % at each end. Bins of equal counts go from the least to the
        greatest observation in the data. Mu-law bins of observations and rewards are fixed, so only
        changes are fitted there. A dimension that never changes gets a short range around its value
        (:meth:`Bins.set_range`).

        Args:
            observation: ``n`` columns ``[S]``, read one at a time.
            change: ``n`` columns ``[S']``, next minus previous observation within episodes.
            reward: Chunks ``[any]`` of known rewards, read one at a time; they may be empty.

        Raises:
            ValueError: If one is empty, has another shape, is not floating point, or has a NaN or inf.
        """
        ranges: list[tuple[Bins, tuple[Tensor, Tensor]]] = []  # set together, once all are known
        edges: Tensor | None = None
        if isinstance(self.observation, CountedBins):
            edges = column_edges("observation", observation, self.observation_dim, self.config.bins)
        elif self.config.observation == "quantile":
            columns = column_ranges("observation", observation, self.observation_dim, OBSERVATION_TAIL)
            ranges.append((self.observation, columns))
        if self.config.observation != "mu_law":
            ranges.append((self.reward, least_to_most("reward", reward)))
        if self.change is not None:
            columns = column_ranges("change", change, self.observation_dim, CHANGE_TAIL)
            ranges.append((self.change, columns))
        for bins, (low, high) in ranges:
            bins.set_range(low, high)
        if edges is not None:
            assert isinstance(self.observation, CountedBins)
            self.observation.set_edges(edges)

    @torch.no_grad()
    def fit_to_go(self, to_go: Iterable[Tensor]) -> None:
        """Fit the range of returns like that of rewards, in place; mu-law bins are fixed.

        Args:
            to_go: Chunks ``[any]`` of discounted sums of later rewards, read one at a time.

        Raises:
            ValueError: If all are empty, or one is not floating point or has a NaN or inf.
        """
        if self.to_go is not None and self.config.observation != "mu_law":
            self.to_go.set_range(*least_to_most("to_go", to_go))

    def encode_observation(self, value: Tensor) -> Tensor:
        """Turn values ``[..., n]`` into tokens ``[..., n]`` int64."""
        return self.observation.encode(value)

    def decode_observation(self, token: Tensor) -> Tensor:
        """Turn tokens ``[..., n]`` into bin centres ``[..., n]`` float32."""
        return self.observation.decode(token)

    def encode_observation_scalar(self, index: int, value: Tensor) -> Tensor:
        """Turn values ``[...]`` of column ``index`` into tokens ``[...]`` int64."""
        return self.observation.encode(value, index)

    def encode_reward(self, value: Tensor) -> Tensor:
        """Turn rewards ``[...]`` into tokens ``[...]`` int64; NaN, an unknown reward, is :attr:`none`."""
        unknown = value.isnan()
        return self.reward.encode(value.masked_fill(unknown, 0.0)).masked_fill(unknown, self.none)

    def decode_reward(self, token: Tensor) -> Tensor:
        """Turn tokens ``[...]`` into bin centres ``[...]`` float32; :attr:`none` becomes NaN."""
        return self.reward.decode(token).masked_fill(token == self.none, math.nan)

    def encode_action(self, value: Tensor) -> Tensor:
        """Turn actions ``[..., m]`` into tokens ``[..., m]`` int64.

        Continuous actions, in [-1, 1], have uniform bins in every scheme; discrete ones are their own tokens.
        """
        if self.action is None:
            return torch.minimum(value.long().clamp(min=0), self.choices - 1)
        return self.action.encode(value)

    def decode_action(self, token: Tensor) -> Tensor:
        """Turn tokens ``[..., m]`` into actions ``[..., m]``: float32 bin centres, or int64 choices."""
        return token if self.action is None else self.action.decode(token)

    def mask_actions(self, logits: Tensor, component: int | None = None) -> Tensor:
        """The logits ``[..., m, bins]``, with -inf where a token is not a choice of its component.

        Args:
            logits: Logits of every component, or ``[..., bins]`` of one.
            component: The component, where there is only one.
        """
        if self.action is not None:
            return logits
        choices = self.choices[:, None] if component is None else self.choices[component]
        beyond = torch.arange(logits.shape[-1], device=logits.device) >= choices
        return logits.masked_fill(beyond, -math.inf)

    def encode_target(self, previous: Tensor, next: Tensor) -> Tensor:
        """The tokens that the model has to predict for observation scalars, int64 ``[..., n]``.

        Args:
            previous: ``[..., n]``, the last observation; unused where targets are absolute.
            next: ``[..., n]``, the observation after it.
        """
        if self.change is None:
            return self.observation.encode(next)
        return self.change.encode(next.float() - previous.float())

    def decode_target(self, previous: Tensor, token: Tensor) -> Tensor:
        """The next observation, float32 ``[..., n]``: bin centres, or ``previous`` plus bin centres."""
        if self.change is None:
            return self.observation.decode(token)
        return previous.float() + self.change.decode(token)

    def target_centres(self, index: int) -> Tensor:
        """The centres ``[bins]`` of column ``index``: next values (absolute) or changes (change)."""
        return (self.observation if self.change is None else self.change).centres(index)

    def reward_centres(self) -> Tensor:
        """``[bins]`` rewards."""
        return self.reward.centres()
