"""Which positions of a body stand in its observations: found by looking, for any environment.

A learned model imagines observations, and a body is drawn from positions. So what happens is watched: a
scalar that equals a joint's position at every step is that position; so are its sine and cosine, and the
rows of the root's rotation matrix. A root's place is seldom observed; it is integrated from its velocity
where that is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import mujoco
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_ENOUGH = 12
"""Moments that have to agree before anything is believed."""
_MOST = 64
_TOLERANCE = 2e-5
_JOINT = mujoco.mjtJoint


class ObservedPositions:
    """Reads positions from observations, once it has seen both together often enough.

    Args:
        model: The body.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self._observations: list[Array] = []
        self._positions: list[Array] = []
        self._velocities: list[Array] = []
        self._stale = True
        self._readers: list[_Joint] | None = None

    def learn(self, observation: npt.NDArray[np.float32], qpos: Array, qvel: Array) -> None:
        """Take note of a moment: ``[n]``, ``[nq]``, ``[nv]``."""
        if len(self._observations) < _MOST and np.isfinite(observation).all():
            self._observations.append(observation.astype(np.float64))
            self._positions.append(qpos.copy())
            self._velocities.append(qvel.copy())
            self._stale = True

    def positions(self, observation: npt.NDArray[np.float32], start: Array, seconds: float) -> Array | None:
        """Positions ``[..., H, nq]`` of imagined observations ``[..., H, n]``; None where they do not tell.

        Args:
            observation: Imagined, one per decision.
            start: ``[nq]``, where the body is now: what is not observed and does not move stays there.
            seconds: Seconds per decision, by which velocities are integrated.
        """
        if self._stale:
            self._readers = self._found()
            self._stale = False
        if self._readers is None:
            return None
        seen = observation.astype(np.float64)
        out = np.tile(start, (*seen.shape[:-1], 1))
        for joint in self._readers:
            joint.read(seen, out, start, seconds)
        return out

    def _found(self) -> list[_Joint] | None:
        if len(self._observations) < _ENOUGH:
            return None
        columns = _Columns(np.stack(self._observations))
        qpos, qvel, model = np.stack(self._positions), np.stack(self._velocities), self.model
        found: list[_Joint] = []
        for index in range(model.njnt):
            at, dof, kind = model.jnt_qposadr[index], model.jnt_dofadr[index], model.jnt_type[index]
            if kind == _JOINT.mjJNT_FREE:
                joint = _free(columns, int(at), qpos[:, at : at + 7], qvel[:, dof : dof + 3])
            elif kind == _JOINT.mjJNT_BALL:
                joint = None if np.ptp(qpos[:, at : at + 4], axis=0).max() > 1e-9 else _Still()
            else:
                root = kind == _JOINT.mjJNT_SLIDE
                joint = _scalar(columns, int(at), qpos[:, at], qvel[:, dof], may_integrate=root)
            if joint is None:
                return None
            found.append(joint)
        return found


class _Columns:
    """Observations ``[T, n]``, searched for the column that equals a quantity ``[T]``."""

    def __init__(self, seen: Array) -> None:
        self.seen = seen

    def of(self, wanted: Array) -> int | None:
        far = np.abs(self.seen - wanted[:, None]).max(axis=0)
        best = int(far.argmin())
        return best if far[best] <= _TOLERANCE * (1.0 + np.abs(wanted).max()) else None


class _Joint(ABC):
    """How the positions of a joint are read."""

    @abstractmethod
    def read(self, seen: Array, out: Array, start: Array, seconds: float) -> None:
        """Write the joint's positions into ``out`` ``[..., H, nq]``."""


class _Still(_Joint):
    """A joint that does not move."""

    def read(self, seen: Array, out: Array, start: Array, seconds: float) -> None:
        return


class _Direct(_Joint):
    def __init__(self, at: int, column: int) -> None:
        self.at, self.column = at, column

    def read(self, seen: Array, out: Array, start: Array, seconds: float) -> None:
        out[..., self.at] = seen[..., self.column]


class _Angle(_Joint):
    """An angle from its cosine and sine, up to whole turns, which no picture shows."""

    def __init__(self, at: int, cosine: int, sine: int) -> None:
        self.at, self.cosine, self.sine = at, cosine, sine

    def read(self, seen: Array, out: Array, start: Array, seconds: float) -> None:
        out[..., self.at] = np.arctan2(seen[..., self.sine], seen[..., self.cosine])


class _Integrated(_Joint):
    def __init__(self, at: int, column: int) -> None:
        self.at, self.column = at, column

    def read(self, seen: Array, out: Array, start: Array, seconds: float) -> None:
        out[..., self.at] = start[self.at] + seconds * np.cumsum(seen[..., self.column], axis=-1)


class _Free(_Joint):
    """A root that floats: its rotation, its height, and a place that may have to be integrated."""

    def __init__(
        self,
        at: int,
        rotation: _Rotation,
        place: tuple[int | None, ...],
        velocity: tuple[int, ...] | None,
        turned: bool,
    ) -> None:
        self.at, self.rotation, self.place = at, rotation, place
        self.velocity, self.turned = velocity, turned

    def read(self, seen: Array, out: Array, start: Array, seconds: float) -> None:
        matrix = self.rotation.matrix(seen)
        out[..., self.at + 3 : self.at + 7] = _quaternions(matrix)
        if self.velocity is not None:
            speed = seen[..., list(self.velocity)]
            if self.turned:  # measured along the body's own axes
                speed = np.einsum("...ij,...j->...i", matrix, speed)
            out[..., self.at : self.at + 3] = start[self.at : self.at + 3] + seconds * np.cumsum(
                speed, axis=-2
            )
        for axis, column in enumerate(self.place):
            if column is not None:
                out[..., self.at + axis] = seen[..., column]


class _Rotation:
    """A rotation from a quaternion's columns, or from those of two rows of its matrix."""

    def __init__(self, quaternion: list[int] | None, rows: dict[int, list[int]]) -> None:
        self.quaternion, self.rows = quaternion, rows

    def matrix(self, seen: Array) -> Array:
        if self.quaternion is not None:
            return _matrices(seen[..., self.quaternion])
        full = np.empty((*seen.shape[:-1], 3, 3))
        for row, columns in self.rows.items():
            full[..., row, :] = seen[..., columns]
        if len(self.rows) == 2:
            (missing,) = {0, 1, 2} - set(self.rows)
            after, before = (missing + 1) % 3, (missing + 2) % 3
            full[..., missing, :] = np.cross(full[..., after, :], full[..., before, :])
        return full


def _scalar(columns: _Columns, at: int, q: Array, v: Array, *, may_integrate: bool) -> _Joint | None:
    if np.ptp(q) < 1e-9:
        return _Still()
    if (column := columns.of(q)) is not None:
        return _Direct(at, column)
    cosine, sine = columns.of(np.cos(q)), columns.of(np.sin(q))
    if cosine is not None and sine is not None:
        return _Angle(at, cosine, sine)
    if may_integrate:
        column = columns.of(v)
        return _Still() if column is None else _Integrated(at, column)
    return None


def _free(columns: _Columns, at: int, q: Array, v: Array) -> _Joint | None:
    quaternion = [columns.of(q[:, 3 + i]) for i in range(4)]
    matrix = _matrices(q[:, 3:])
    rows = {}
    for row in range(3):
        entries = [columns.of(matrix[:, row, i]) for i in range(3)]
        if None not in entries:
            rows[row] = [e for e in entries if e is not None]
    known = [c for c in quaternion if c is not None]
    if len(known) < 4 and len(rows) < 2:
        return None
    rotation = _Rotation(known if len(known) == 4 else None, rows)
    own = np.einsum("tji,tj->ti", matrix, v)  # along the body's axes
    for speed, turned in ((v, False), (own, True)):
        found = [columns.of(speed[:, i]) for i in range(3)]
        moving = [c for c in found if c is not None]
        if len(moving) == 3:
            return _Free(at, rotation, _place(columns, q), tuple(moving), turned)
    return _Free(at, rotation, _place(columns, q), None, False)


def _place(columns: _Columns, q: Array) -> tuple[int | None, ...]:
    return tuple(columns.of(q[:, i]) for i in range(3))


def _matrices(quaternion: Array) -> Array:
    """Rotation matrices ``[..., 3, 3]`` of quaternions ``[..., 4]``, which are normalised first."""
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _quaternions(matrix: Array) -> Array:
    """Quaternions ``[..., 4]`` of matrices ``[..., 3, 3]`` that are almost rotations."""
    flat = matrix.reshape(-1, 9)
    out = np.full((len(flat), 4), np.nan)
    for row, entries in enumerate(flat):
        if np.isfinite(entries).all():
            mujoco.mju_mat2Quat(out[row], entries)
    return out.reshape(*matrix.shape[:-2], 4)
