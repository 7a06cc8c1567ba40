"""What a teacher imagines around its plans, as short episodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tdm_agents.actors.agents import AgentActor
from tdm_agents.agent.deciding import PlanView
from tdm_agents.online.replay import PlayedEpisode
from tdm_agents.protocols import HasOnly, ModelSpec, observation_of, rollout

WHAT = "a student of what is imagined"
INSTEAD = "set imagined=0 (--imagined 0), so that it learns from what happens"


class Imagination:
    """Imagined transitions along candidates around the plans of a teacher.

    Args:
        teacher: The teacher.
        candidates: Sequences per plan: the plan itself first, the others with noise.
        steps: Steps of each, at most the planner's horizon.
        noise: Standard deviation of the noise; of discrete actions, the share that is replaced.
        seed: Of the noise, and of a model that samples.

    Attributes:
        episodes: What was imagined.
    """

    def __init__(self, teacher: AgentActor, *, candidates: int, steps: int, noise: float, seed: int) -> None:
        spec = teacher.agent.model.spec
        self._teacher, self._candidates, self._noise = teacher, candidates, noise
        self._steps = min(steps, teacher.agent.planner.horizon)
        self._generator = torch.Generator(device=spec.device).manual_seed(seed)
        self._seen: PlanView | None = teacher.agent.last_plan
        self.episodes: list[PlayedEpisode] = []

    @torch.no_grad()
    def __call__(self) -> None:
        """Imagine around the last plan, unless that was done already.

        Raises:
            ValueError: If the teacher's model imagines no observations.
        """
        agent, view = self._teacher.agent, self._teacher.agent.last_plan
        if view is None or view is self._seen:
            return
        self._seen, model = view, agent.model
        if isinstance(model, HasOnly):
            model = model.only(view.rows.tolist())
        plan = view.plan.sequence[:, : self._steps]  # [B, H, m]
        actions = self._disturbed(plan, agent.model.spec)  # [B * K, H, m]
        state = model.start(view.history, horizon=self._steps)
        rows = torch.arange(len(plan), device=plan.device).repeat_interleave(self._candidates)
        imagined = rollout(model, model.take(state, rows), actions, generator=self._generator)
        seen = observation_of(imagined, model, WHAT, instead=INSTEAD)
        now = view.history.observation[:, -1][rows]
        observation = torch.cat([now[:, None], seen], dim=1).float().cpu().numpy()
        columns = (actions.cpu().numpy(), imagined.reward.float().cpu().numpy(), imagined.alive.cpu().numpy())
        for o, a, r, alive in zip(observation, *columns, strict=True):
            length = int(alive.sum()) + int(not alive.all())  # the step of the end is part of it
            episode = PlayedEpisode(o[: length + 1], a[:length], r[:length], terminated=not alive.all())
            if np.isfinite(o[: length + 1]).all() and np.isfinite(r[:length]).all():
                self.episodes.append(episode)

    def _disturbed(self, plan: Tensor, spec: ModelSpec) -> Tensor:
        """The plans ``[B, H, m]``, each followed by candidates around it, ``[B * K, H, m]``."""
        sequences = plan[:, None].expand(-1, self._candidates, -1, -1)  # [B, K, H, m]
        others = torch.arange(self._candidates, device=plan.device)[:, None, None] > 0
        generator, device = self._generator, plan.device
        if spec.action_kind == "discrete":
            choices = torch.tensor(spec.action_choices, device=plan.device)
            uniform, share = torch.rand(
                (2, *sequences.shape), generator=generator, device=device, dtype=torch.float32
            )
            replaced = share < self._noise
            drawn = (uniform * choices).long().clamp(max=choices - 1)
            return torch.where(replaced & others, drawn, sequences).flatten(0, 1)
        noise = self._noise * torch.randn(
            sequences.shape, generator=generator, device=device, dtype=plan.dtype
        )
        return (sequences + noise * others).clamp(-1.0, 1.0).flatten(0, 1)


def as_shown(episode: PlayedEpisode, shown: np.ndarray) -> PlayedEpisode:
    """An episode with the actions ``[L, m]`` that a teacher would have taken; what they bring is unknown."""
    return replace(episode, action=shown, reward=np.full(len(shown), np.nan, np.float32))
