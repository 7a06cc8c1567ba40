"""Shimmy's environments of dm_control by name, so that nothing of either is imported before one is made.

Importing them takes half a second and starts MuJoCo, which a program that plays something else need not wait
for. Shimmy itself registers its environments when it is imported, which happens here at the first
``gym.make``.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from typing import Any, Final

import gymnasium as gym

from tdm_envs.without_dm_control import is_installed, refuse

_SUITE = """
    acrobot-swingup acrobot-swingup_sparse ball_in_cup-catch cartpole-balance cartpole-balance_sparse
    cartpole-swingup cartpole-swingup_sparse cartpole-three_poles cartpole-two_poles cheetah-run dog-fetch
    dog-run dog-stand dog-trot dog-walk finger-spin finger-turn_easy finger-turn_hard fish-swim fish-upright
    hopper-hop hopper-stand humanoid-run humanoid-run_pure_state humanoid-stand humanoid-walk humanoid_CMU-run
    humanoid_CMU-stand humanoid_CMU-walk lqr-lqr_2_1 lqr-lqr_6_2 manipulator-bring_ball manipulator-bring_peg
    manipulator-insert_ball manipulator-insert_peg pendulum-swingup point_mass-easy point_mass-hard
    quadruped-escape quadruped-fetch quadruped-run quadruped-walk reacher-easy reacher-hard stacker-stack_2
    stacker-stack_4 swimmer-swimmer15 swimmer-swimmer6 walker-run walker-stand walker-walk
"""
_LOCOMOTION = """
    CmuHumanoidGoToTarget CmuHumanoidHeterogeneousForage CmuHumanoidMazeForage CmuHumanoidRunGaps
    CmuHumanoidRunWalls RodentEscapeBowl RodentMazeForage RodentRunGaps RodentTwoTouch
"""
_MANIPULATION = """
    lift_brick_features lift_brick_vision lift_large_box_features lift_large_box_vision
    place_brick_features place_brick_vision place_cradle_features place_cradle_vision
    reach_duplo_features reach_duplo_vision reach_site_features reach_site_vision
    reassemble_3_bricks_fixed_order_features reassemble_3_bricks_fixed_order_vision
    reassemble_5_bricks_random_order_features reassemble_5_bricks_random_order_vision
    stack_2_bricks_features stack_2_bricks_moveable_base_features stack_2_bricks_moveable_base_vision
    stack_2_bricks_vision stack_2_of_3_bricks_random_order_features
    stack_2_of_3_bricks_random_order_vision stack_3_bricks_features stack_3_bricks_random_order_features
    stack_3_bricks_vision
"""
_NOT_DETERMINISTIC = frozenset(
    {
        "CmuHumanoidHeterogeneousForage",
        "CmuHumanoidMazeForage",
        "RodentMazeForage",
        "RodentTwoTouch",
        "reassemble_5_bricks_random_order_features",
        "reassemble_5_bricks_random_order_vision",
    }
)

SHIMMY_IDS: Final[tuple[str, ...]] = tuple(
    f"dm_control/{name}-v0" for name in ("compatibility-env", *(_SUITE + _LOCOMOTION + _MANIPULATION).split())
)
"""Ids of the environments that Shimmy registers for dm_control."""


def register() -> None:
    """Register those that nobody has registered yet."""
    for env_id in SHIMMY_IDS:
        if env_id not in gym.registry:
            name = env_id.removeprefix("dm_control/").removesuffix("-v0")
            gym.register(
                env_id,
                partial(make_shimmys, env_id),  # not a string with arguments, which a spec would show
                nondeterministic=name in _NOT_DETERMINISTIC,
            )


def make_shimmys(env_id: str, **settings: Any) -> gym.Env[Any, Any]:
    """Shimmy's environment of that id.

    Args:
        env_id: One of :data:`SHIMMY_IDS`.
        settings: Keyword arguments of Shimmy's environment.

    Raises:
        ImportError: If Shimmy or dm_control is not installed, or knows no such environment.
    """
    if not is_installed():
        refuse(env_id)
    if "shimmy" not in sys.modules:
        ours = {name: gym.registry.pop(name) for name in SHIMMY_IDS if _is_ours(name)}
        try:
            with redirect_stdout(sys.stderr):  # it prints that it lacks what needs labmaze
                import_module("shimmy")  # registers its own
        except ImportError as error:
            raise ImportError(_MISSING.format(env_id, error)) from error
        finally:
            for name, spec in ours.items():
                gym.registry.setdefault(name, spec)
    if _is_ours(env_id) or env_id not in gym.registry:
        raise ImportError(_MISSING.format(env_id, "Shimmy did not register it"))
    spec = gym.registry[env_id]
    maker: Any = spec.entry_point
    env: gym.Env[Any, Any] = maker(**{**spec.kwargs, **settings})
    return env


_MISSING = "{} needs Shimmy with dm_control ({}); pip install 'shimmy[dm-control]'"


def _is_ours(env_id: str) -> bool:
    maker = gym.registry[env_id].entry_point if env_id in gym.registry else None
    return isinstance(maker, partial) and maker.func is make_shimmys
