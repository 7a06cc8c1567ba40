"""An episode that is played elsewhere, kept as a scene: what ``tdm play --record`` writes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import mujoco

from tdm_agents.actors.agents import AgentFactory
from tdm_agents.agent import TDMAgent
from tdm_agents.environments import Env
from tdm_agents.errors import WrongTypeError
from tdm_agents.guard import new_token
from tdm_agents.spaces import ObservationCodec
from tdm_agents.view.body_scene import BodyScene
from tdm_agents.view.guarded_server import GuardedServer, PageGuard
from tdm_agents.view.imagined_poses import imagined_positions, positions_of, velocities_of
from tdm_agents.view.live_physics import LivePhysics, physics_of
from tdm_agents.view.observed_positions import ObservedPositions
from tdm_agents.view.plan_seen import plan_seen
from tdm_agents.view.scene_recorder import SceneRecorder
from tdm_agents.view.snapshots import Array, FloatArray, PlanSeen

_FRAMES_PER_SECOND = 30.0


@dataclass(frozen=True, slots=True)
class _Moment:
    """The state before an environment step, and the plan that was made in it, if one was."""

    observation: FloatArray
    physics: Array
    score: float
    plan: PlanSeen | None


class EpisodeFilm:
    """Films one episode of an agent: its body, and its plans where it is played inside ``tracing()``.

    Args:
        contestant: The agent, or the recipe for one.
        shown: Candidates that are shown of each plan.

    Attributes:
        contestant: What plays in its place.
    """

    def __init__(self, contestant: TDMAgent | AgentFactory, shown: int = 12) -> None:
        self._agent = contestant if isinstance(contestant, TDMAgent) else None
        self._shown = shown
        self._moments: list[_Moment] = []
        self._model: bytes = b""
        self._sub_steps, self._plans = 1, 0
        self._last: Any = None
        self.contestant: TDMAgent | AgentFactory = contestant
        if isinstance(contestant, AgentFactory):
            given = {field.name: getattr(contestant, field.name) for field in fields(contestant)}
            self.contestant = _Known(**given, film=self)

    def meet(self, agent: TDMAgent) -> None:
        """Take note of the agent that a recipe made."""
        self._agent = agent

    def watch(self, env: Env) -> Env:
        """The environment, filmed.

        Raises:
            TypeError: If it has no MuJoCo body to draw.
        """
        physics = physics_of(env)
        if physics is None:
            name = env if env.spec is None else env.spec.id
            raise WrongTypeError(
                f"{name} has no MuJoCo body to draw; leave --record out, and look at the plot and the video"
            )
        return _Filmed(env, physics, self)

    def begin(self, physics: LivePhysics) -> None:
        """A new episode: forget the last one."""
        self._moments.clear()
        self._plans, self._last = 0, None
        self._model, self._sub_steps = pickle.dumps(physics.model), physics.sub_steps

    def note(self, physics: LivePhysics, observation: FloatArray, score: float) -> None:
        """Take note of the state in which the next step is taken, and of a plan that was made in it."""
        agent, plan = self._agent, None
        if agent is not None and agent.last_plan is not None and agent.last_plan is not self._last:
            self._last, self._plans = agent.last_plan, self._plans + 1
            plan = plan_seen(agent, self._last, physics, number=self._plans, shown=self._shown)
        self._moments.append(_Moment(observation, physics.state()[0], score, plan))

    def write(self, path: Path, *, seconds_per_step: float) -> int:
        """Draw the episode and write it as one HTML file; returns its size in bytes.

        Raises:
            OSError: If it cannot be written.
        """
        assert self._agent is not None
        model: mujoco.MjModel = pickle.loads(self._model)  # our own
        repeat = self._agent.model.spec.action_repeat
        reader = ObservedPositions(model)
        for moment in self._moments:
            reader.learn(
                moment.observation,
                positions_of(moment.physics, model),
                velocities_of(moment.physics, model),
            )
        server = GuardedServer("127.0.0.1", 0, PageGuard("127.0.0.1", new_token()), "recording")
        try:
            scene = BodyScene(server, model)
            scene.show(positions_of(self._moments[0].physics, model))
            caption = server.scene.add_label("/caption", "", position=(0.0, 0.0, 1.1 * scene.size))
            recorder = SceneRecorder(server)
            every = max(1, round(1.0 / (_FRAMES_PER_SECOND * seconds_per_step)))
            for step, moment in enumerate(self._moments):
                qpos = positions_of(moment.physics, model)
                if moment.plan is not None:
                    futures = imagined_positions(
                        moment.plan,
                        model,
                        reader,
                        steps=self._sub_steps * repeat,
                        seconds=seconds_per_step * repeat,
                    )
                    if futures is not None:
                        scene.imagine(futures, moment.plan.values, qpos)
                if step % every == 0:
                    scene.show(qpos)
                    caption.text = f"{step * seconds_per_step:.1f} s, return {moment.score:.1f}"
                    recorder.frame(every * seconds_per_step)
            return recorder.write(path)
        finally:
            server.stop()


class _Filmed(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that shows its film every state in which it is stepped."""

    looks_on = True  # the simulator foresees it: nothing is changed

    def __init__(self, env: Env, physics: LivePhysics, film: EpisodeFilm) -> None:
        super().__init__(env)
        self._physics, self._film = physics, film
        self._codec = ObservationCodec(env.observation_space)
        self._observation, self._score = None, 0.0  # type: Any, float

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self._observation, info = self.env.reset(**options)
        self._score = 0.0
        self._film.begin(self._physics)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        self._film.note(self._physics, self._codec.flatten(self._observation), self._score)
        self._observation, reward, terminated, truncated, info = self.env.step(action)
        self._score += float(reward)
        return self._observation, reward, terminated, truncated, info


@dataclass(frozen=True, slots=True)
class _Known(AgentFactory):
    """A recipe whose agent its film gets to know."""

    film: EpisodeFilm | None = None

    def __call__(self, envs: Sequence[Env]) -> TDMAgent:
        agent = AgentFactory.__call__(self, envs)
        if self.film is not None:
            self.film.meet(agent)
        return agent
