"""Is a transformer that predicts all scalars of the next observation at once as good as ours?

Ours reads one scalar of the next observation after the other. The other one (as in TrajWorld, 2502.01366)
feeds a whole step at once: its tokens see each other, and the token of scalar i predicts scalar i of the next
observation; the separator predicts the reward. So an imagined step is one forward. It has no policy.

Both have the same sizes, tokens, data, windows and updates. Compared are errors on held-out episodes, the
milliseconds of an imagined step of 64 rows, and the returns of planning on cartpole.

    python benchmarks/one_forward.py --body cartpole  # and walker-stand, walker-tree-16
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

import keep
from larger_models import BODIES, CONTEXT_STEPS, DATA_SEED, HELD_OUT_FRACTION
from tdm_agents import TDMAgent, evaluate
from tdm_agents.actors.behaviour import PlannerPolicy, RandomPolicy
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.seeds import TUNING_FIRST
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.environments import EnvRef
from tdm_agents.evaluation.report import summary
from tdm_agents.protocols import History
from tdm_agents.training.prediction import prediction_error
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import train
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.presets import CONFIGS
from tdm_agents.world_models.transformer.step_model import StepTransformer
from tdm_agents.world_models.transformer.token_model import TokenModel

CARTPOLE = DatasetSpec(
    env=EnvRef("dm_control/cartpole-swingup-v0"),
    mix=((RandomPolicy(), 60), (PlannerPolicy(settings={"iterations": 1, "num_samples": 24}), 20)),
    action_repeat=4,
    max_steps=1000,
)
DATA = {"cartpole": CARTPOLE, **{name: body.dataset for name, body in BODIES.items()}}
TRAINING = {
    "cartpole": TrainConfig(steps=3000, batch_size=24, window_steps=8, learning_rate=3e-3, bf16=True),
    "walker-stand": TrainConfig(steps=2000, batch_size=12, window_steps=8, learning_rate=3e-3, bf16=True),
    "walker-tree-16": TrainConfig(steps=1500, batch_size=6, window_steps=8, learning_rate=3e-3, bf16=True),
}
ROWS, HORIZON = 64, 10


@dataclass(frozen=True)
class Settings:
    """What is trained, and where it is kept."""

    body: str = "cartpole"
    """cartpole, walker-stand or walker-tree-16."""
    episodes: int = 10
    """Episodes of cartpole with each model."""
    work: Path = Path("runs/one_forward")
    """Data and models; an interrupted run goes on from there."""
    out: Path = Path("benchmarks/results/one_forward.json")
    """The result."""


OURS, ONCE = "one scalar after the other", "at once"
WAYS: Mapping[str, type[TokenModel]] = {OURS: TransformerWorldModel, ONCE: StepTransformer}


def milliseconds(model: TokenModel, start: History) -> float:
    """Of an imagined step of all rows: the median of turns."""
    rows = torch.arange(ROWS) % start.batch
    actions = torch.zeros(ROWS, HORIZON, model.spec.action_dim)
    found: list[float] = []
    for turn in range(12):
        state = model.take(model.start(start, horizon=HORIZON), rows)
        began = time.perf_counter()
        model.rollout(state, actions)
        if turn > 1:
            found.append(1e3 * (time.perf_counter() - began) / HORIZON)
    return statistics.median(found)


def measured(settings: Settings, way: str) -> dict[str, Any]:
    """Train one way on one body: its errors on held-out episodes, and the seconds."""
    spec, config = DATA[settings.body], TRAINING[settings.body]
    console = Console(stderr=True)
    path = collect(spec, settings.work / "data" / settings.body)
    data = Trajectories.from_minari(path, action_repeat=spec.action_repeat)
    kept, held_out = data.split(HELD_OUT_FRACTION, DATA_SEED)
    tokens = kept.spec.observation_dim + kept.spec.action_dim + 2
    model_config = replace(CONFIGS["small"], context=CONTEXT_STEPS * tokens, action_weight=0.0)
    model = WAYS[way].build({data.info.env_id: kept.spec}, model_config, seed=config.seed)
    model.fit({data.info.env_id: kept})
    sampler = WindowSampler(kept, steps=config.window_steps, batch_size=config.batch_size, seed=DATA_SEED)
    folder = settings.work / settings.body / ("ours" if way == OURS else "at_once")
    began = time.process_time()
    result = train(model, sampler, held_out, config, folder, console=console)
    if result.interrupted:
        raise SystemExit(130)
    seconds = time.process_time() - began
    errors = prediction_error(
        model.eval(), held_out, horizons=(1, 5, 10, 25), starts=128, context_steps=CONTEXT_STEPS
    )
    first = torch.as_tensor(held_out.episode(0).observation[:1])
    history = History.of_observation(first, action_dim=kept.spec.action_dim)
    return {
        "cpu_seconds": seconds,
        "errors": errors,
        "decisions": kept.num_decisions,
        "milliseconds_per_step": milliseconds(model, history),
        "returns": returns(model, settings, str(spec.env))
        if settings.episodes and settings.body == "cartpole"
        else None,
    }


def returns(model: TokenModel, settings: Settings, env_id: str) -> dict[str, Any]:
    """Returns with the shipped agent's planner and the task's own reward function."""
    planner = TDMAgent.load("cartpole-swingup").planner
    agent = TDMAgent(model, planner, env_id=env_id, reward_function=env_id)
    found = evaluate(agent, env_id, range(TUNING_FIRST, TUNING_FIRST + settings.episodes), seed=0)
    return {"summary": summary(found), "scores": found.scores}


def main(settings: Settings) -> None:
    """Measure both ways on a body; print and keep all bodies that were measured."""
    torch.set_num_threads(1)
    bodies: dict[str, Any] = {}
    for body in DATA:
        for way in WAYS:
            path = settings.work / f"{body}-{'ours' if way == OURS else 'at-once'}.json"
            if body == settings.body or path.exists():
                made = {"training": asdict(TRAINING[body]), "data": DATA[body].settings(), "way": way}
                bodies.setdefault(body, {})[way] = keep.part(path, made, partial(measured, settings, way))
    table = Table("", "CPU seconds", "median error after 1", "5", "10", "25 decisions", "ms per step")
    for body, ways in bodies.items():
        for way, found in ways.items():
            errors = [f"{found['errors'][f'median@{h}']:.3f}" for h in (1, 5, 10, 25)]
            table.add_row(
                f"{body}, {way}",
                f"{found['cpu_seconds']:.0f}",
                *errors,
                f"{found['milliseconds_per_step']:.1f}",
            )
    Console().print(table)
    keep.result(settings.out, settings, bodies=bodies)


if __name__ == "__main__":
    main(tyro.cli(Settings))
