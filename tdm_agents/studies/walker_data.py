"""Collections of walkers, with the settings of ``tdm envs sample`` and ``tdm collect --bodies``."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.actors.tuned import expert_for
from tdm_agents.collection.collection_manifest import default_name
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.environments import EnvRef
from tdm_envs.walkers import sample_bodies


def walkers(
    families: tuple[str, ...], count: int, split: Literal["train", "test"], seed: int, dof: tuple[int, int]
) -> tuple[EnvRef, ...]:
    """``count`` walkers of each family with distinct trees; see :func:`tdm_envs.walkers.sample_bodies`."""
    return tuple(
        EnvRef(key.env_id, {"dof": key.dof, "body": key.body})
        for family in families
        for key in sample_bodies(family, count, split, seed, dof=dof)
    )


def random_and_expert(
    envs: tuple[EnvRef, ...], *, random: int, expert: int, max_steps: int, seed: int = 0
) -> tuple[DatasetSpec, ...]:
    """Episodes of random actions and of the tuned planner, disturbed, in each environment."""
    return tuple(
        DatasetSpec(
            name=default_name(env),
            env=env,
            mix=((RandomPolicy(), random), (expert_for(env).make_policy(), expert)),
            action_repeat=expert_for(env).action_repeat,
            seed=seed,
            max_steps=max_steps,
        )
        for env in envs
    )


def undisturbed_expert(
    envs: tuple[EnvRef, ...], *, episodes: int, max_steps: int, seed: int = 0
) -> tuple[DatasetSpec, ...]:
    """Episodes of the tuned planner as it is, in each environment: what a policy should imitate."""
    return tuple(
        DatasetSpec(
            name=default_name(env),
            env=env,
            mix=((replace(expert_for(env).make_policy(), noise_sds=(0.0,), burst_episodes=0.0), episodes),),
            action_repeat=expert_for(env).action_repeat,
            seed=seed,
            max_steps=max_steps,
        )
        for env in envs
    )
