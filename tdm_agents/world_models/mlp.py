"""MLPs that predict one transition: the baselines of the TDM paper.

``(o, a) -> (o' - o, r, alive)`` with normalised inputs and outputs, deterministic and memoryless: only the
present observation of a history counts. Angles get no special treatment. Variants predict ``o'`` itself, read
tokens instead of numbers, or predict tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_agents.protocols import Batch, History, ModelSpec, Preset, Rollout, Step, looped_rollout
from tdm_agents.world_models.mlp_config import PRESETS, MLPConfig, width_of
from tdm_agents.world_models.mlp_tokens import TokenTable, cross_entropies, decoded
from tdm_agents.world_models.model_files import read_model, write_model
from tdm_agents.world_models.one_step import OneStepModel, Transitions, transition_counts
from tdm_agents.world_models.transformer.beginning import fit_tokens
from tdm_agents.world_models.transformer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tdm_agents.data.trajectories import Trajectories

__all__ = ["MLPConfig", "MLPState", "MLPWorldModel"]


class MLPState:
    """``N`` present observations ``[N, n]``, with one owner."""

    __slots__ = ("_observation",)

    def __init__(self, observation: Tensor) -> None:
        self._observation: Tensor | None = observation

    @property
    def observation(self) -> Tensor:
        """The present observations ``[N, n]``.

        Raises:
            RuntimeError: If a step has consumed the state.
        """
        if self._observation is None:
            raise RuntimeError(
                "this state was consumed by step() or rollout(): take() its rows first to keep it"
            )
        return self._observation

    def consume(self) -> Tensor:
        """The present observations ``[N, n]``; the state cannot be used afterwards."""
        observation, self._observation = self.observation, None
        return observation


class MLPWorldModel(OneStepModel):
    """An MLP behind the :class:`~tdm_agents.protocols.WorldModel` protocol; deterministic but for samples.

    Args:
        spec: What it models. ``history_steps`` becomes 1; the device is where the module is moved to.
        config: Its settings.
        seed: Of the initial weights (PyTorch's default distribution for linear layers).

    Raises:
        ValueError: If no width gives about ``config.parameters``, or there are fewer bins than choices of an
            action.
    """

    config_type: ClassVar[type[MLPConfig]] = MLPConfig
    name: ClassVar[str] = "mlp"
    """In the registry and in ``model.json``."""

    def __init__(self, spec: ModelSpec, config: MLPConfig | None = None, *, seed: int = 0) -> None:
        config = config if config is not None else MLPConfig()
        super().__init__(spec, absolute=config.target == "absolute")
        self.config = config
        n, m = spec.observation_dim, spec.action_dim
        inputs = self.input_dim if config.inputs == "plain" else (n + m) * config.token_width
        # n scalars and the reward, logit of alive
        outputs = n + 2 if config.outputs == "plain" else (n + 1) * config.bins + 1
        widths = [inputs, *[width_of(config, inputs, outputs)] * config.layers]
        generator = torch.Generator("cpu").manual_seed(int(seed))
        self.hidden = nn.ModuleList(linear_layer(i, o, generator) for i, o in itertools.pairwise(widths))
        self.head = linear_layer(widths[-1], outputs, generator)
        if "tokens" in (config.inputs, config.outputs):
            self.tokenizer = Tokenizer(config.tokenizer(), n, m, spec.action_choices)
        if config.inputs == "tokens":
            self.table = TokenTable(config.bins, config.token_width)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The defaults, and a large one with as many parameters as the small transformer."""
        return PRESETS

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Set the normalisation and the ranges of tokens from the data of the one environment.

        Raises:
            ValueError: If the data hold no transition, or observations of another size.
        """
        super().fit(data)
        if hasattr(self, "tokenizer"):
            (trajectories,) = data.values()
            fit_tokens(self.tokenizer, trajectories)

    def predicted(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """What follows, as the network says it.

        Args:
            observation: ``[..., n]``.
            action: ``[..., m]``.

        Returns:
            The normalised changes (or next observations) and reward ``[..., n + 1]``, or the logits of their
            tokens ``[..., n + 1, bins]``; and the logit of alive ``[...]``. All float32.
        """
        if self.config.inputs == "tokens":
            x: Tensor = self.table(self.tokenizer, observation, action)
        else:
            x = self.inputs(observation, action)
        for layer in self.hidden:
            x = F.silu(layer(x))
        outputs: Tensor = self.head(x).float()
        scalars, logit = outputs[..., :-1], outputs[..., -1]
        if self.config.outputs == "tokens":
            scalars = scalars.reshape(*scalars.shape[:-1], -1, self.config.bins)
        return scalars, logit

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Errors of observation, reward and, where episodes end, alive: squared errors or cross-entropies.

        Args:
            batch: Windows of at least two steps.
            generator: Not used, since nothing is random.

        Raises:
            ValueError: If the batch holds no transition.
        """
        some = Transitions.of(batch)
        moves, rewards = (self.counts(batch) if batch.counts is None else batch.counts)[:2]
        outputs, logit = self.predicted(some.now, some.action)
        if self.config.outputs == "tokens":
            error = cross_entropies(self.tokenizer, outputs, some)
        else:
            error = (outputs - self.targets(some)).square()
        observation_loss = error[:, :-1].sum() / (moves * (error.shape[1] - 1))
        reward_loss = (error[:, -1] * some.known).sum() / rewards.clamp(min=1)
        total = observation_loss + reward_loss
        metrics = {"observation": observation_loss.detach(), "reward": reward_loss.detach()}
        if self._spec.terminates:
            alive = some.alive.float()
            alive_loss = F.binary_cross_entropy_with_logits(logit, alive, reduction="sum") / moves
            total, metrics["alive"] = total + alive_loss, alive_loss.detach()
        return total, metrics

    def counts(self, batch: Batch) -> Tensor:
        """The numbers of transitions and of known rewards, ``[2]`` int64."""
        return transition_counts(batch)

    def start(self, history: History, *, horizon: int) -> MLPState:
        """The present observations of ``B`` histories; ``horizon`` is not used."""
        return MLPState(history.observation[:, -1].to(self.observation_mean))

    @torch.no_grad()
    def step(
        self, state: MLPState, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[MLPState, Step]:
        """One transition of ``N`` rows; ``action`` is ``[N, m]``. Consumes ``state``.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        now = state.consume()
        outputs, logit = self.predicted(now, action)
        if self.config.outputs == "tokens":
            read = self.config.read
            after, reward = decoded(self.tokenizer, outputs, now, read=read, generator=generator)
            after = self.with_goal(now, after)
        else:
            after, reward = self.outcome(now, outputs)
        if not self._spec.terminates:
            return MLPState(after), Step(after, reward, torch.ones_like(logit, dtype=torch.bool))
        return MLPState(after), Step(after, reward, logit > 0, logit.sigmoid())

    def take(self, state: MLPState, rows: Tensor) -> MLPState:
        """A new state of the rows (int64 ``[N']``, repeats allowed); ``state`` stays usable.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        return MLPState(state.observation[rows])

    def rollout(
        self, state: MLPState, actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """``H`` steps; ``actions`` is ``[N, H, m]``. Consumes ``state``."""
        return looped_rollout(self, state, actions, generator=generator)

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors``, then ``model.json``, which holds the hash of the weights."""
        write_model(folder, self.name, self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote, on ``device``, ready to plan with.

        Raises:
            CheckpointError: If a file is missing or altered, has another type or does not fit its JSON.
        """
        return read_model(
            folder, cls.name, lambda spec, config: cls(spec, cls.config_type(**config)), device=device
        )


def linear_layer(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with PyTorch's default distribution of weights, drawn from ``generator``."""
    with torch.random.fork_rng(devices=[]):  # Linear draws from the global state, for nothing
        layer = nn.Linear(inputs, outputs, device="cpu", dtype=torch.float32)
    bound = inputs**-0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer
