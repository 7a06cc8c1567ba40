"""TD-MPC2 behind the contracts of world models and of learned models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import (
    Batch,
    History,
    ModelSpec,
    Optimizers,
    Preset,
    Proposal,
    Rollout,
    Step,
    UpdateSettings,
)
from tdm_agents.world_models.learned import LearnedModel, finite_numbers
from tdm_agents.world_models.model_files import read_model, write_model
from tdm_agents.world_models.tdmpc2.latent_networks import LatentNetworks
from tdm_agents.world_models.tdmpc2.objectives import model_loss, policy_loss
from tdm_agents.world_models.tdmpc2.pieces import Pieces, cut
from tdm_agents.world_models.tdmpc2.policy_prior import encoded_action
from tdm_agents.world_models.tdmpc2.sizes import PRESETS, TDMPC2Config, discount_of

if TYPE_CHECKING:
    from tdm_agents.data.trajectories import Trajectories

SHARE = "share"
"""Of the learning rate, in a group of an optimizer."""


class TDMPC2State:
    """``N`` latent states ``[N, z]``, with one owner."""

    __slots__ = ("_latent",)

    def __init__(self, latent: Tensor) -> None:
        self._latent: Tensor | None = latent

    @property
    def latent(self) -> Tensor:
        """``[N, z]``.

        Raises:
            RuntimeError: If a step has consumed the state.
        """
        if self._latent is None:
            raise RuntimeError("this state was consumed by step(): take() its rows first to keep it")
        return self._latent

    def consume(self) -> Tensor:
        """``[N, z]``; the state cannot be used any more."""
        latent, self._latent = self.latent, None
        return latent


class TDMPC2(LearnedModel):
    """A latent model that imagines rewards, ends and values, and no observations.

    Args:
        spec: What it models. ``history_steps`` becomes 1; the device is where the module is moved to.
        config: Its sizes and its training.
        seed: Of the initial weights.
    """

    config_type: ClassVar[type[TDMPC2Config]] = TDMPC2Config
    config: TDMPC2Config

    def __init__(self, spec: ModelSpec, config: TDMPC2Config | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config if config is not None else TDMPC2Config()
        self._spec = replace(spec, history_steps=1, dtype=torch.float32, imagines_observations=False)
        generator = torch.Generator("cpu").manual_seed(int(seed))
        self.networks = LatentNetworks(self._spec, self.config, generator=generator)
        self._rounded: list[LatentNetworks] = []  # a list, so that it is no part of the module
        self.discount: Tensor
        known = self.config.discount
        number = torch.tensor(0.99 if known is None else known, device="cpu", dtype=torch.float32)
        self.register_buffer("discount", number)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The paper's sizes and planner, ``5m`` by default."""
        return PRESETS

    @property
    def spec(self) -> ModelSpec:
        """Spaces, sizes, time step, and the device of the weights."""
        return replace(self._spec, device=self.discount.device)

    def fit(self, data: Mapping[str, Trajectories]) -> None:
        """Set the discount from the longest episode, unless the settings say what it is.

        Raises:
            ValueError: If the data hold observations of another size.
        """
        (trajectories,) = data.values()
        if trajectories.observation_dim != self._spec.observation_dim:
            raise WrongValueError(
                f"the data's observations have {trajectories.observation_dim} scalars; "
                f"the model expects {self._spec.observation_dim}"
            )
        self.expect(int(trajectories.episodes[:, 2].max()) - 1)

    def expect(self, decisions: int) -> None:
        """Set the discount for episodes of at most ``decisions``, unless the settings say what it is."""
        if self.config.discount is None:
            self.discount.fill_(discount_of(decisions))

    # -- learning ----------------------------------------------------------------------------------------

    def forward(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The model's loss; the policy has another, which :meth:`update` lowers too.

        Args:
            batch: Windows of at least two steps; they are cut into pieces of ``config.horizon`` transitions.
            generator: Of the targets and of the dropout; None: nothing is random.

        Raises:
            ValueError: If the batch holds no transition.
        """
        loss = self._loss(cut(batch, self.config.horizon), generator)
        return loss.total, loss.parts

    def _loss(self, pieces: Pieces, generator: torch.Generator | None) -> Any:
        return model_loss(
            self.networks, pieces, self.config, self._spec, discount=self.discount, generator=generator
        )

    def optimizers(self, settings: UpdateSettings) -> Optimizers:
        """Adam of the model, slower for the encoder, and Adam of the policy.

        Args:
            settings: Of the run.

        Raises:
            ValueError: If they name a learning rate, clipping, decay or moments, which are not theirs to say.
        """
        refuse_other(settings)
        rate, networks = self.config.learning_rate, self.networks
        encoder = {"params": list(networks.encoder.parameters()), SHARE: self.config.encoder_rate}
        rest = {"params": networks.model_weights(), SHARE: 1.0}
        policy = {"params": list(networks.policy.parameters()), SHARE: 1.0}
        return {
            "model": torch.optim.Adam([encoder, rest], lr=rate, fused=True),
            "policy": torch.optim.Adam([policy], lr=rate, eps=1e-5, fused=True),
        }

    def update(
        self,
        batch: Batch,
        optimizers: Optimizers,
        *,
        step: int,
        settings: UpdateSettings,
        generator: torch.Generator,
    ) -> Mapping[str, float]:
        """One step of model, policy, target networks and running scale.

        The policy's gradient is that of the values as they were before the step.

        Raises:
            NotFiniteError: If a loss or a gradient is not finite.
            ValueError: If the batch holds no transition.
        """
        networks, half = self.networks, settings.bf16 or self.config.bf16
        pieces = cut(batch, self.config.horizon)
        with torch.autocast(generator.device.type, dtype=torch.bfloat16, enabled=half):
            loss = self._loss(pieces, generator)
            policy, scale, metrics = policy_loss(
                networks, loss.latents, pieces.reached, self.config, generator=generator
            )
        norms = {}
        for name, of in (("model", loss.total), ("policy", policy)):
            weights = [w for group in optimizers[name].param_groups for w in group["params"]]
            norms[f"gradient_norm_{name}"] = self._gradient(of, weights)
        numbers = finite_numbers(
            {"loss": loss.total, "loss_policy": policy, **norms, **loss.parts, **metrics}
        )
        rate = self.config.learning_rate * settings.rate(step) / settings.learning_rate
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * group[SHARE]
            optimizer.step()
        networks.scale.scale.copy_(scale)
        networks.targets_follow(self.config.tau)
        return {**numbers, "learning_rate": rate}

    def _gradient(self, loss: Tensor, weights: list[nn.Parameter]) -> Tensor:
        """Set the gradient of these weights alone, clipped; returns its norm before."""
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        return nn.utils.clip_grad_norm_(weights, self.config.gradient_clip)

    def summary(self) -> str:
        """The weights that are trained, and those that follow them."""
        trained = sum(weight.numel() for weight in self.parameters() if weight.requires_grad)
        every = sum(weight.numel() for weight in self.parameters())
        return f"{trained:,} parameters, and {every - trained:,} of target networks"

    # -- imagining ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def start(self, history: History, *, horizon: int) -> TDMPC2State:
        """The encodings of the present observations; ``horizon`` does not matter."""
        return TDMPC2State(self._imagining(latest=True).encoded(history.observation[:, -1].to(self.discount)))

    def _imagining(self, *, latest: bool = False) -> LatentNetworks:
        """The networks to imagine with; ``latest``: after whatever changed the weights."""
        if not self.config.bf16:
            return self.networks
        if not self._rounded or next(self._rounded[0].parameters()).device != self.discount.device:
            self._rounded = [self.networks.rounded()]
        elif latest:
            self._rounded[0].follow(self.networks)
        return self._rounded[0]

    @torch.no_grad()
    def step(
        self, state: TDMPC2State, action: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[TDMPC2State, Step]:
        """One transition of ``N`` rows; ``action`` is ``[N, m]``. Consumes ``state``, draws nothing.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        after, imagined = self._imagined(state.consume(), action[:, None])
        return after, Step(None, imagined.reward[:, 0], imagined.alive[:, 0])

    @torch.no_grad()
    def rollout(
        self, state: TDMPC2State, actions: Tensor, *, generator: torch.Generator | None = None
    ) -> Rollout:
        """``H`` transitions of ``N`` rows; ``actions`` is ``[N, H, m]``. Consumes ``state``, draws nothing.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        return self._imagined(state.consume(), actions)[1]

    def _imagined(self, latent: Tensor, actions: Tensor) -> tuple[TDMPC2State, Rollout]:
        networks, encoded = self._imagining(), encoded_action(actions, self._spec)
        path = [latent]
        for t in range(encoded.shape[1]):
            path.append(networks.moved(path[-1], encoded[:, t]))
        logits = networks.rewards(torch.stack(path[:-1], dim=1), encoded)  # [N, H, V]
        ended = networks.ends(torch.stack(path[1:], dim=1)) > 0
        after = TDMPC2State(path[-1])
        return after, Rollout(None, networks.bins.decode(logits), ended.cumsum(dim=1) == 0, after)

    def take(self, state: TDMPC2State, rows: Tensor) -> TDMPC2State:
        """A new state of the rows (int64 ``[N']``, repeats allowed); ``state`` stays usable.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        return TDMPC2State(state.latent[rows])

    @torch.no_grad()
    def value(self, state: TDMPC2State) -> Tensor:
        """Discounted rewards ``[N]`` from here on, if one behaves as the policy; the mean of two members."""
        return self._imagining().worth(state.latent)

    @torch.no_grad()
    def propose(
        self,
        state: TDMPC2State,
        count: int,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Proposal:
        """``count`` actions per row drawn from the policy, or its likeliest; does not consume ``state``."""
        latent = state.latent[:, None].expand(-1, count, -1)
        drawn = self._imagining().policy(latent, generator=generator, deterministic=deterministic)
        return Proposal(drawn.action, None if deterministic else drawn.log_prob)

    def row_bytes(self, state: TDMPC2State, *, horizon: int) -> int:
        """Bytes that an imagined row needs: its states, the widest layer of them all, rewards and actions."""
        config, spec = self.config, self._spec
        action = sum(spec.action_choices) or spec.action_dim
        latents = 3 * (config.latent + action)
        # several at once: of all steps for the rewards, of two members of the ensemble for the value
        layers = 4 * max(config.width, config.latent, config.bins) * max(horizon, 2)
        return 4 * (horizon * (latents + spec.action_dim + 2) + layers)

    # -- files -------------------------------------------------------------------------------------------

    def save(self, folder: Path | str) -> None:
        """Write ``weights.safetensors``, then ``model.json``, which holds the hash of the weights."""
        write_model(folder, "tdmpc2", self, spec=self._spec, config=self.config)

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """The model that :meth:`save` wrote, on ``device``, ready to plan with.

        Raises:
            CheckpointError: If a file is missing, altered, of another type or does not fit its JSON.
        """
        return read_model(
            folder, "tdmpc2", lambda spec, config: cls(spec, TDMPC2Config(**config)), device=device
        )


def refuse_other(settings: UpdateSettings) -> None:
    """Refuse settings of a run that TD-MPC2 has of its own; schedule and precision are the run's.

    Raises:
        ValueError: Naming the first that is not the default.
    """
    usual = UpdateSettings()
    own = {
        "learning_rate": "learning_rate",
        "grad_clip": "gradient_clip",
        "weight_decay": None,
        "betas": None,
    }
    for name, mine in own.items():
        if (value := getattr(settings, name)) != (default := getattr(usual, name)):
            remedy = f"set {mine} in --model-settings instead" if mine else "it has Adam as in the paper"
            raise WrongValueError(
                f"{name} is {value}, which TD-MPC2 does not read; expected it left at {default}: {remedy}"
            )
