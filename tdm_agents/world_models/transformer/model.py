"""The transformer dynamics model as a world model that planners imagine with.

A Generalist Dynamics Model for Control (2305.10912): one transformer over trajectory tokens is dynamics
model, reward model and behaviour-cloning policy, by what it is conditioned on. What is ours: the history is
encoded once a decision and shared by all candidates, everything that is known together goes through one
forward, and output bins may cover changes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tdm_agents.data.trajectories import Trajectories
from tdm_agents.protocols import (
    Batch,
    History,
    ModelSpec,
    Preset,
    Proposal,
    Rollout,
    Step,
    TrainableModel,
    looped_rollout,
)
from tdm_agents.world_models.learned import LearnedModel, only_environment
from tdm_agents.world_models.model_files import read_model, write_model
from tdm_agents.world_models.transformer.attention import band_mask
from tdm_agents.world_models.transformer.beginning import begin_with, fit_tokens, seeded, with_room
from tdm_agents.world_models.transformer.cache import Grouping, Prefix
from tdm_agents.world_models.transformer.config import Attention, Capture, TransformerConfig
from tdm_agents.world_models.transformer.decoding import Decoding, choose_bin, mean_near_mode
from tdm_agents.world_models.transformer.draft import TransformerDraft
from tdm_agents.world_models.transformer.ending import rollout_while_alive
from tdm_agents.world_models.transformer.feeding import Rows, feed
from tdm_agents.world_models.transformer.fused import compiles
from tdm_agents.world_models.transformer.layout import StepLayout, context_steps
from tdm_agents.world_models.transformer.loss import drop_rewards, next_token_loss, step_tokens
from tdm_agents.world_models.transformer.network import Block, TransformerNetwork
from tdm_agents.world_models.transformer.presets import PRESETS
from tdm_agents.world_models.transformer.replay import Replays, can_replay, replayed_rollout
from tdm_agents.world_models.transformer.row_memory import row_bytes
from tdm_agents.world_models.transformer.scalars import one_by_one, together
from tdm_agents.world_models.transformer.state import TransformerState
from tdm_agents.world_models.transformer.suffix import Room
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tdm_agents.world_models.transformer.fused.ring import PanelPrefix


class TransformerWorldModel(LearnedModel):
    """A transformer over trajectory tokens behind the world-model protocol.

    Args:
        spec: The environment; ``device`` and ``history_steps`` are derived, not read.
        config: Settings.
        network: Weights to share with other environments' models; by default new ones.

    Raises:
        ValueError: If the numbers of choices of discrete actions are missing or more than the bins, or a step
            does not fit the context, or the network is of other sizes.
    """

    config_type: ClassVar[type[TransformerConfig]] = TransformerConfig

    def __init__(
        self, spec: ModelSpec, config: TransformerConfig, network: TransformerNetwork | None = None
    ) -> None:
        super().__init__()
        discrete = spec.action_kind == "discrete"
        if discrete and not spec.action_choices:
            raise ValueError("action_choices is empty, but actions are discrete; expected one a component")
        self.config = config
        sizes = config.network(spec)
        if network is not None and network.config != sizes:
            raise ValueError(f"the network is {network.config}; expected {sizes}")
        self.network = network if network is not None else TransformerNetwork(sizes)
        choices = spec.action_choices if discrete else ()
        self.tokenizer = Tokenizer(config.tokenizer, spec.observation_dim, spec.action_dim, choices)
        self.layout = StepLayout(spec.observation_dim, spec.action_dim, self.network.config.max_observation)
        self.context_steps = context_steps(config.context, self.layout)
        self.replays = Replays()
        self._spec = replace(spec, history_steps=self.context_steps)

    @property
    def spec(self) -> ModelSpec:
        """The environment as modelled, on the device where the weights are now."""
        return replace(self._spec, device=self.network.head.weight.device)

    def with_decoding(
        self,
        decoding: Decoding | None = None,
        *,
        parallel: bool | None = None,
        capture: Capture | None = None,
        attention: Attention | None = None,
    ) -> TransformerWorldModel:
        """The same weights, shared, with another way to read, write or compute imagined scalars."""
        other = copy.copy(self)
        other.config = replace(
            self.config,
            decoding=self.config.decoding if decoding is None else decoding,
            parallel=self.config.parallel if parallel is None else parallel,
            capture=self.config.capture if capture is None else capture,
            attention=self.config.attention if attention is None else attention,
        )
        other.replays = Replays()
        return other

    # -- learning -------------------------------------------------------------------------------------------

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """Sizes, tokens and planners by name."""
        return PRESETS

    @classmethod
    def build(
        cls, specs: Mapping[str, ModelSpec], config: Any, *, seed: int, source: TrainableModel | None = None
    ) -> Self:
        """A new transformer of one environment; see :meth:`tdm_agents.protocols.TrainableModel.build`.

        Args:
            specs: Of the environment.
            config: Settings; see :func:`~tdm_agents.world_models.transformer.beginning.with_room`.
            seed: Of the initial weights.
            source: A transformer or generalist to begin with. Where its tokens need no data, it need not have
                seen the environment.

        Raises:
            ValueError: If there are several environments, or the settings do not fit.
            CheckpointError: If ``source`` does not fit.
        """
        spec = only_environment(specs, cls.__name__)
        with seeded(seed):
            model = cls(spec, with_room(config, specs, source))
        if source is not None:
            begin_with(source, model, specs)
        return model

    def summary(self) -> str:
        """Numbers of weights and of tokens that each token attends to."""
        return f"{super().summary()}, a context of {self.config.context:,} tokens"

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Next-token loss of a batch of windows; see :func:`next_token_loss`.

        Args:
            batch: Windows of this model's environment, on its device.
            generator: Source of the reward dropout; None drops no reward (held-out evaluation).
        """
        reward = batch.reward
        if generator is not None:
            reward = drop_rewards(reward, self.config.reward_dropout, generator)
        return next_token_loss(
            self.network,
            self.tokenizer,
            self.layout,
            batch,
            inputs=step_tokens(self.tokenizer, batch.observation, reward, batch.action),
            context_steps=self.context_steps,
            action_weight=self.config.action_weight,
            terminates=self._spec.terminates,
        )

    # -- imagining ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def start(self, history: History, *, horizon: int) -> TransformerState:
        """Encode ``B`` histories in one forward; rows of different lengths are masked.

        Args:
            history: The last ``context_steps`` of it are read.
            horizon: Steps that may be imagined from here.

        Raises:
            ValueError: If shapes do not fit the model, a value is NaN, or ``horizon < 1``.
        """
        self._check_history(history, horizon)
        steps = min(history.observation.shape[1], self.context_steps)
        observation = history.observation[:, -steps:].float()
        action = history.action[:, history.action.shape[1] - (steps - 1) :]
        action = torch.cat([action, action.new_zeros((history.batch, 1, self.layout.action_dim))], dim=1)
        tokens = step_tokens(self.tokenizer, observation, history.reward[:, -steps:].float(), action)
        length = (steps - 1) * self.layout.tokens + self.layout.observation_dim  # up to the present o_n
        device = tokens.device

        lengths = history.length.clamp(max=steps)
        step_of = torch.arange(length, device=device) // self.layout.tokens  # [P]
        mask = visible = None  # all that came before is inside the band
        if not bool((lengths == steps).all()):
            visible = step_of[None] >= steps - lengths[:, None]  # [B, P]
            # padding sees its own step, so that its softmax has something to read
            own = step_of[:, None] == step_of
            causal = band_mask(steps, self.layout.tokens, steps, device)[:length, :length]
            mask = (causal & (visible[:, None] | own))[:, None]  # [B, 1, P, P]

        x = self.network.embed(
            tokens.flatten(1)[:, :length], self.layout.positions(device).repeat(steps)[:length]
        )
        rotation = self.network.rotation(step_of - (steps - 1))
        layers = []
        for block in self.network.blocks:
            assert isinstance(block, Block)
            query, key, value = block.project(x, rotation)
            layers.append(torch.stack([key, value]).transpose(1, 2).contiguous())
            attended = nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None
            )
            x = block.finish(x, attended.transpose(1, 2).flatten(2))
        # the present reward is fed with the action, so the prefix ends with o_n and its output is not needed
        return TransformerState(
            prefix=self._as_read(layers, visible),
            grouping=Grouping.of(torch.arange(history.batch, device=device), history.batch),
            suffix=None,
            room=Room.of(horizon, self.context_steps, self.layout),
            rotation=self.network.step_rotations(torch.arange(horizon + 1, device=device)),
            centres=torch.stack(
                [
                    *map(self.tokenizer.target_centres, range(self.layout.observation_dim)),
                    self.tokenizer.reward_centres(),
                ]
            ),
            observation=observation[:, -1],
            reward=self.tokenizer.encode_reward(history.reward[:, -1].float()),
            history_steps=steps,
            horizon=horizon,
        )

    def take(self, state: TransformerState, rows: Tensor) -> TransformerState:
        """Copies of the given rows (int64 ``[N']``), with the prefix shared; :meth:`TransformerState.take`.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        return state.take(rows)

    @torch.no_grad()
    def step(
        self, state: TransformerState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[TransformerState, Step]:
        """Imagine one transition: ``n + 1`` forwards, or fewer if parallel. Consumes ``state``.

        Args:
            state: ``N`` rows.
            action: ``[N, m]`` in [-1, 1], or int64 choices.
            generator: Source of randomness with ``decoding="sample"``.

        Raises:
            RuntimeError: If ``state`` was consumed, or stands at its horizon.
            ValueError: If ``action`` has another shape, or is not of the model's kind of numbers.
        """
        state.check_horizon()
        self._check_action(action, state.rows)
        state = state.consume()
        return state, self._imagine(state, action, self._uniform(state.rows, generator))

    def rollout(
        self, state: TransformerState, actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """``H`` calls of :meth:`step`, for ``actions[N, H, m]``; raises what they do. Consumes ``state``.

        With ``capture``, rows that are fresh from :meth:`start` and :meth:`take`, as many of each environment
        and in its order, replay a captured step. Otherwise rows that ended are no longer imagined, where to
        look at them does not make a GPU wait.
        """
        for time in range(actions.shape[1]):
            self._check_action(actions[:, time], state.rows)
        if type(self).step is not TransformerWorldModel.step:
            return looped_rollout(self, state, actions, generator=generator)
        if self.config.capture != "no" and can_replay(state):
            return replayed_rollout(self, state, actions, generator=generator)
        if self._spec.terminates and actions.device.type == "cpu":
            return rollout_while_alive(self, state, actions, generator=generator)
        return looped_rollout(self, state, actions, generator=generator)

    @torch.no_grad()
    def propose(
        self,
        state: TransformerState,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """Actions of the behaviour-cloning policy ``(h, o, r) -> a``; does not consume ``state``.

        Args:
            state: ``N`` rows.
            count: Actions a row.
            generator: Source of randomness.
            deterministic: The most likely tokens instead of sampled ones.

        Returns:
            Actions ``[N, count, m]`` and their log-probabilities ``[N, count]``.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        rows = torch.arange(state.rows, device=state.reward.device).repeat_interleave(count)
        fork = state.take(rows).consume()
        layout = self.layout
        separator = torch.full_like(fork.reward, self.tokenizer.separator)
        hidden = self._extend(
            fork, torch.stack([fork.reward, separator], dim=1), offset=layout.observation_dim
        )[:, 0]
        uniform = None
        if not deterministic:
            uniform = torch.rand((layout.action_dim, len(rows)), generator=generator, device=rows.device)
        tokens, log_prob = [], torch.zeros(len(rows), device=rows.device)
        for j in range(layout.action_dim):
            logits = self.tokenizer.mask_actions(self.network.logits(hidden), j)
            tokens.append(choose_bin(logits, None if uniform is None else uniform[j]))
            log_prob += logits.log_softmax(dim=-1).gather(1, tokens[-1][:, None])[:, 0]
            if j + 1 < layout.action_dim:
                hidden = self._extend(fork, tokens[-1][:, None], offset=layout.observation_dim + 2 + j)[:, 0]
        actions = self.tokenizer.decode_action(torch.stack(tokens, dim=1))
        return Proposal(actions.view(state.rows, count, -1), log_prob.view(state.rows, count))

    def draft(self, state: TransformerState) -> TransformerDraft:
        """``N`` transitions to be written token by token. Consumes ``state``."""
        return TransformerDraft.begin(self, state)

    def row_bytes(self, state: TransformerState, *, horizon: int) -> int:
        """Bytes that each row imagined from ``state`` needs; :func:`.row_memory.row_bytes`.

        Captured, with buffers for the rows that are left in the end; where episodes end, with half as many
        rows beside those that they are taken from.
        """
        captured = self.config.capture != "no"
        needed = row_bytes(
            self.config,
            self.layout,
            prefix_tokens=state.prefix.tokens,
            horizon=horizon,
            parallel=bool(self.config.parallel),
            captured=captured,
            fused=not isinstance(state.prefix, Prefix),
            on_cpu=self.network.head.weight.device.type == "cpu",
            number_bytes=self.network.head.weight.element_size(),
        )
        more = needed.suffix if captured else needed.suffix // 2 if self._spec.terminates else 0
        return needed.total + more

    def _as_read(self, layers: list[Tensor], visible: Tensor | None) -> Prefix | PanelPrefix:
        """A prefix of the kind that imagined rows read; takes the list over."""
        like, config = layers[0], self.config
        on_cpu = like.device.type == "cpu" and like.dtype == torch.float32
        if on_cpu and config.attention == "fused" and config.capture == "no" and compiles():
            from tdm_agents.world_models.transformer.fused.ring import PanelPrefix  # half a second to import
            from tdm_agents.world_models.transformer.fused.threads import can_share

            if can_share():
                return PanelPrefix.of(layers, visible)
        return Prefix(tuple(layers), visible)

    def _imagine(self, rows: Rows, action: Tensor, uniform: Tensor | None) -> Step:
        """One transition of rows whose buffers may be written to, with the draws of :meth:`_uniform`."""
        hidden = self._act(rows, action)
        parallel = self.config.parallel
        if parallel is None:
            parallel = len(hidden) == 1 and hidden.device.type == "cpu"
        write = together if parallel else one_by_one
        observation, hidden = write(self, rows, hidden, uniform)
        return self._arrive(rows, observation, hidden, uniform)

    def _act(self, rows: Rows, action: Tensor) -> Tensor:
        """The hidden state ``[N, d]`` from which the next observation is read."""
        separator = torch.full_like(rows.reward, self.tokenizer.separator)
        known = torch.stack([rows.reward, separator], dim=1)
        known = torch.cat([known, self.tokenizer.encode_action(action)], dim=1)
        hidden = self._extend(rows, known, offset=self.layout.observation_dim)[:, 0]
        rows.advance()
        return hidden

    def _arrive(self, rows: Rows, observation: Tensor, hidden: Tensor, uniform: Tensor | None) -> Step:
        """What comes with an observation, from the hidden state ``[N, d]`` after it."""
        drawn, alive = (None, None) if uniform is None else (uniform[:, -2], uniform[:, -1])
        reward = self._read(hidden, rows.centres[-1], drawn)
        step = Step(observation, reward, self._read_alive(hidden, alive))
        rows.keep(step, self.tokenizer.encode_reward(reward))
        return step

    def _extend(self, rows: Rows, tokens: Tensor, *, offset: int, outputs: int = 1) -> Tensor:
        """Hidden states ``[N, outputs, d]`` after ``tokens[N, c]`` of a step; see :func:`feed`."""
        return feed(
            self.network, self.layout, self.context_steps, rows, tokens, offset=offset, outputs=outputs
        )

    # -- reading outputs ------------------------------------------------------------------------------------

    def _uniform(self, rows: int, generator: torch.Generator | None) -> Tensor | None:
        """The draws of a step for all its rows at once: observation scalars, reward, alive; None for none."""
        if self.config.decoding != "sample":
            return None
        device = self.network.head.weight.device
        return torch.rand((self.layout.observation_dim + 2, rows), generator=generator, device=device).T

    def _read(self, hidden: Tensor, centres: Tensor, uniform: Tensor | None) -> Tensor:
        """Values ``[...]`` from hidden states ``[..., d]`` and what the bins stand for, ``[(...,) bins]``."""
        logits = self.network.logits(hidden)
        if self.config.decoding == "mean":
            return mean_near_mode(logits, centres, self.config.mean_window)
        chosen = choose_bin(logits, uniform)
        return centres.expand_as(logits).gather(-1, chosen[..., None])[..., 0]

    def _read_alive(self, hidden: Tensor, uniform: Tensor | None) -> Tensor:
        if not self._spec.terminates:
            return torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
        probability = self.network.alive(hidden)[:, 0].float().sigmoid()
        alive: Tensor = probability > (0.5 if uniform is None else uniform)
        return alive

    # -- refusing -------------------------------------------------------------------------------------------

    def _check_history(self, history: History, horizon: int) -> None:
        n, m = self.layout.observation_dim, self.layout.action_dim
        batch, steps = history.observation.shape[:2]
        expected = {
            "observation": (history.observation, (batch, steps, n)),
            "reward": (history.reward, (batch, steps)),
            "action": (history.action, (batch, steps - 1, m)),
            "length": (history.length, (batch,)),
        }
        for name, (tensor, shape) in expected.items():
            if tuple(tensor.shape) != shape:
                raise ValueError(f"history.{name} has shape {tuple(tensor.shape)}; expected {shape}")
        if not bool(history.observation.isfinite().all() & history.action.isfinite().all()):
            raise ValueError("the history holds NaN or inf in observations or actions")
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}; expected at least 1")

    def _check_action(self, action: Tensor, rows: int) -> None:
        shape = (rows, self.layout.action_dim)
        if tuple(action.shape) != shape:
            raise ValueError(f"action has shape {tuple(action.shape)}; expected {shape}")
        # looking at the data would make a GPU wait; there a planner's own clipping has to do
        if action.device.type == "cpu" and action.is_floating_point() and not action.isfinite().all():
            raise ValueError("action holds NaN or inf; expected numbers in [-1, 1]")
        if action.is_floating_point() == bool(self.tokenizer.action_choices):
            kind = "int64 choices" if self.tokenizer.action_choices else "numbers in [-1, 1]"
            raise ValueError(
                f"action is {action.dtype}; expected {kind}: actions are {self._spec.action_kind}"
            )

    # -- keeping --------------------------------------------------------------------------------------------

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Set the token ranges from the data of the one environment; see :meth:`Tokenizer.fit_columns`.

        Raises:
            ValueError: If the data are of another observation size, empty, or not finite.
        """
        (trajectories,) = data.values()
        fit_tokens(self.tokenizer, trajectories)

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors`` and ``model.json`` to a folder, atomically each, JSON last."""
        write_model(folder, "transformer", self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu") -> TransformerWorldModel:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: If a file is missing, truncated, altered, or of another schema or type.
        """

        def build(spec: ModelSpec, settings: Mapping[str, Any]) -> TransformerWorldModel:
            with seeded(0):  # of weights that are read over
                return cls(spec, TransformerConfig.from_json(settings))

        return read_model(folder, "transformer", build, device=device)
