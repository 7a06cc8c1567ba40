"""An environment that its teacher imagines: only the first observation of an episode is real."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from tdm_agents.actors.contestant import Contestant
from tdm_agents.agent import TDMAgent
from tdm_agents.agent.memory import AgentMemory
from tdm_agents.environments import Env
from tdm_agents.errors import WrongValueError
from tdm_agents.protocols import HasOnly, WorldModel, observation_of, require_observations
from tdm_agents.spaces import ObservationCodec, action_codec

WHO = "an imagined episode"
INSTEAD = "leave out --in-imagination, so that episodes are played in the environment"


def imagining_model(teacher: Contestant) -> WorldModel[Any]:
    """The model in which a teacher's episodes can be played.

    Raises:
        ValueError: If the teacher has none, or one that reads the environment or imagines no observations.
    """
    if not isinstance(teacher, TDMAgent) or isinstance(teacher.model, HasOnly):
        raise WrongValueError(f"the teacher has no learned model in which episodes can be played; {INSTEAD}")
    require_observations(teacher.model, WHO, instead=INSTEAD)
    return teacher.model


class ImaginedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """The environment as a world model imagines it, in its own spaces and steps.

    A model's step is ``spec.action_repeat`` environment steps. So the action of the first of them is held,
    and the last one shows the next observation and the whole reward. The environment itself is only reset.

    Args:
        env: The environment, which says how episodes begin.
        model: Who imagines.

    Raises:
        ValueError: If the model imagines something that is not finite (in ``step``).
    """

    def __init__(self, env: Env, model: WorldModel[Any]) -> None:
        super().__init__(env)
        self._model = model
        self._codec = ObservationCodec(env.observation_space)
        self._actions = action_codec(env.action_space)
        self._generator = torch.Generator(device=model.spec.device)
        self._memory: AgentMemory | None = None
        self._seen: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset the environment, and forget what was imagined."""
        self._seen, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._generator.manual_seed(seed)
        self._memory = AgentMemory.empty(self._model.spec, 1, None)
        self._remember(torch.as_tensor(self._codec.flatten(self._seen), device="cpu"))
        return self._seen, info

    @torch.no_grad()
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One environment step of what is imagined."""
        memory, spec = self._memory, self._model.spec
        assert memory is not None, "reset comes first"
        if int(memory.countdown) == 0:
            code = torch.as_tensor(self._actions.encode(np.asarray(action)), device="cpu")
            memory = memory.act(code.to(memory.action).view(1, -1), repeat=spec.action_repeat)
        self._memory = memory = replace(memory, countdown=memory.countdown - 1)
        if int(memory.countdown) > 0:
            return self._seen, 0.0, False, False, {}
        state = self._model.start(memory.history(), horizon=1)
        _, step = self._model.step(state, memory.action[:, -1], generator=self._generator)
        observation = observation_of(step, self._model, WHO, instead=INSTEAD)
        reward = float(step.reward)
        if not bool(observation.isfinite().all()) or not np.isfinite(reward):
            raise WrongValueError(
                f"{type(self._model).__name__} imagined the observation {observation[0].tolist()} and the "
                f"reward {reward}; cut imagined episodes earlier (--max-steps), or {INSTEAD}"
            )
        self._memory = replace(memory, pending=step.reward.to(memory.pending))
        self._remember(observation[0])
        self._seen = self._codec.unflatten(observation[0].float().cpu().numpy())
        return self._seen, reward, not bool(step.alive), False, {}

    def _remember(self, observation: torch.Tensor) -> None:
        assert self._memory is not None
        self._memory = self._memory.append(observation[None].to(self._memory.observation))
