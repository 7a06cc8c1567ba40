"""The body in 3D, with the futures that its planner imagines, in a scene of viser's.

Everything hangs from one frame that moves against the body, so that the camera stays where its viewer put
it. A moving body is one pose per body part; ghosts are instances of the same meshes.
"""

from __future__ import annotations

import mujoco
import numpy as np
import numpy.typing as npt
import trimesh
import viser

from tdm_agents.view.body_meshes import BodyMesh, body_meshes, extent, floors
from tdm_agents.view.imagined_poses import Kinematics, Poses
from tdm_agents.view.value_colors import CHOSEN, value_colors

Array = npt.NDArray[np.float64]

ROOT = "/world"
GHOSTS = 5
"""Moments of the chosen plan at which the body is drawn."""
_GHOST_OPACITY = 0.28
_LINE_SHARE = 0.004
"""Thickness of a trace, as a share of the body's size."""


class BodyScene:
    """What is drawn of one model.

    Args:
        server: The server whose scene it is drawn in; what is under ``/world`` is replaced.
        model: The body.

    Attributes:
        model: The body.
        handles: The drawn body parts by index, for clicks and drags.
        traced: Index of the body part whose way through the futures is drawn.
    """

    def __init__(self, server: viser.ViserServer, model: mujoco.MjModel) -> None:
        self.model = model
        self.kinematics = Kinematics(model)
        self.size = extent(model)
        self.traced = traced_body(model)
        self.follow = True
        self._server = server
        self._offset = np.zeros(3)
        server.scene.remove_by_name(ROOT)
        server.scene.configure_default_lights(enabled=True, cast_shadow=False)
        self._world = server.scene.add_frame(ROOT, show_axes=False)
        self._add_floors()
        meshes = body_meshes(model)
        moving = [m for m in meshes if model.body_weldid[m.body] != 0]
        for mesh in meshes:
            if model.body_weldid[mesh.body] == 0:
                self._add_still(mesh)
        self.handles = {m.body: self._add_part(m) for m in moving}
        self._ghosts = {m.body: self._add_ghosts(m) for m in moving}
        self._lines: list[viser.LineSegmentsHandle] = []
        self._camera()

    # ------------------------------------------------------------------ what happens

    def show(self, qpos: Array) -> None:
        """Put the body where ``qpos`` ``[nq]`` says."""
        poses = self.kinematics.poses(qpos)
        if not np.isfinite(poses.position).all():
            return
        for body, handle in self.handles.items():
            handle.position = poses.position[body]
            handle.wxyz = poses.quaternion[body]
        if self.follow:
            self._offset = -poses.centre[self._root()] * np.array([1.0, 1.0, 0.0])
            self._world.position = self._offset

    def world_point(self, shown: tuple[float, float, float]) -> Array:
        """A point of the page's scene in the environment's own coordinates."""
        return np.asarray(shown, np.float64) - self._offset

    # ------------------------------------------------------------------ what is imagined

    def imagine(self, qpos: Array, values: npt.NDArray[np.floating], now: Array) -> None:
        """Draw futures.

        Args:
            qpos: ``[1 + S, H, nq]``, the chosen one first; rows of NaN are left out.
            values: ``[1 + S]``.
            now: ``[nq]``, where they begin.
        """
        poses = self.kinematics.poses(qpos)
        self._show_ghosts(poses)
        begin = self.kinematics.poses(now).centre[self.traced]
        ways = np.concatenate(
            [np.tile(begin, (len(qpos), 1, 1)), poses.centre[:, :, self.traced]], axis=1
        )  # [1 + S, 1 + H, 3]
        colors = value_colors(values)
        thin = max(self.size * _LINE_SHARE, 1e-3)
        for index, name in ((slice(1, None), "candidates"), (slice(0, 1), "chosen")):
            points = np.stack([ways[index, :-1], ways[index, 1:]], axis=2)  # [S, H, 2, 3]
            paint = np.broadcast_to(colors[index, None, None], points.shape)
            if name == "chosen":
                paint = np.broadcast_to(np.array(CHOSEN, np.uint8), points.shape)
            whole = np.isfinite(points).all(axis=(2, 3))
            self._draw_lines(name, points[whole], paint[whole], thin * (2.5 if name == "chosen" else 1.0))

    def forget(self) -> None:
        """Draw no futures."""
        for handle in self._ghosts.values():
            handle.visible = False
        for line in self._lines:
            line.visible = False

    def _draw_lines(self, name: str, points: Array, colors: npt.NDArray[np.uint8], thickness: float) -> None:
        index = ("candidates", "chosen").index(name)
        if not len(points):
            if len(self._lines) > index:
                self._lines[index].visible = False
            return
        if len(self._lines) <= index:
            self._lines.append(
                self._server.scene.add_line_segments(
                    f"{ROOT}/futures/{name}", points, colors, thickness=thickness
                )
            )
        else:
            line = self._lines[index]
            line.points, line.colors, line.visible = points.astype(np.float32), colors, True

    def _show_ghosts(self, poses: Poses) -> None:
        horizon = poses.position.shape[1]
        places = np.unique(np.linspace(0, horizon - 1, GHOSTS + 1).round().astype(int)[1:])
        places = np.resize(places, GHOSTS)  # short horizons repeat a moment
        finite = bool(np.isfinite(poses.position[0, places]).all())
        for body, handle in self._ghosts.items():
            if finite:
                handle.batched_positions = poses.position[0, places, body].astype(np.float32)
                handle.batched_wxyzs = poses.quaternion[0, places, body].astype(np.float32)
            handle.visible = finite

    # ------------------------------------------------------------------ what is there from the start

    def _add_floors(self) -> None:
        far = max(20.0 * self.size, 10.0)
        cell = float(10.0 ** np.round(np.log10(self.size / 3.0)))
        for number, floor in enumerate(floors(self.model)):
            self._server.scene.add_grid(
                f"{ROOT}/floor{number}",
                width=far,
                height=far,
                infinite_grid=True,
                cell_size=cell,
                section_size=5 * cell,
                fade_distance=far,
                fade_strength=2.0,
                cell_color=(150, 158, 166),
                section_color=(96, 106, 116),
                plane_color=(196, 203, 210),
                plane_opacity=1.0,
                shadow_opacity=0.0,
                position=floor.position,
                wxyz=floor.quaternion,
            )

    def _add_still(self, mesh: BodyMesh) -> None:
        data = mujoco.MjData(self.model)
        mujoco.mj_kinematics(self.model, data)
        handle = self._add_part(mesh)
        handle.position, handle.wxyz = data.xpos[mesh.body].copy(), data.xquat[mesh.body].copy()

    def _add_part(self, mesh: BodyMesh) -> viser.GlbHandle:
        colors = mesh.colors.copy()  # a GLB's vertex colours are linear, MuJoCo's are for the eye
        colors[:, :3] = (255.0 * (colors[:, :3] / 255.0) ** 2.2).astype(np.uint8)
        drawn = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)
        return self._server.scene.add_mesh_trimesh(
            f"{ROOT}/body/{mesh.body}", drawn, cast_shadow=False, receive_shadow=False
        )

    def _add_ghosts(self, mesh: BodyMesh) -> viser.BatchedMeshHandle:
        nowhere = np.zeros((GHOSTS, 3), np.float32)
        upright = np.tile(np.array([1.0, 0.0, 0.0, 0.0], np.float32), (GHOSTS, 1))
        return self._server.scene.add_batched_meshes_simple(
            f"{ROOT}/ghosts/{mesh.body}",
            mesh.vertices,
            mesh.faces,
            upright,
            nowhere,
            batched_colors=np.tile(np.array(CHOSEN, np.uint8), (GHOSTS, 1)),
            batched_opacities=np.linspace(1.0, 0.35, GHOSTS).astype(np.float32),
            opacity=_GHOST_OPACITY,
            lod="off",
            cast_shadow=False,
            receive_shadow=False,
            visible=False,
        )

    def _camera(self) -> None:
        back, camera = 1.3 * self.size, self._server.initial_camera
        camera.position = (0.25 * back, -back, 0.55 * back)
        camera.look_at = (0.0, 0.0, 0.3 * self.size)
        camera.up = (0.0, 0.0, 1.0)

    def _root(self) -> int:
        moving = np.flatnonzero(self.model.body_weldid)
        return int(moving[0]) if len(moving) else 0


def traced_body(model: mujoco.MjModel) -> int:
    """The body part whose way says most: the root where it moves freely, else the last of its branch."""
    moving = np.flatnonzero(model.body_weldid)
    if not len(moving):
        return 0
    root = int(moving[0])
    if model.body_dofnum[root] >= 3:
        return root
    return int(moving[model.body_rootid[moving] == model.body_rootid[root]][-1])
