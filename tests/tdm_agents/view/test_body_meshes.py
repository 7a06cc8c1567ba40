"""Meshes of bodies: every kind of geom, where MuJoCo has it, and in its colour."""

import mujoco
import numpy as np
import pytest

from tdm_agents.environments import EnvRef
from tdm_agents.view.body_meshes import body_meshes, extent, floors
from tdm_agents.view.live_physics import body_names, physics_of

XML = """
<mujoco>
  <asset>
    <mesh name="wedge" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/>
    <hfield name="hills" nrow="3" ncol="4" size="2 1 .5 .1" elevation="0 0 0 0  0 1 1 0  0 0 0 0"/>
    <material name="red" rgba="1 0 0 1"/>
  </asset>
  <worldbody>
    <geom type="plane" size="3 4 1"/>
    <geom type="hfield" hfield="hills" rgba="0 1 0 1"/>
    <body name="all" pos="0 0 1">
      <freejoint/>
      <geom type="sphere" size=".5" pos="1 0 0" material="red"/>
      <geom type="capsule" size=".1 .4" rgba="0 0 1 1"/>
      <geom type="cylinder" size=".1 .4"/>
      <geom type="box" size=".1 .2 .3"/>
      <geom type="ellipsoid" size=".1 .2 .3"/>
      <geom type="mesh" mesh="wedge"/>
      <geom type="box" size="9 9 9" group="3"/>
      <geom type="box" size="9 9 9" rgba="0 0 0 0"/>
    </body>
  </worldbody>
</mujoco>
"""


def test_every_kind_of_geom_is_drawn_and_hidden_ones_are_not():
    model = mujoco.MjModel.from_xml_string(XML)
    world, body = body_meshes(model)
    assert (world.body, body.body) == (0, 1)
    assert np.allclose(world.vertices.min(0), [-2, -1, 0]) and np.allclose(world.vertices.max(0), [2, 1, 0.5])
    assert np.allclose(body.vertices.max(0), [1.5, 1.0, 1.0], atol=0.05)  # sphere, wedge
    assert len(world.vertices) == 12 and world.faces.max() == 11 and body.faces.max() < len(body.vertices)
    colors = {tuple(color) for color in body.colors[:, :3]}
    assert {(255, 0, 0), (0, 0, 255), (127, 127, 127)} <= colors
    (floor,) = floors(model)
    assert floor.size == (3.0, 4.0)
    assert body_names(model) == ["world", "all"]


@pytest.mark.parametrize(
    ("env", "parts"),
    [("tdm/WalkerTree-v0 dof=8 body=3", 9), ("HalfCheetah-v5", 7), ("dm_control/humanoid-walk-v0", 16)],
)
def test_bodies_of_every_source_are_drawn_at_their_size(env, parts):
    made = EnvRef.parse(env).make()
    made.reset(seed=0)
    model = physics_of(made).model
    assert len([m for m in body_meshes(model) if m.body]) == parts
    assert 0.5 < extent(model) < 3.0


def test_an_environment_without_mujoco_has_no_physics():
    assert physics_of(EnvRef.parse("CartPole-v1").make()) is None
