"""Imagination in the latent space of TD-MPC2: what planners ask of the networks."""

from __future__ import annotations

import torch
from torch import Tensor

from tdm_agents.protocols import History, ModelSpec, Proposal, Rollout, Step
from tdm_agents.world_models.tdmpc2.latent_networks import LatentNetworks
from tdm_agents.world_models.tdmpc2.policy_prior import encoded_action
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config


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


class RoundedNetworks:
    """Networks to imagine with: the trained ones, or a copy whose products are of bfloat16.

    Args:
        networks: The trained ones.
        config: Says which.
    """

    def __init__(self, networks: LatentNetworks, config: TDMPC2Config) -> None:
        self._trained, self._config = networks, config
        self._copy: LatentNetworks | None = None

    def get(self, *, latest: bool = False) -> LatentNetworks:
        """The networks; ``latest``: after whatever changed the weights."""
        if not self._config.bf16:
            return self._trained
        device = next(self._trained.parameters()).device
        if self._copy is None or next(self._copy.parameters()).device != device:
            self._copy = self._trained.rounded()
        elif latest:
            self._copy.follow(self._trained)
        return self._copy


class LatentWorld:
    """A world model over latent networks; it imagines rewards, ends and values, and no observations.

    Attributes:
        config: Sizes.
    """

    config: TDMPC2Config
    _spec: ModelSpec
    _imagining: RoundedNetworks

    # what one of several tasks has otherwise

    def _task(self, rows: int) -> Tensor | None:
        """The number of the task, ``[rows]``; None where there is one."""
        return None

    def _widened(self, x: Tensor, width: int) -> Tensor:
        """``[..., width]`` of observations or actions, which networks read."""
        return x

    # what a planner asks

    @torch.no_grad()
    def start(self, history: History, *, horizon: int) -> TDMPC2State:
        """The encodings of the present observations; ``horizon`` does not matter."""
        networks = self._imagining.get(latest=True)
        device = next(networks.parameters()).device
        observation = self._widened(history.observation[:, -1].to(device), networks.observation_dim)
        return TDMPC2State(networks.encoded(observation, self._task(len(observation))))

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
        networks, task = self._imagining.get(), self._task(len(latent))
        encoded = encoded_action(self._widened(actions, networks.action_dim), self._spec)
        path = [latent]
        for t in range(encoded.shape[1]):
            path.append(networks.moved(networks.told(path[-1], task), encoded[:, t]))
        logits = networks.rewards(networks.told(torch.stack(path[:-1], dim=1), task), encoded)  # [N, H, V]
        reward, after = networks.bins.decode(logits), TDMPC2State(path[-1])
        if not self._spec.terminates:
            return after, Rollout(None, reward, torch.ones_like(reward, dtype=torch.bool), after)
        ended = networks.ends(networks.told(torch.stack(path[1:], dim=1), task)) > 0
        return after, Rollout(None, reward, ended.cumsum(dim=1) == 0, after)

    def take(self, state: TDMPC2State, rows: Tensor) -> TDMPC2State:
        """A new state of the rows (int64 ``[N']``, repeats allowed); ``state`` stays usable.

        Raises:
            RuntimeError: If ``state`` was consumed.
        """
        return TDMPC2State(state.latent[rows])

    @torch.no_grad()
    def value(self, state: TDMPC2State) -> Tensor:
        """Discounted rewards ``[N]`` from here on, if one behaves as the policy; the mean of two members."""
        networks, task = self._imagining.get(), self._task(len(state.latent))
        return networks.worth(networks.told(state.latent, task), task)

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
        networks, task = self._imagining.get(), self._task(len(state.latent))
        told = networks.told(state.latent[:, None].expand(-1, count, -1), task)
        drawn = networks.acting(told, task, generator=generator, deterministic=deterministic)
        action = drawn.action[..., : self._spec.action_dim]
        return Proposal(action, None if deterministic else drawn.log_prob)

    def row_bytes(self, state: TDMPC2State, *, horizon: int) -> int:
        """Bytes that an imagined row needs: its states, the widest layer of them all, rewards and actions."""
        config, spec = self.config, self._spec
        action = sum(spec.action_choices) or spec.action_dim
        latents = 3 * (config.latent + action)
        # several at once: of all steps for the rewards, of two members of the ensemble for the value
        layers = 4 * max(config.width, config.latent, config.bins) * max(horizon, 2)
        return 4 * (horizon * (latents + spec.action_dim + 2) + layers)
