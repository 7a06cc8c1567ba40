"""Training of a policy of Stable-Baselines3 that keeps the best policy seen.

Returns of PPO and SAC go up and down while they train, so the last policy is rarely the best. Training is
SB3's own. This module adds a budget of CPU time, evaluation on separate seeds, and files that are whole
whenever the process ends.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from tdm_agents.collection.seeds import COLLECTION_FIRST, TUNING_FIRST
from tdm_agents.env_checks import refuse_shared
from tdm_agents.environments import EnvRef
from tdm_agents.errors import PathTakenError, WrongValueError
from tdm_agents.evaluation.report import provenance
from tdm_agents.experts.algorithms import EVALUATION_EPISODES, Algorithm, settings_for
from tdm_agents.experts.recorded_training import Done, Recorded, policy_file, write_replay
from tdm_agents.json_text import plain_number
from tdm_agents.storage import write_bytes, write_json

BEST_FILE = "best.zip"
RECORD_FILE = "training.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What to train, on what, and for how long.

    Attributes:
        env: The environment.
        algorithm: ``"ppo"`` or ``"sac"``.
        settings: Arguments of SB3's class, in addition to ours.
        steps: Environment steps, of all environments together, after which training ends.
        cpu_seconds: CPU time of the process, evaluations included, after which training ends; None = no
            limit.
        num_envs: Number of environments side by side, in this process.
        evaluate_every: Environment steps between evaluations; the end of training is evaluated too.
        evaluation_episodes: Number of episodes per evaluation.
        seed: Seed of the networks, the actions and the training environments.
        device: Where the networks compute.
        record: Whether every policy that is evaluated is kept, and every episode of training as data; see
            :func:`tdm_agents.experts.recorded_training.write_replay`.

    Raises:
        ValueError: If a setting makes no sense.
    """

    env: EnvRef
    algorithm: Algorithm = "ppo"
    settings: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1_000_000
    cpu_seconds: float | None = None
    num_envs: int = 8
    evaluate_every: int = 40_000
    evaluation_episodes: int = EVALUATION_EPISODES
    seed: int = 0
    device: str = "cpu"
    record: bool = False

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            raise WrongValueError(
                f"algorithm is {self.algorithm!r}; expected one of {', '.join(get_args(Algorithm))}"
            )
        for name in ("steps", "num_envs", "evaluate_every", "evaluation_episodes"):
            if getattr(self, name) < 1:
                raise WrongValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.seed < 0:
            raise WrongValueError(f"seed is {self.seed}; expected at least 0")
        if self.cpu_seconds is not None and not self.cpu_seconds > 0.0:
            raise WrongValueError(
                f"cpu_seconds is {self.cpu_seconds}; expected more than 0, or None for no limit"
            )


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation during training.

    Attributes:
        steps: Environment steps trained so far.
        cpu_seconds: CPU time so far, evaluations included.
        mean_return: Mean return of the evaluation's episodes, with the deterministic policy.
        best: Whether the policy is the best so far, and therefore kept.
    """

    steps: int
    cpu_seconds: float
    mean_return: float
    best: bool


def train(
    training: Training, out: Path, *, watch: Callable[[Evaluated], None] | None = None
) -> list[Evaluated]:
    """Train, and keep the best policy in ``out/best.zip`` and the record of its training beside it.

    The policy and the record (``out/training.json``) are whole whenever the process ends; TensorBoard events
    are beside them. Every evaluation plays the same episodes, on seeds for tuning
    (:mod:`tdm_agents.collection.seeds`); training uses those for collection.

    Args:
        training: What to train, and for how long.
        out: Folder of the policy; it must not hold a trained policy yet.
        watch: Called after every evaluation.

    Returns:
        All evaluations.

    Raises:
        FileExistsError: If ``out`` holds a policy.
        ValueError: If the algorithm cannot act in the environment.
    """
    best = out / BEST_FILE
    if best.exists():
        raise PathTakenError(f"{best} exists; choose another folder, or remove it")
    began = time.process_time()
    make, done = training.env.make, Done()

    def recorded() -> gym.Env[Any, Any]:
        return Recorded(make(), done)

    played = recorded if training.record else make
    envs = make_vec_env(played, training.num_envs)
    held_out = make_vec_env(make, 1)
    try:
        refuse_shared(envs.get_attr("unwrapped"))
        algorithm = _algorithm(training, envs, out)
        keeper = _Keeper(training, held_out, out, began, watch)
        keeper.write_record(finished=False)  # before any policy: who begins again knows whose files they are
        algorithm.learn(training.steps, callback=keeper, tb_log_name=training.algorithm)
    finally:
        envs.close()
        held_out.close()
    if training.record:
        write_replay(out, training.env, done.episodes, [(one.steps, one.mean_return) for one in keeper.found])
    keeper.write_record(finished=True)
    return keeper.found


def settings_of(training: Training) -> dict[str, Any]:
    """Everything that was chosen, as JSON, as the record has it."""
    env = {"env_id": training.env.made_by, "env_kwargs": dict(training.env.kwargs)}
    rest = {f.name: getattr(training, f.name) for f in fields(training) if f.name != "env"}
    rest["settings"] = settings_for(training.algorithm, training.settings)
    found: dict[str, Any] = json.loads(json.dumps(env | rest, default=plain_number))
    return found


def _algorithm(training: Training, envs: VecEnv, out: Path) -> BaseAlgorithm:
    policy = "MultiInputPolicy" if isinstance(envs.observation_space, gym.spaces.Dict) else "MlpPolicy"
    kind = {"ppo": PPO, "sac": SAC}[training.algorithm]
    if training.algorithm == "sac" and not isinstance(envs.action_space, gym.spaces.Box):
        raise WrongValueError(f"sac acts in a Box, and {training.env} has {envs.action_space}; choose ppo")
    settings = settings_for(training.algorithm, training.settings)
    algorithm: BaseAlgorithm = kind(
        policy, envs, seed=training.seed, device=training.device, tensorboard_log=str(out), **settings
    )
    envs.seed(COLLECTION_FIRST + training.seed)  # its constructor gave them its own, which evaluations use
    return algorithm


class _Keeper(BaseCallback):  # type: ignore[misc]
    """A callback that evaluates, keeps the best policy, and ends training when the budget is spent."""

    def __init__(
        self,
        training: Training,
        envs: VecEnv,
        out: Path,
        began: float,
        watch: Callable[[Evaluated], None] | None,
    ) -> None:
        super().__init__()
        self.found: list[Evaluated] = []
        self._training = training
        self._envs = envs
        self._out = out
        self._began = began
        self._watch = watch
        self._due = training.evaluate_every
        self._provenance = provenance()

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._due:
            self._due += self._training.evaluate_every
            self._evaluate()
        budget = self._training.cpu_seconds
        return budget is None or self._cpu_seconds() < budget

    def _on_training_end(self) -> None:
        if not self.found or self.found[-1].steps < self.num_timesteps:
            self._evaluate()

    def _cpu_seconds(self) -> float:
        return time.process_time() - self._began

    def _evaluate(self) -> None:
        self._envs.seed(TUNING_FIRST)
        returns, _ = evaluate_policy(
            self.model, self._envs, self._training.evaluation_episodes, return_episode_rewards=True
        )
        mean = float(np.mean(returns))
        best = mean > max((one.mean_return for one in self.found), default=-np.inf)
        if best or self._training.record:
            saved = io.BytesIO()
            self.model.save(saved)
            if best:
                write_bytes(self._out / BEST_FILE, saved.getvalue())
            if self._training.record:
                file = policy_file(self._out, self.num_timesteps)
                file.parent.mkdir(exist_ok=True)
                write_bytes(file, saved.getvalue())
        self.found.append(Evaluated(self.num_timesteps, self._cpu_seconds(), mean, best))
        self.write_record(finished=False)
        self.logger.record("eval/mean_return", mean)
        self.logger.dump(self.num_timesteps)
        if self._watch is not None:
            self._watch(self.found[-1])

    def write_record(self, *, finished: bool) -> None:
        """Write what was trained, and the evaluations so far."""
        write_json(
            self._out / RECORD_FILE,
            {
                "schema": 1,
                "training": settings_of(self._training),
                "finished": finished,
                "evaluations": [asdict(one) for one in self.found],
                "provenance": self._provenance,
            },
        )
