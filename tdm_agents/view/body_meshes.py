"""Triangles of MuJoCo's bodies: what a browser draws of a model.

Each body is one mesh in its own frame, with a colour per vertex, so that a moving picture is one pose per
body. Planes and height fields belong to the world and are drawn apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt
import trimesh

Array = npt.NDArray[np.float64]
_GEOM = mujoco.mjtGeom
_SHOWN_GROUPS = 3
"""MuJoCo's viewers show geoms of groups 0 to 2; the others are for collisions."""


@dataclass(frozen=True, slots=True)
class BodyMesh:
    """The mesh of one body.

    Attributes:
        body: Its index in the model.
        vertices: ``[V, 3]`` float32, in metres in the body's frame.
        faces: ``[F, 3]`` uint32.
        colors: ``[V, 4]`` uint8.
    """

    body: int
    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.uint32]
    colors: npt.NDArray[np.uint8]


def body_meshes(model: mujoco.MjModel, *, detail: int = 16) -> list[BodyMesh]:
    """The meshes of all bodies that have something to draw.

    Args:
        model: The model.
        detail: Corners around a round shape, at least 4.
    """
    parts: dict[int, list[trimesh.Trimesh]] = {}
    for geom in range(model.ngeom):
        if not _is_shown(model, geom) or model.geom_type[geom] == _GEOM.mjGEOM_PLANE:
            continue
        mesh = _shape(model, geom, detail)
        if mesh is None:
            continue
        turn = np.eye(4)
        turn[:3, :3] = _matrix(model.geom_quat[geom])
        turn[:3, 3] = model.geom_pos[geom]
        mesh.apply_transform(turn)
        mesh.visual.vertex_colors = np.tile(_color(model, geom), (len(mesh.vertices), 1))
        parts.setdefault(int(model.geom_bodyid[geom]), []).append(mesh)
    return [_joined(body, meshes) for body, meshes in sorted(parts.items())]


@dataclass(frozen=True, slots=True)
class Floor:
    """A plane.

    Attributes:
        position: ``[3]``, its centre in the world's frame.
        quaternion: ``[4]`` (w, x, y, z), of which z is its normal.
        size: Half lengths along x and y; 0 where it has no end.
    """

    position: Array
    quaternion: Array
    size: tuple[float, float]


def floors(model: mujoco.MjModel) -> list[Floor]:
    """The planes that stand still in the world."""
    found = []
    for geom in range(model.ngeom):
        if model.geom_type[geom] == _GEOM.mjGEOM_PLANE and _is_shown(model, geom):
            if model.body_weldid[model.geom_bodyid[geom]] != 0:
                continue
            size = model.geom_size[geom]
            found.append(
                Floor(
                    model.geom_pos[geom].copy(),
                    model.geom_quat[geom].copy(),
                    (float(size[0]), float(size[1])),
                )
            )
    return found


def extent(model: mujoco.MjModel) -> float:
    """The size of what moves, in metres, by which cameras and lines are scaled."""
    moving = np.flatnonzero(model.body_weldid)
    if not len(moving):
        return float(model.stat.extent)
    data = mujoco.MjData(model)
    if model.nkey:
        mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_kinematics(model, data)
    geoms = np.flatnonzero(np.isin(model.geom_bodyid, moving))
    if not len(geoms):
        return float(model.stat.extent)
    reach = model.geom_rbound[geoms][:, None]
    low = (data.geom_xpos[geoms] - reach).min(axis=0)
    high = (data.geom_xpos[geoms] + reach).max(axis=0)
    return float(np.linalg.norm(high - low))


def _is_shown(model: mujoco.MjModel, geom: int) -> bool:
    return bool(model.geom_group[geom] < _SHOWN_GROUPS and _color(model, geom)[3] > 0)


def _shape(model: mujoco.MjModel, geom: int, detail: int) -> trimesh.Trimesh | None:
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == _GEOM.mjGEOM_SPHERE:
        return trimesh.creation.uv_sphere(radius=size[0], count=[detail // 2 + 1, detail])
    if kind == _GEOM.mjGEOM_ELLIPSOID:
        mesh = trimesh.creation.uv_sphere(radius=1.0, count=[detail // 2 + 1, detail])
        mesh.apply_scale(size)
        return mesh
    if kind == _GEOM.mjGEOM_CAPSULE:
        return trimesh.creation.capsule(height=2 * size[1], radius=size[0], count=[detail, detail])
    if kind == _GEOM.mjGEOM_CYLINDER:
        return trimesh.creation.cylinder(radius=size[0], height=2 * size[1], sections=detail)
    if kind == _GEOM.mjGEOM_BOX:
        return trimesh.creation.box(extents=2 * size)
    if kind == _GEOM.mjGEOM_MESH:
        return _mesh(model, int(model.geom_dataid[geom]))
    if kind == _GEOM.mjGEOM_HFIELD:
        return _height_field(model, int(model.geom_dataid[geom]))
    return None


def _mesh(model: mujoco.MjModel, mesh: int) -> trimesh.Trimesh:
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    face, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    return trimesh.Trimesh(
        model.mesh_vert[first : first + count].copy(),
        model.mesh_face[face : face + faces].copy(),
        process=False,
    )


def _height_field(model: mujoco.MjModel, field: int) -> trimesh.Trimesh:
    rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
    x, y, top, _ = model.hfield_size[field]
    first = model.hfield_adr[field]
    height = model.hfield_data[first : first + rows * columns] * top
    across, along = np.meshgrid(np.linspace(-x, x, columns), np.linspace(-y, y, rows))
    vertices = np.stack([across.ravel(), along.ravel(), height], axis=1)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    right, up = corner + 1, corner + columns
    faces = np.concatenate([np.stack([corner, right, up], 1), np.stack([right, up + 1, up], 1)])
    return trimesh.Trimesh(vertices, faces, process=False)


def _color(model: mujoco.MjModel, geom: int) -> npt.NDArray[np.uint8]:
    rgba, material = model.geom_rgba[geom], model.geom_matid[geom]
    if material >= 0:
        own = np.array_equal(rgba, [0.5, 0.5, 0.5, 1.0])  # MuJoCo's default: the material decides
        rgba = model.mat_rgba[material] if own else rgba
    color: npt.NDArray[np.uint8] = (255 * np.clip(rgba, 0.0, 1.0)).astype(np.uint8)
    return color


def _matrix(quaternion: Array) -> Array:
    flat = np.empty(9)
    mujoco.mju_quat2Mat(flat, quaternion)
    return flat.reshape(3, 3)


def _joined(body: int, meshes: list[trimesh.Trimesh]) -> BodyMesh:
    offsets = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    return BodyMesh(
        body,
        np.concatenate([m.vertices for m in meshes]).astype(np.float32),
        np.concatenate([m.faces + o for m, o in zip(meshes, offsets, strict=False)]).astype(np.uint32),
        np.concatenate([np.asarray(m.visual.vertex_colors, np.uint8) for m in meshes]),
    )
