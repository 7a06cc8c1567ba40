"""Limbs of other lengths, for the domains of dm_control's suite whose model file allows it.

A limb can be lengthened where it is made of capsules and joints in one MJCF file that a task loads as it is:
acrobot, cartpole (any number of poles), cheetah, hopper, humanoid, pendulum and walker. In the others

- a task places its targets for the lengths there are (finger, manipulator, reacher, stacker, swimmer),
- meshes, explicit inertias, tendons or couplings would have to change with the limb (ball_in_cup, dog, fish,
  humanoid_CMU, manipulator, quadruped), or
- there is no limb (lqr, point_mass).

The constants of a task stay: a walker with short legs stands lower than the 1.2 m which earn full reward.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import mujoco
import numpy as np
from dm_control.suite import acrobot, cartpole, cheetah, hopper, humanoid, pendulum, walker

_POLES = {"two_poles": 2, "three_poles": 3}

LENGTH_DOMAINS: Final[Mapping[str, tuple[str, ...]]] = {
    "acrobot": ("upper_arm", "lower_arm"),
    "cartpole": ("pole_1", "pole_2", "pole_3"),
    "cheetah": ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"),
    "hopper": ("pelvis", "thigh", "calf"),
    "humanoid": tuple(
        f"{side}_{limb}" for side in ("right", "left") for limb in ("thigh", "shin", "upper_arm", "lower_arm")
    ),
    "pendulum": ("pole",),
    "walker": ("right_thigh", "right_leg", "left_thigh", "left_leg"),
}
"""Domain to the bodies whose lengths may change; cartpole has as many poles as its task says."""

_SOURCES: Mapping[str, Callable[[str], tuple[Any, Mapping[str, bytes]]]] = {
    "acrobot": lambda _: acrobot.get_model_and_assets(),
    "cartpole": lambda task: cartpole.get_model_and_assets(_POLES.get(task, 1)),
    "cheetah": lambda _: cheetah.get_model_and_assets(),
    "hopper": lambda _: hopper.get_model_and_assets(),
    "humanoid": lambda _: humanoid.get_model_and_assets(),
    "pendulum": lambda _: pendulum.get_model_and_assets(),
    "walker": lambda _: walker.get_model_and_assets(),
}
_ALONG = (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER)


def lengthened_model(domain: str, task: str, factors: Mapping[str, float]) -> Any:
    """The ``mujoco.MjModel`` of a task with other limb lengths; a tenth of a second.

    All that a limb carries moves along: geoms, sites and the joints of the next limbs. Radii stay, and the
    compiler computes masses and inertias anew as the model file says (so cheetah weighs 14 kg at any length).

    Args:
        domain: One of :data:`LENGTH_DOMAINS`.
        task: Of that domain.
        factors: Body to the factor of its length; bodies without one keep theirs.
    """
    xml, assets = _SOURCES[domain](task)
    text = xml.decode() if isinstance(xml, bytes) else xml
    spec = mujoco.MjSpec.from_string(text, include=dict(assets))
    for body in spec.bodies:
        if body.name in factors:
            _lengthen(body, factors[body.name])
    with warnings.catch_warnings():
        # cheetah's file asks for it
        warnings.filterwarnings("ignore", message="compiler attribute 'settotalmass' is deprecated")
        return spec.compile()


def _lengthen(body: Any, factor: float) -> None:
    """Multiply all positions in a body's frame by ``factor``; its own joints stay where they are in space."""
    old = _first_joint(body)
    for joint in body.joints:
        joint.pos = joint.pos * factor
    # the body moves so that its first joint stays where the parent has it
    body.pos = body.pos + _turned(body, old - _first_joint(body))
    for geom in body.geoms:
        if np.isfinite(geom.fromto).all():
            geom.fromto = geom.fromto * factor
        else:
            geom.pos = geom.pos * factor
            if geom.type in _ALONG:
                geom.size = geom.size * np.array([1.0, factor, 1.0])
    for site in body.sites:
        site.pos = site.pos * factor
    for child in body.bodies:
        joint = _turned(child, _first_joint(child))
        child.pos = (child.pos + joint) * factor - joint


def _first_joint(body: Any) -> Any:
    """Where a body turns, in its own frame, metres; its origin where it is welded to its parent."""
    return np.array(body.joints[0].pos) if body.joints else np.zeros(3)


def _turned(body: Any, vector: Any) -> Any:
    """A vector of a body's frame in its parent's."""
    turned = np.empty(3)
    mujoco.mju_rotVecQuat(turned, np.asarray(vector, np.float64), np.asarray(body.quat, np.float64))
    return turned
