"""Is this IQL as good as d3rlpy's? Both learn from the same data, with the same settings, in one run.

The settings are those of the preset. d3rlpy reads the same decisions, with observations standardised and the
rewards shifted as here. d3rlpy 2.8 asks for an older Gymnasium than this package, which it only uses to make
environments, so it is installed without its requirements:

    pip install --no-deps d3rlpy==2.8.1
    pip install structlog dataclasses-json colorama click tqdm scikit-learn gym
    python benchmarks/offline_iql.py --data FOLDER --env-id "gymnasium_robotics:PointMaze_Medium-v3 ..."
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

import keep
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.actors.sb3_policies import Predictor
from tdm_agents.cli.train import run as run_training
from tdm_agents.cli.train_options import Train
from tdm_agents.collection.seeds import EVALUATION_FIRST
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.episodes import evaluate
from tdm_agents.evaluation.progress_bar import ProgressBar
from tdm_agents.evaluation.report import summary
from tdm_agents.spaces import ActionCodec, ObservationCodec
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.world_models.iql.iql_config import PRESETS, IQLConfig

HELD_OUT = 0.05
"""Share of the episodes that neither learns from."""


@dataclass(frozen=True)
class Settings:
    """Data, sizes and files."""

    data: Path = Path("runs/medium/data")
    """The Minari data set, of `tdm collect`."""
    env_id: str = "gymnasium_robotics:PointMaze_Medium-v3 continuing_task=False"
    """Where they play."""
    preset: str = "antmaze"
    """Settings of both."""
    action_repeat: int = 4
    """Environment steps per decision."""
    updates: int = 30_000
    """Of both, of 256 transitions, as in the paper."""
    episodes: int = 50
    """Per learner and seed."""
    seeds: tuple[int, ...] = (0, 1)
    """Of the networks and the batches."""
    work: Path = Path("runs/offline_iql")
    """Folder of training runs and played parts, from which an interrupted run goes on."""
    out: Path = Path("benchmarks/results/offline_iql.json")
    """File of the result."""


class Acting:
    """A policy of d3rlpy as SB3's ``predict``, over flat observations."""

    def __init__(self, algorithm: Any, env: EnvRef) -> None:
        made = env.make()
        self.observation_space, self.action_space = made.observation_space, made.action_space
        self._observations = ObservationCodec(made.observation_space)
        self._actions = ActionCodec(made.action_space)
        made.close()
        self._algorithm = algorithm

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """The likeliest actions."""
        count = len(next(iter(observation.values())) if isinstance(observation, dict) else observation)
        flat = self._observations.flatten_batch(observation, count)
        return self._actions.decode(self._algorithm.predict(flat)), state


def learned_here(settings: Settings, seed: int) -> tuple[Path, float]:
    """The folder of our IQL, and the processor seconds of its training."""
    folder = settings.work / f"ours-{seed}"
    began = time.process_time()
    training = TrainConfig(
        steps=settings.updates, batch_size=256, window_steps=2, seed=seed, evaluate_every=10_000
    )
    run = Train(
        data=(settings.data,),
        out=folder,
        model="iql",
        preset=settings.preset,
        action_repeat=settings.action_repeat,
        held_out_fraction=HELD_OUT,
        training=training,
    )
    run_training(run, console=Console(stderr=True))
    return folder, time.process_time() - began


def learned_by_d3rlpy(settings: Settings, seed: int) -> tuple[Any, float]:
    """d3rlpy's IQL, and the processor seconds of its training."""
    import d3rlpy

    d3rlpy.seed(seed)
    config = PRESETS[settings.preset].config
    assert isinstance(config, IQLConfig)
    data = Trajectories.from_minari(settings.data, action_repeat=settings.action_repeat)
    # the same episodes are left out as in our training
    episodes = list(data.split(HELD_OUT, seed=0)[0].iterate())
    length = [len(one.reward) - 1 for one in episodes]
    spread = max(data.returns()) - min(data.returns())
    scale = config.reward_scale if config.reward_scale is not None else max(length) / spread
    ended = np.zeros(sum(length), np.float32)
    ended[np.cumsum(length) - 1] = 1.0
    terminated = np.concatenate([~one.alive[1:] for one in episodes]).astype(np.float32)
    rewards = np.concatenate([one.reward[1:] for one in episodes])
    memory = d3rlpy.dataset.MDPDataset(
        observations=np.concatenate([one.observation[:-1] for one in episodes]),
        actions=np.concatenate([one.action[:-1] for one in episodes]),
        rewards=scale * (rewards + config.reward_shift),
        terminals=terminated,
        timeouts=ended * (1.0 - terminated),
        action_space=d3rlpy.ActionSpace.CONTINUOUS,
    )
    encoder = d3rlpy.models.VectorEncoderFactory([config.iql_hidden] * config.iql_layers)
    began = time.process_time()
    iql = d3rlpy.algos.IQLConfig(
        gamma=config.discount,
        expectile=config.expectile,
        weight_temp=config.beta,
        tau=config.tau,
        actor_learning_rate=config.iql_rate,
        critic_learning_rate=config.iql_rate,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        value_encoder_factory=encoder,
        observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(),
    ).create(device="cpu:0")
    iql.fit(
        memory,
        n_steps=settings.updates,
        n_steps_per_epoch=5_000,
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    return iql, time.process_time() - began


def played(contestant: Any, settings: Settings, label: str) -> dict[str, Any]:
    """The summary of a learner's episodes, and their returns."""
    seeds = range(EVALUATION_FIRST, EVALUATION_FIRST + settings.episodes)
    with ProgressBar(label) as progress:
        found = evaluate(contestant, EnvRef.parse(settings.env_id), seeds, seed=0, batch=10, on_step=progress)
    return {"summary": plain(summary(found)), "returns": found.scores}


def main(settings: Settings) -> None:
    """Train, play, keep."""
    torch.set_num_threads(1)
    env = EnvRef.parse(settings.env_id)

    def ours(seed: int) -> dict[str, Any]:
        folder, seconds = learned_here(settings, seed)
        entered = enter(parse_entry(f"{folder} planner=policy"), env)
        return played(entered.contestant, settings, f"ours {seed}") | {"cpu_seconds": seconds}

    def theirs(seed: int) -> dict[str, Any]:
        algorithm, seconds = learned_by_d3rlpy(settings, seed)
        acting = Predictor(Acting(algorithm, env), action_repeat=settings.action_repeat)
        return played(acting, settings, f"d3rlpy {seed}") | {"cpu_seconds": seconds}

    sources = Trajectories.from_minari(settings.data, action_repeat=settings.action_repeat).info.source
    found = {}
    for name, learn in {"ours": ours, "d3rlpy": theirs}.items():
        for seed in settings.seeds:
            asked = {**plain(settings), "seed": seed, "name": name, "data": sources}
            asked = {key: value for key, value in asked.items() if key not in ("seeds", "out", "work")}
            part = keep.part(settings.work / f"{name}-{seed}.json", asked, partial(learn, seed))
            found[f"{name} {seed}"] = part
            print(f"{name} {seed}: {part['summary']}")
    keep.result(settings.out, settings, data_sha256=list(sources), found=found)


if __name__ == "__main__":
    main(tyro.cli(Settings))
