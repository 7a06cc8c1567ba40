"""Numbers to tokens and back: the scheme of Gato and of TDM, and the presets of this package.

A scalar becomes one of ``bins`` tokens; a token becomes the centre of its bin. Two scales exist:

- *mu-law*, the papers' preset: ``sign(x) log(1 + mu |x|) / log(1 + mu M)``, clipped to [-1, 1], then uniform
  bins (Gato, arXiv 2205.06175, appendix B; TDM, arXiv 2305.10912). It needs no data, so it fits any body.
- *quantile*: uniform bins over the range that the data of each dimension cover, finer at equal size.

The output bins of an observation scalar cover its next value (``absolute``) or its change (``change``). A
discrete action has no scale: its choice, counted from 0, is its token.

No function depends on data in its control flow, so all of them may be compiled or captured in a CUDA graph.
Values clip into the range. NaN has no token except as a reward; refuse it before it comes here.
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
from tdm_agents.world_models.transformer.ranges import (
    CHANGE_TAIL,
    OBSERVATION_TAIL,
    check_samples,
    column_ranges,
    least_to_most,
)


@dataclass(frozen=True)
class TokenizerConfig:
    """How numbers become tokens. The paper's scheme is ``observation="mu_law", target="absolute"``.

    Attributes:
        observation: Bins of observation scalars as inputs, and of rewards.
        target: What the output bins of an observation scalar cover: its next value, or its change.
        bins: Number of bins a scalar, from 2 to 65536 (float32 tells no more apart reliably).
        mu: Compression of the mu-law.
        limit: ``M`` of the mu-law: magnitude at which it clips.

    Raises:
        ValueError: If a field has no meaning.
    """

    observation: Literal["mu_law", "quantile"] = "quantile"
    target: Literal["absolute", "change"] = "change"
    bins: int = 1024
    mu: float = 100.0
    limit: float = 256.0

    def __post_init__(self) -> None:
        if self.observation not in ("mu_law", "quantile"):
            raise WrongValueError(f"observation={self.observation!r}; expected 'mu_law' or 'quantile'")
        if self.target not in ("absolute", "change"):
            raise WrongValueError(f"target={self.target!r}; expected 'absolute' or 'change'")
        if not 2 <= self.bins <= 65536:
            raise WrongValueError(f"bins={self.bins}; expected 2 to 65536 (the papers use 1024)")
        for name, value in (("mu", self.mu), ("limit", self.limit)):
            if not (math.isfinite(value) and value > 0):
                raise WrongValueError(f"{name}={value}; expected a finite positive number")

    @property
    def fixed(self) -> bool:
        """Whether no range is taken from data, so that one scheme fits any environment."""
        return self.observation == "mu_law" and self.target == "absolute"


class Tokenizer(nn.Module):
    """Tokens of one body's observations, rewards and actions; buffers only, no parameters.

    Tokens ``0 .. bins - 1`` are values, :attr:`none` an unknown reward, :attr:`separator` stands between
    reward and action. Decoders expect value tokens (``decode_reward`` also :attr:`none`) and do not check
    it. Encoding or decoding with bins that wait for :meth:`fit` raises ``RuntimeError``, a last axis of the
    wrong length ``ValueError``.

    ``encode(decode(token)) == token`` for every token. For changes it needs a ``previous`` whose float32
    spacing is below half a bin of change.

    Args:
        config: The scheme.
        observation_dim: ``n``.
        action_dim: ``m``.
        action_choices: Number of choices of each component where actions are discrete; else empty.
        device: Where the ranges of its bins are.

    Raises:
        ValueError: If a dimension is below 1, or there are not ``m`` numbers of choices, from 1 to ``bins``.
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
        self.observation = Bins(observation_dim, config.bins, scale=scale, fixed=fixed, device=device)
        self.reward = Bins(None, config.bins, scale=scale, fixed=fixed, device=device)
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
        """Token of an unknown or first reward."""
        return self.config.bins

    @property
    def separator(self) -> int:
        """Token between reward and action."""
        return self.config.bins + 1

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.config.bins + 2

    @property
    def fitted(self) -> bool:
        """Whether all bins have a range; the paper's scheme has from the start."""
        return all(b.fitted for b in self.children() if isinstance(b, Bins))

    def fit(self, observation: Tensor, change: Tensor, reward: Tensor) -> None:
        """Set the ranges from data in memory; :meth:`fit_columns` says which.

        Args:
            observation: ``[S, n]``.
            change: ``[S', n]``, next minus previous observation within episodes.
            reward: ``[S'']``, known rewards only.

        Raises:
            ValueError: If one is empty, of another shape, not floating point, or has a NaN or inf.
        """
        check_samples("observation", observation, self.observation_dim)
        check_samples("change", change, self.observation_dim)
        check_samples("reward", reward)
        self.fit_columns(observation.unbind(1), change.unbind(1), [reward])

    @torch.no_grad()
    def fit_columns(
        self, observation: Iterable[Tensor], change: Iterable[Tensor], reward: Iterable[Tensor]
    ) -> None:
        """Set the ranges in place: what the scheme takes from data, and nothing else.

        Observations span their quantiles ``.0005`` to ``.9995``, changes ``.0002`` to ``.9998``, each end
        moved out by 10 % of the span; rewards their minimum to maximum, each end moved out by 5 %. Mu-law
        bins of observations and rewards are fixed, so only changes count there. A dimension that never
        moves gets a short range about its value (:meth:`Bins.set_range`).

        Args:
            observation: ``n`` columns ``[S]``, read one at a time.
            change: ``n`` columns ``[S']``, next minus previous observation within episodes.
            reward: Chunks ``[any]`` of known rewards, read one at a time; those that are empty do not count.

        Raises:
            ValueError: If one is empty, of another shape, not floating point, or has a NaN or inf.
        """
        ranges: list[tuple[Bins, tuple[Tensor, Tensor]]] = []  # set when all are known: all or none
        if self.config.observation == "quantile":
            columns = column_ranges("observation", observation, self.observation_dim, OBSERVATION_TAIL)
            ranges += [(self.observation, columns), (self.reward, least_to_most("reward", reward))]
        if self.change is not None:
            columns = column_ranges("change", change, self.observation_dim, CHANGE_TAIL)
            ranges.append((self.change, columns))
        for bins, (low, high) in ranges:
            bins.set_range(low, high)

    def encode_observation(self, value: Tensor) -> Tensor:
        """``[..., n]`` values to ``[..., n]`` int64 tokens."""
        return self.observation.encode(value)

    def decode_observation(self, token: Tensor) -> Tensor:
        """``[..., n]`` tokens to ``[..., n]`` float32 bin centres."""
        return self.observation.decode(token)

    def encode_observation_scalar(self, index: int, value: Tensor) -> Tensor:
        """``[...]`` values of column ``index`` to ``[...]`` int64 tokens."""
        return self.observation.encode(value, index)

    def encode_reward(self, value: Tensor) -> Tensor:
        """``[...]`` rewards to ``[...]`` int64 tokens; NaN, a reward that is not known, to :attr:`none`."""
        unknown = value.isnan()
        return self.reward.encode(value.masked_fill(unknown, 0.0)).masked_fill(unknown, self.none)

    def decode_reward(self, token: Tensor) -> Tensor:
        """``[...]`` tokens to ``[...]`` float32 bin centres; :attr:`none` to NaN."""
        return self.reward.decode(token).masked_fill(token == self.none, math.nan)

    def encode_action(self, value: Tensor) -> Tensor:
        """``[..., m]`` actions to ``[..., m]`` int64 tokens.

        Continuous ones, in [-1, 1], by uniform bins in every scheme; discrete ones are their own tokens.
        """
        if self.action is None:
            return torch.minimum(value.long().clamp(min=0), self.choices - 1)
        return self.action.encode(value)

    def decode_action(self, token: Tensor) -> Tensor:
        """``[..., m]`` tokens to ``[..., m]`` actions: float32 bin centres, or int64 choices."""
        return token if self.action is None else self.action.decode(token)

    def mask_actions(self, logits: Tensor, component: int | None = None) -> Tensor:
        """Logits ``[..., m, bins]`` with -inf where a token is no choice of its component.

        Args:
            logits: Of every component, or ``[..., bins]`` of one.
            component: That one.
        """
        if self.action is not None:
            return logits
        choices = self.choices[:, None] if component is None else self.choices[component]
        beyond = torch.arange(logits.shape[-1], device=logits.device) >= choices
        return logits.masked_fill(beyond, -math.inf)

    def encode_target(self, previous: Tensor, next: Tensor) -> Tensor:
        """What the model is to predict of each observation scalar, int64 ``[..., n]``.

        Args:
            previous: ``[..., n]``, the last observation; unused where targets are absolute.
            next: ``[..., n]``, the one after it.
        """
        if self.change is None:
            return self.observation.encode(next)
        return self.change.encode(next.float() - previous.float())

    def decode_target(self, previous: Tensor, token: Tensor) -> Tensor:
        """The next observation, float32 ``[..., n]``: a bin centre, or ``previous`` plus such a change."""
        if self.change is None:
            return self.observation.decode(token)
        return previous.float() + self.change.decode(token)

    def target_centres(self, index: int) -> Tensor:
        """``[bins]`` of column ``index``: next values (absolute) or changes (change)."""
        return (self.observation if self.change is None else self.change).centres(index)

    def reward_centres(self) -> Tensor:
        """``[bins]`` rewards."""
        return self.reward.centres()
