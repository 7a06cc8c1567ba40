"""Locomotion from recorded data alone, of the kinds that D4RL has (2106.02039, section 4.2; 2004.07219).

The data are of a policy that learned by SAC: what it did until it was of medium quality ("medium-replay"),
and episodes of the medium and the best policy together ("medium-expert").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.collection.entry_policy import ActorPolicy
from tdm_agents.environments import EnvRef
from tdm_agents.studies.entry_text import in_a_line
from tdm_agents.studies.offline_recipes import EVALUATED, UNPLANNED, imitation, paper, played, smoke
from tdm_agents.studies.stages import (
    Collect,
    Evaluate,
    Figure,
    Plan,
    Protocol,
    Recipe,
    Reinforce,
    Size,
    Stage,
    Study,
    Train,
)
from tdm_agents.training.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Everything that differs between the sizes of the study; ``longer`` has the updates of some bodies."""

    bodies: tuple[str, ...]
    steps: int
    evaluate_every: int
    episodes: int
    transformer: Recipe
    longer: Mapping[str, int] = field(default_factory=dict)
    iql: Recipe
    search: Mapping[str, Any]
    protocol: Protocol
    settings: Mapping[str, Any]


SMALL = _Sizes(
    bodies=("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5"),
    steps=100_000,
    evaluate_every=5_000,
    episodes=100,
    transformer=Recipe(
        model="trajectory_transformer",
        preset="small",
        settings={"context": 128},  # of the cheetah five steps, of the hopper eight
        action_repeat=1,
        training=TrainConfig(steps=3_000, batch_size=16, window_steps=10, bf16=True, **EVALUATED),
    ),
    longer={"HalfCheetah-v5": 8_000, "Walker2d-v5": 8_000},  # of 17 scalars instead of 11
    iql=Recipe(
        model="iql",
        preset="locomotion",
        settings=UNPLANNED,
        action_repeat=1,
        training=TrainConfig(steps=15_000, batch_size=256, window_steps=2, **EVALUATED),
    ),
    search={"horizon": 5, "beam_width": 8},  # a plan per step, a thousand steps per episode
    protocol=Protocol(episodes=10, batch=10),
    settings={},
)

SMOKE = replace(
    SMALL,
    bodies=("Hopper-v5",),
    steps=400,
    evaluate_every=200,
    episodes=4,
    transformer=smoke(SMALL.transformer),
    longer={},
    iql=smoke(SMALL.iql),
    search={"horizon": 2, "beam_width": 2},
    protocol=Protocol(episodes=2, batch=2, max_steps=8),
    settings={"learning_starts": 300},
)

PAPER = replace(
    SMALL,
    steps=1_000_000,
    evaluate_every=20_000,
    episodes=1_000,
    transformer=paper(SMALL.transformer),
    longer={},
    iql=paper(SMALL.iql),
    search={"horizon": 15, "beam_width": 128},
    protocol=Protocol(episodes=100, batch=10),
)

SIZES: dict[Size, _Sizes] = {"smoke": SMOKE, "small": SMALL, "paper": PAPER}


def _plan(size: Size) -> Plan:
    of = SIZES[size]
    stages = [stage for body in of.bodies for stage in _body(body, of)]
    return Plan(
        stages=tuple(stages),
        figure=Figure(title="Locomotion, from recorded data", one="the best policy of the data"),
    )


def _body(env_id: str, of: _Sizes) -> list[Stage]:
    """All stages of one environment."""
    env, key = EnvRef(env_id), env_id.split("-")[0].lower()
    policies = f"{key}-policies"
    updates = of.longer.get(env_id, of.transformer.training.steps)
    learner = replace(of.transformer, training=replace(of.transformer.training, steps=updates))
    everywhere: dict[str, Any] = {"envs": (env,), "protocol": of.protocol, "reference": f"{key}-best"}
    stages: list[Stage] = [
        Reinforce(
            name=policies,
            env=env,
            algorithm="sac",
            steps=of.steps,
            evaluate_every=of.evaluate_every,
            settings=of.settings,
        )
    ]
    for quality in ("medium", "best"):
        # its actions are drawn, as in D4RL's data, and not disturbed besides
        actor = ActorPolicy(
            f"{{{policies}}}/{quality}.zip deterministic=false",
            noise_sds=(0.0,),
            burst_episodes=0.0,
            name=quality,
        )
        data = DatasetSpec(env=env, mix=((actor, of.episodes),))
        stages.append(Collect(name=f"{key}-{quality}-data", datasets=(data,)))
    stages += [
        Evaluate(name=f"{key}-random", label="random actions", line="random", role="random",
                 envs=(env,), protocol=of.protocol),
        Evaluate(name=f"{key}-best", label="the best policy of the data", line=f"{{{policies}}}/best.zip",
                 role="simulator", **everywhere),
    ]  # fmt: skip
    mixtures: dict[str, tuple[dict[str, Any], str]] = {
        "medium-expert": (
            {"data": (f"{key}-medium-data", f"{key}-best-data")},
            f"{{{key}-medium-data}},{{{key}-best-data}}",
        ),
        "medium-replay": (
            {"data": (policies,), "only": "medium-replay"},
            f"{{{policies}}}/medium-replay/data",
        ),
    }
    for mixture, (read, recorded) in mixtures.items():
        transformer, iql = f"{key}-{mixture}-transformer", f"{key}-{mixture}-iql"
        imitator = f"{key}-{mixture}-imitator"
        search = f"{{{transformer}}} " + in_a_line(
            {"planner": "beam_search", "level": "token", "discount": 0.99, **of.search}
        )
        contestants = {
            "imitated": ("behaviour cloning", f"{{{imitator}}} planner=policy"),
            "cloned": ("the transformer's policy", f"{{{transformer}}} planner=policy"),
            "policy": ("IQL", f"{{{iql}}} planner=policy"),
            "search": ("beam search, returns to go", search),
            "search-value": ("beam search, IQL's value", f"{search} value={{{iql}}}"),
            "near": ("beam search near the data, returns to go", f"{search} support={recorded}"),
            "near-value": (
                "beam search near the data, IQL's value",
                f"{search} value={{{iql}}} support={recorded}",
            ),
        }
        stages += [
            Train(name=transformer, recipe=learner, **read),
            Train(name=iql, recipe=of.iql, **read),
            Train(name=imitator, recipe=imitation(of.iql), **read),
        ]
        stages += played(f"{key}-{mixture}", contestants, of=f" ({mixture})", **everywhere)
    return stages


STUDY = Study(
    name="locomotion",
    paper="2106.02039, section 4.2, and 2110.06169",
    question="From recorded data of mixed quality, does a search do better than imitation?",
    plan=_plan,
)
