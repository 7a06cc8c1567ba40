"""The MuJoCo model of a body: its parts, masses and limits, and that limbs meet nothing but the floor."""

from __future__ import annotations

import dataclasses
import math

import mujoco
import numpy as np
import pytest

from tdm_envs.walkers.body import BodyKey, Limb, Link
from tdm_envs.walkers.families import FAMILIES, build_body
from tdm_envs.walkers.spec import JOINT_RANGE, MAX_TORQUE, build_spec, capsule_mass, torque_limit


def compiled(family="tree", dof=12, body=3):
    return build_spec(build_body(family, dof, body)).compile()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dof", [4, 11, 20])
def test_bodies_hinges_and_motors_are_numbered_depth_first(family, dof):
    body = build_body(family, dof, 1)
    model = build_spec(body).compile()
    assert (model.nq, model.nv, model.nu, model.nbody) == (7 + dof, 6 + dof, dof, dof + 2)
    assert [model.joint(i).name for i in range(model.njnt)] == [
        "root",
        *(f"hinge{i + 1}" for i in range(dof)),
    ]
    assert [model.body(i + 1).name for i in range(dof + 1)] == [f"limb{i}" for i in range(dof + 1)]
    assert model.actuator_trnid[:, 0].tolist() == list(range(1, dof + 1))
    assert model.jnt_bodyid[1:].tolist() == list(range(2, dof + 2))
    # geom i + 1 is limb i's capsule: the same order as in the body's own tree
    np.testing.assert_allclose(model.geom_size[1:, 0], [limb.radius for limb in body.limbs()])
    np.testing.assert_allclose(2 * model.geom_size[1:, 1], [limb.length for limb in body.limbs()])


def test_masses_and_torques_are_what_the_body_says():
    body = build_body("chain", 6, 0)
    model = build_spec(body).compile()
    limbs = list(body.limbs())
    np.testing.assert_allclose(model.body_mass[1:], [capsule_mass(limb) for limb in limbs], rtol=1e-12)
    weight = 9.81 * model.body_mass.sum()
    expected = min(body.strength * weight * np.mean([limb.length for limb in limbs]), MAX_TORQUE)
    assert torque_limit(body) == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(model.dof_damping[6:], 0.1 * torque_limit(body))
    np.testing.assert_allclose(model.dof_armature[6:], 0.01 * torque_limit(body))
    np.testing.assert_allclose(model.jnt_range[1:], [[-JOINT_RANGE, JOINT_RANGE]] * 6)


def test_the_torque_of_heavy_bodies_is_capped():
    assert torque_limit(build_body("tree", 20, 0)) == MAX_TORQUE


def test_links_ahead_sit_at_the_tip_and_others_in_the_middle():
    tip = Limb(0.25, 0.05)
    arm = Limb(0.4, 0.05, (Link("+y", "x", tip), Link("+z", "y", tip)))
    body = dataclasses.replace(build_body("tree", 4, 0), root=Limb(0.3, 0.05, (Link("+y", "z", arm),)))
    model = build_spec(body).compile()
    np.testing.assert_allclose(model.body("limb1").pos, [0.15, 0, 0])
    np.testing.assert_allclose(model.body("limb2").pos, [0, 0.4, 0])
    np.testing.assert_allclose(model.body("limb3").pos, [0, 0.2, 0])
    assert model.joint("hinge1").axis.tolist() == [0, 0, 1]


def test_an_action_asks_for_an_angle_and_the_torque_stays_within_its_limit():
    model = compiled("line", 4, 0)
    data = mujoco.MjData(model)
    limit = model.actuator_forcerange[0, 1]
    for action, angle, torque in [(1.0, JOINT_RANGE, 0.0), (0.0, 0.1, -0.2), (1.0, -JOINT_RANGE, 1.0)]:
        data.ctrl[0], data.qpos[7] = action, angle
        mujoco.mj_forward(model, data)
        scale = limit / JOINT_RANGE if 0 < abs(torque) < 1 else limit
        assert data.actuator_force[0] == pytest.approx(torque * scale, abs=1e-9)


def test_limbs_touch_the_floor_and_never_each_other():
    model = compiled("bush", 16, 2)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    floor = model.geom("floor").id
    touched = 0
    for _ in range(300):
        data.ctrl[:] = rng.uniform(-1, 1, model.nu)
        mujoco.mj_step(model, data, 5)
        assert np.all((data.contact.geom == floor).sum(axis=1) == 1)
        touched += data.ncon
    assert touched


def test_the_same_body_compiles_to_the_same_model():
    one, other = compiled(), compiled()
    for name in ("body_pos", "body_mass", "body_inertia", "jnt_axis", "actuator_gainprm", "geom_size"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert build_spec(build_body("tree", 12, 3)).to_xml() == build_spec(build_body("tree", 12, 3)).to_xml()


def test_a_model_saved_as_xml_is_nearly_the_same_body():
    spec = build_spec(build_body("tree", 12, 3))
    model = spec.compile()
    loaded = mujoco.MjModel.from_xml_string(spec.to_xml())
    np.testing.assert_allclose(loaded.body_pos, model.body_pos, atol=1e-9)
    np.testing.assert_allclose(loaded.geom_size, model.geom_size, atol=1e-9)
    np.testing.assert_allclose(loaded.body_mass, model.body_mass, rtol=1e-4)
    assert loaded.camera("track").id == model.camera("track").id


def test_the_camera_looks_at_the_body_from_the_side():
    model = compiled("line", 8, 0)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    forward = -data.cam_xmat[0].reshape(3, 3)[:, 2]
    np.testing.assert_allclose(forward, np.array([0, 2, -1]) / math.sqrt(5), atol=1e-6)


def test_keys_name_their_environment():
    assert BodyKey("bush", 9, 4).env_id == "tdm/WalkerBush-v0"
