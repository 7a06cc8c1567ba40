"""Other limb lengths, for those domains of dm_control's suite whose model file allows it.

A limb can be lengthened where it is made of capsules and joints in one MJCF file that a task loads unchanged:
acrobot, cartpole (any number of poles), cheetah, hopper, humanoid, pendulum and walker. In the other domains

- a task places its targets for the original lengths (finger, manipulator, reacher, stacker, swimmer),
- meshes, explicit inertias, tendons or couplings would have to change with the limb (ball_in_cup, dog, fish,
  humanoid_CMU, manipulator, quadruped), or
- there is no limb (lqr, point_mass).

The constants of a task stay: a walker with short legs stands lower than the 1.2 m that earn full reward.
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
"""The bodies whose lengths may change, by domain; cartpole has as many poles as its task says."""

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
    """The ``mujoco.MjModel`` of a task with other limb lengths; takes a tenth of a second.

    Everything that a limb carries moves along: geoms, sites and the joints of the next limbs. Radii stay, and
    the compiler recomputes masses and inertias as the model file says (so cheetah weighs 14 kg at any
    length).

    Args:
        domain: One of :data:`LENGTH_DOMAINS`.
        task: A task of that domain.
        factors: Factor of each body's length; bodies without one keep their length.
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
    """Multiply all positions in a body's frame by ``factor``; its own joints stay fixed in space."""
    old = _first_joint(body)
    for joint in body.joints:
        joint.pos = joint.pos * factor
    # the body moves so that its first joint stays in place on the parent
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
    """The point about which a body turns, in its own frame, in metres; its origin where it is welded."""
    return np.array(body.joints[0].pos) if body.joints else np.zeros(3)


def _turned(body: Any, vector: Any) -> Any:
    """A vector of a body's frame, in its parent's frame."""
    turned = np.empty(3)
    mujoco.mju_rotVecQuat(turned, np.asarray(vector, np.float64), np.asarray(body.quat, np.float64))
    return turned
