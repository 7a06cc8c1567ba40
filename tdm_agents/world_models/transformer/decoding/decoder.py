"""The decoder of imagined steps, which feeds tokens to the network and reads values from its output.

A step is imagined in three parts: :meth:`Decoder.act` feeds reward, separator and action, which are known
together; a strategy (:mod:`.sequential`, :mod:`.together`) reads and feeds the observation;
:meth:`Decoder.arrive` reads what comes with it. A decoder has no state of its own; rows do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tdm_agents.protocols import Step
from tdm_agents.protocols.values import LEAST_SURVIVAL
from tdm_agents.spaces.goals import with_goal_of
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.decoding.reading import choose_bin, mean_near_mode
from tdm_agents.world_models.transformer.decoding.rows import Rows
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import TransformerNetwork
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

if TYPE_CHECKING:  # numba takes half a second to import
    from tdm_agents.world_models.transformer.cpu.packed_network import PackedNetwork


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """The parts of a model that are needed to imagine.

    Attributes:
        network: The weights.
        tokenizer: Turns numbers into tokens and back.
        layout: The tokens of a decision step.
        context_steps: Decision steps in the attention band.
        terminates: Whether episodes end.
        goal: Columns of the observation that hold a goal, which stays as it is; None where there is none.
        options: How scalars are read and computed.
        weights: The network's weights in bfloat16, with which rows are imagined; None for the network's own.
    """

    network: TransformerNetwork
    tokenizer: Tokenizer
    layout: StepLayout
    context_steps: int
    terminates: bool
    goal: slice | None
    options: DecodingOptions
    weights: PackedNetwork | None

    # -- a step ---------------------------------------------------------------------------------------------

    def draws(self, rows: int, generator: torch.Generator | None) -> Tensor | None:
        """The random numbers of a step, drawn at once for all its rows; None where nothing is sampled.

        Returns:
            ``[N, n + 2]`` in [0, 1): for the observation scalars, the reward and whether the row is alive.
        """
        if self.options.read != "sample":
            return None
        device = self.network.head.weight.device
        return torch.rand(
            (self.layout.observation_dim + 2, rows), generator=generator, device=device, dtype=torch.float32
        ).T

    def act(self, rows: Rows, action: Tensor) -> Tensor:
        """Feed the last reward and an action ``[N, m]``; the rows go on to the next step.

        Returns:
            The hidden state ``[N, d]`` from which the next observation is read.
        """
        known = torch.cat([self.before_action(rows), self.tokenizer.encode_action(action)], dim=1)
        hidden = self.extend(rows, known, offset=self.layout.observation_dim)[:, 0]
        rows.advance()
        return hidden

    def before_action(self, rows: Rows) -> Tensor:
        """The tokens between an observation and the action after it, ``[N, 2]``: reward and separator."""
        return torch.stack([rows.reward, torch.full_like(rows.reward, self.tokenizer.separator)], dim=1)

    def arrive(self, rows: Rows, observation: Tensor, hidden: Tensor, draws: Tensor | None) -> Step:
        """Read what comes with an observation, and move the rows there.

        Args:
            rows: ``N`` rows, to which the observation was fed.
            observation: ``[N, n]`` in the environment's units.
            hidden: ``[N, d]``, the hidden state after the observation.
            draws: Random numbers from :meth:`draws`.
        """
        drawn, alive = (None, None) if draws is None else (draws[:, -2], draws[:, -1])
        reward = self.read_reward(hidden, rows.centres, drawn)
        survival = self.read_survival(hidden)
        lives = self.alive(survival, alive, like=reward)
        step = Step(observation, reward, lives, survival if draws is None else None)  # or drawn already
        to_go = self.read_to_go(hidden, rows.centres, survival)
        rows.keep(step, self.tokenizer.encode_reward(reward), to_go)
        return step

    def check_action(self, action: Tensor, rows: int) -> None:
        """Refuse an invalid action.

        Raises:
            ValueError: If its shape is not ``[N, m]``, or its type is not that of the model's actions.
        """
        shape = (rows, self.layout.action_dim)
        if tuple(action.shape) != shape:
            raise ValueError(f"action has shape {tuple(action.shape)}; expected {shape}")
        # reading the data would make a GPU wait; there the planner's own clipping has to suffice
        if action.device.type == "cpu" and action.is_floating_point() and not action.isfinite().all():
            raise ValueError("action holds NaN or inf; expected numbers in [-1, 1]")
        discrete = bool(self.tokenizer.action_choices)
        if action.is_floating_point() == discrete:
            expected = "int64 choices" if discrete else "numbers in [-1, 1]"
            kind = "discrete" if discrete else "continuous"
            raise ValueError(f"action is {action.dtype}; expected {expected}: actions are {kind}")

    # -- feeding --------------------------------------------------------------------------------------------

    def extend(self, rows: Rows, tokens: Tensor, *, offset: int, outputs: int = 1) -> Tensor:
        """Feed tokens of the rows' present step; their keys and values join the cache.

        Counters alone decide which keys are read, so nothing has to be synchronised.

        Args:
            rows: ``N`` rows, owned by the caller.
            tokens: ``[N, c]`` int64, consecutive tokens of one decision step.
            offset: Place of the first of them in that step.
            outputs: Number of last tokens whose hidden state is wanted.

        Returns:
            Hidden states ``[N, outputs, d]``, normalised.
        """
        network, chunk = self.network, tokens.shape[1]
        view = rows.view(network, offset=offset, chunk=chunk)
        start, end = self.layout.position(offset), self.layout.position(offset + chunk - 1) + 1
        if end - start == chunk:
            place = network.position.weight[start:end]
        else:  # scalars whose names are not next to each other
            place = network.position(self.layout.positions(tokens.device)[offset : offset + chunk])
        x = network.token(tokens) + place  # [N, c, d]
        hidden = view.hidden(network, x, outputs)
        rows.fed(chunk)
        return hidden

    # -- reading --------------------------------------------------------------------------------------------

    def read(self, hidden: Tensor, centres: Tensor, draws: Tensor | None, *, window: int) -> Tensor:
        """Values ``[...]`` from hidden states ``[..., d]``.

        Args:
            hidden: Hidden state after the token before each value.
            centres: Values of the bins, ``[(...,) bins]``.
            draws: ``[...]`` in [0, 1), with which to sample; None otherwise.
            window: Bins on either side of the most likely one that a mean is of.
        """
        logits = (self.weights or self.network).logits(hidden)
        if self.options.read == "mean":
            return mean_near_mode(logits, centres, window)
        chosen = choose_bin(logits, draws)
        return centres.expand_as(logits).gather(-1, chosen[..., None])[..., 0]

    def read_scalars(self, rows: Rows, hidden: Tensor, columns: slice, draws: Tensor | None) -> Tensor:
        """Observation scalars ``[N, c]`` in the environment's units.

        Args:
            rows: ``N`` rows; changes are added to their observation.
            hidden: ``[N, c, d]``, the hidden state before each scalar.
            columns: The scalars to read.
            draws: Random numbers from :meth:`draws`.
        """
        drawn = None if draws is None else draws[:, columns]
        value = self.read(hidden, rows.centres[columns], drawn, window=self.options.mean_window)
        before = rows.observation[:, columns]
        return self.with_goal(before, value if self.tokenizer.change is None else before + value, columns)

    def with_goal(self, before: Tensor, after: Tensor, columns: slice) -> Tensor:
        """Observation scalars ``after[N, c]`` of these columns, with the goal among ``before[N, c]``."""
        if self.goal is None:
            return after
        first, last = max(self.goal.start, columns.start), min(self.goal.stop, columns.stop)
        if first >= last:
            return after
        return with_goal_of(before, after, slice(first - columns.start, last - columns.start))

    @property
    def action_window(self) -> int | None:
        """Bins on either side of the likeliest that an action is the mean of; None where it is that one."""
        if self.options.read != "mean" or self.tokenizer.action_choices:
            return None
        window = self.options.action_window
        return self.tokenizer.config.bins // 4 if window is None else window or None

    def read_reward(self, hidden: Tensor, centres: Tensor, draws: Tensor | None) -> Tensor:
        """Rewards ``[N]`` that come with observations.

        Args:
            hidden: Hidden state after each observation, ``[N, d]``.
            centres: As in :class:`.rows.Rows`.
            draws: ``[N]`` in [0, 1), with which to sample; None otherwise.
        """
        window = self.options.reward_window
        window = centres.shape[-1] if window is None else window
        return self.read(hidden, centres[self.layout.observation_dim], draws, window=window)

    def read_to_go(self, hidden: Tensor, centres: Tensor, survival: Tensor | None) -> Tensor | None:
        """The expected return ``[N]`` of who goes on after observations; None where none is predicted.

        Args:
            hidden: Hidden state after each observation, ``[N, d]``.
            centres: As in :class:`.rows.Rows`.
            survival: ``[N]``, the probability of going on; None where it is 1.
        """
        if self.network.returns is None:
            return None
        weights = self.network.returns(hidden).float().softmax(dim=-1)  # [N, bins]
        expected: Tensor = weights @ centres[-1]
        # what is predicted is a mean over episodes that end here and others
        return expected if survival is None else expected / survival.clamp_min(LEAST_SURVIVAL)

    def alive(self, survival: Tensor | None, draws: Tensor | None, *, like: Tensor) -> Tensor:
        """Whether episodes go on, ``[N]`` bool, like ``like[N]``: drawn, or else the likelier answer."""
        if survival is None:
            return torch.ones_like(like, dtype=torch.bool)
        lives: Tensor = survival > (0.5 if draws is None else draws)
        return lives

    def read_survival(self, hidden: Tensor) -> Tensor | None:
        """The probability that each episode goes on, ``[N]``; None where the model ends none."""
        if not self.terminates:
            return None
        probability: Tensor = self.network.alive(hidden)[:, 0].float().sigmoid()
        return probability
