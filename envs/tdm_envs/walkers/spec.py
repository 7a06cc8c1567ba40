"""The MuJoCo model of a body.

With these constants, bodies of every family and size stay finite under 1000 control steps of random and of
bang-bang actions (``tests/tdm_envs/test_stability.py``). What mattered was damping and armature in proportion
to the torque limit: with fixed ones, up to half of the LINE bodies explode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from tdm_envs.walkers.body import ROOT_DIRECTION, Body, Direction, Limb, Vector, vector

TIMESTEP = 0.005
"""Physics step in seconds."""
FRAME_SKIP = 5
"""Physics steps per environment step: 0.025 s, as in dm_control's RunThroughCorridor."""
JOINT_RANGE = math.radians(60.0)
"""Range of a hinge either way, in radians; an action of 1 asks for exactly this angle."""
DENSITY = 1000.0
"""kg / m^3."""
MAX_TORQUE = 60.0
"""N m; heavier bodies get no stronger hinges (with 90 one body in 204 exploded)."""
GRAVITY = 9.81

_COLORS = {
    "line": (0.90, 0.45, 0.35, 1.0),
    "chain": (0.95, 0.75, 0.35, 1.0),
    "bush": (0.45, 0.70, 0.45, 1.0),
    "tree": (0.40, 0.60, 0.85, 1.0),
}


def torque_limit(body: Body) -> float:
    """Largest torque of every hinge, N m: ``strength x weight x mean limb length``, capped."""
    limbs = list(body.limbs())
    mass = sum(capsule_mass(limb) for limb in limbs)
    length = sum(limb.length for limb in limbs) / len(limbs)
    return round(min(body.strength * GRAVITY * mass * length, MAX_TORQUE), 3)


def capsule_mass(limb: Limb) -> float:
    """Mass in kilograms of a cylinder with two half-spheres."""
    return DENSITY * math.pi * limb.radius**2 * (limb.length + 4.0 / 3.0 * limb.radius)


def build_spec(body: Body) -> Any:
    """The ``mujoco.MjSpec`` of a body on a plane; ``.compile()`` makes the model, about 4 ms in all.

    Bodies, hinges and actuators are numbered depth first: ``limb0`` is the root on the joint ``root``, and
    ``limb<i>`` turns on ``hinge<i>``, which ``motor<i>`` drives.
    """
    spec = mujoco.MjSpec()
    spec.modelname = f"walker_{body.key.family}_{body.key.dof}_{body.key.body}"
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.gravity = [0.0, 0.0, -GRAVITY]
    _add_scene(spec)

    root = spec.worldbody.add_body(name="limb0")
    root.add_freejoint(name="root")
    _grow(spec, body, root, body.root, ROOT_DIRECTION, torque_limit(body))
    _add_view(root, body)
    return spec


def _grow(spec: Any, body: Body, mj_body: Any, limb: Limb, own: Direction, torque: float) -> None:
    """Give ``mj_body`` its capsule, and everything that ``limb`` carries."""
    mj_body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=np.concatenate([np.zeros(3), vector(own) * limb.length]),
        size=[limb.radius, 0.0, 0.0],
        density=DENSITY,
        friction=[1.0, 0.005, 0.0001],
        contype=0,  # with conaffinity 1: limbs touch the floor, never each other
        conaffinity=1,
        rgba=_COLORS[body.key.family],
    )
    for link in limb.links:
        number = len(spec.bodies) - 1  # the world is one of the bodies
        child = mj_body.add_body(name=f"limb{number}", pos=limb.mount(own, link))
        child.add_joint(
            name=f"hinge{number}",
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=vector(f"+{link.axis}"),  # type: ignore[arg-type]
            limited=mujoco.mjtLimited.mjLIMITED_TRUE,
            range=np.degrees([-JOINT_RANGE, JOINT_RANGE]),  # MjSpec compiles angles in degrees
            damping=0.1 * torque,
            armature=0.01 * torque,
        )
        _add_motor(spec, number, torque)
        _grow(spec, body, child, link.limb, link.direction, torque)


def _add_motor(spec: Any, number: int, torque: float) -> None:
    """A position servo: ``torque = kp (range x action - angle)``, limited, with ``kp = 2 torque / range``."""
    stiffness = 2.0 * torque / JOINT_RANGE
    spec.add_actuator(
        name=f"motor{number}",
        target=f"hinge{number}",
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        gainprm=[stiffness * JOINT_RANGE] + [0.0] * 9,
        biasprm=[0.0, -stiffness] + [0.0] * 8,
        ctrllimited=mujoco.mjtLimited.mjLIMITED_TRUE,
        ctrlrange=[-1.0, 1.0],
        forcelimited=mujoco.mjtLimited.mjLIMITED_TRUE,
        forcerange=[-torque, torque],
    )


def _add_scene(spec: Any) -> None:
    spec.add_texture(
        name="grid",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.32, 0.38, 0.44],
        rgb2=[0.26, 0.31, 0.36],
        width=64,
        height=64,
    )
    material = spec.add_material(name="grid", texrepeat=[1.0, 1.0], texuniform=True, reflectance=0.1)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "grid"
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0.0, 0.0, 1.0],  # infinite
        friction=[1.0, 0.005, 0.0001],
        contype=1,
        conaffinity=0,
        material="grid",
    )
    spec.visual.headlight.ambient = [0.4, 0.4, 0.4]
    spec.visual.map.shadowclip = 4.0  # the edge of the shadow map is out of sight


def _add_view(root: Any, body: Body) -> None:
    """Add a light, and a camera on the body's right side, so that +x is to the right; both follow it."""
    limbs = list(_at_rest(body.root, ROOT_DIRECTION, np.zeros(3)))
    masses = np.array([capsule_mass(limb) for limb, _, _ in limbs])
    centre = masses @ np.array([(start + tip) / 2 for _, start, tip in limbs]) / masses.sum()
    reach = max(float(np.linalg.norm(end - centre)) for _, start, tip in limbs for end in (start, tip))
    root.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM,
        pos=centre + np.array([-0.5, -1.0, 3.0]) * reach,
        dir=[0.5, 1.0, -3.0],
    )
    camera = root.add_camera(
        name="track",
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM,
        pos=centre + np.array([0.0, -2.0, 1.0]) * (0.3 + reach),
    )
    camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
    camera.alt.xyaxes = [1.0, 0.0, 0.0, 0.0, 1.0, 2.0]  # looks along (0, 2, -1)


def _at_rest(limb: Limb, own: Direction, start: Vector) -> Iterator[tuple[Limb, Vector, Vector]]:
    """Every limb with its start and end at rest, in metres from the root's start."""
    yield limb, start, start + vector(own) * limb.length
    for link in limb.links:
        yield from _at_rest(link.limb, link.direction, start + limb.mount(own, link))
