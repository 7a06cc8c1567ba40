"""Collections of walkers, with the settings of ``tdm envs sample`` and ``tdm collect --bodies``."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from tdm_agents.actors.behaviour import BehaviourPolicy, PlannerPolicy, RandomPolicy
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
    policies = _experts(envs)
    return tuple(
        _dataset(env, ((RandomPolicy(), random), (policies[env.id], expert)), max_steps, seed) for env in envs
    )


def undisturbed_expert(
    envs: tuple[EnvRef, ...], *, episodes: int, max_steps: int, seed: int = 0
) -> tuple[DatasetSpec, ...]:
    """Episodes of the tuned planner as it is, in each environment: what a policy should imitate."""
    policies = {
        name: replace(policy, noise_sds=(0.0,), burst_episodes=0.0) for name, policy in _experts(envs).items()
    }
    return tuple(_dataset(env, ((policies[env.id], episodes),), max_steps, seed) for env in envs)


def _experts(envs: tuple[EnvRef, ...]) -> dict[str, PlannerPolicy]:
    """The experts of families, by id; each is made once, because there may be thousands of bodies."""
    return {name: expert_for(EnvRef(name)).make_policy() for name in dict.fromkeys(env.id for env in envs)}


def _dataset(
    env: EnvRef, mix: tuple[tuple[BehaviourPolicy, int], ...], max_steps: int, seed: int
) -> DatasetSpec:
    return DatasetSpec(
        name=default_name(env),
        env=env,
        mix=mix,
        action_repeat=expert_for(env).action_repeat,
        seed=seed,
        max_steps=max_steps,
    )
