"""Frames and windows of a MuJoCo model, built when the first is asked for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import numpy.typing as npt

from tdm_envs.mistakes import EnvsError, EnvsValueError
from tdm_envs.walkers.families import checked_int

_FRAMES_REMEDY = (
    "set MUJOCO_GL=egl or MUJOCO_GL=osmesa before mujoco is imported, which needs OpenGL's libraries but no "
    "screen"
)

_CLOSING_SECONDS = 5.0
"""For which a window is waited for when it closes."""


class CannotRenderError(EnvsError, RuntimeError):
    """There is no OpenGL to draw with, or no screen to draw on; the message names the remedy."""


class FrameRenderer:
    """RGB frames from a camera of the model.

    Needs an OpenGL: without a screen set ``MUJOCO_GL=egl`` or ``osmesa`` before mujoco is imported.

    Args:
        model: Whose data will be drawn.
        camera: Name of a camera of the model.
        width: Pixels.
        height: Pixels.

    Raises:
        CannotRenderError: If ``MUJOCO_GL`` switched OpenGL off, or chose one that needs a screen.
    """

    def __init__(self, model: Any, camera: str, width: int, height: int) -> None:
        _refuse_without_opengl()
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        self._renderer = mujoco.Renderer(model, height, width)
        self._camera = camera

    def frame(self, data: Any) -> npt.NDArray[np.uint8]:
        """``[height, width, 3]``, a copy."""
        self._renderer.update_scene(data, camera=self._camera)
        frame: npt.NDArray[np.uint8] = self._renderer.render().copy()
        return frame

    def close(self) -> None:
        """Free the OpenGL context."""
        # MuJoCo frees textures in whichever context is current: another renderer's, had that drawn last
        self._renderer.render()
        self._renderer.close()


class Window:
    """MuJoCo's viewer on the live data, in real time at most.

    Args:
        model: The model.
        data: Its data, drawn at every :meth:`show`.
        camera: Name of a camera of the model.
        fps: Frames a second.

    Raises:
        CannotRenderError: If no window can be opened.
    """

    def __init__(self, model: Any, data: Any, camera: str, fps: int) -> None:
        if _no_screen():
            raise CannotRenderError(
                f"render_mode='human' opens a window, which fails here: {_displays()}. Start Python where "
                "there is a screen, or take render_mode='rgb_array'"
            )
        import mujoco.viewer  # needs a screen, and opens libraries that need one

        others = set(threading.enumerate())
        self._viewer = mujoco.viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)
        self._threads = set(threading.enumerate()) - others
        self._viewer.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._viewer.cam.fixedcamid = model.camera(camera).id
        self._period = 1.0 / fps
        self._due = time.monotonic()

    def show(self) -> None:
        """Draw, and wait until it is time for the next frame."""
        self._viewer.sync()
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = time.monotonic() + self._period

    def close(self) -> None:
        """Close the window, and wait until it has gone: Python may end now, or open another."""
        self._viewer.close()
        for thread in self._threads:
            thread.join(timeout=_CLOSING_SECONDS)


class Screen:
    """What an environment's ``render()`` draws on; opened when first asked for.

    Args:
        mode: None, ``"rgb_array"`` or ``"human"``.
        width: Pixels of a frame.
        height: Pixels of a frame.

    Raises:
        ValueError: If the mode is another, or a frame has no pixels.
        TypeError: If ``width`` or ``height`` is no integer.
    """

    def __init__(self, mode: str | None, width: int, height: int) -> None:
        if mode not in (None, "human", "rgb_array"):
            raise EnvsValueError(f"render_mode is {mode!r}; expected None, 'human' or 'rgb_array'")
        self._mode = mode
        self._size = checked_int("width", width, 1), checked_int("height", height, 1)
        self._open: FrameRenderer | Window | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has: all but what is open, which draws the original."""
        return {**vars(self), "_open": None}

    def draw(self, model: Any, data: Any, camera: str, fps: int) -> npt.NDArray[np.uint8] | None:
        """A frame ``[height, width, 3]``; for ``"human"`` None, and the window shows it.

        Args:
            model: The same until :meth:`close`.
            data: Its data, likewise.
            camera: Name of a camera of the model.
            fps: Frames a second of the window.

        Raises:
            CannotRenderError: If there is no OpenGL, or no screen for the window.
        """
        if self._mode is None:
            gym.logger.warn("render() does nothing without a render_mode; pass one to gym.make")
            return None
        if self._open is None:
            if self._mode == "human":
                self._open = Window(model, data, camera, fps)
            else:
                self._open = FrameRenderer(model, camera, *self._size)
        if isinstance(self._open, Window):
            self._open.show()
            return None
        return self._open.frame(data)

    def close(self) -> None:
        """Free what is open; the next :meth:`draw` opens it anew."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _refuse_without_opengl() -> None:
    backend = getattr(mujoco, "GLContext", None)  # chosen at import, and not there where switched off
    now = f"(MUJOCO_GL is {os.environ.get('MUJOCO_GL', '')!r} now)"
    if backend is None:
        raise CannotRenderError(f"OpenGL was switched off when mujoco was imported {now}; {_FRAMES_REMEDY}")
    if backend.__module__ == "mujoco.glfw" and _no_screen():
        raise CannotRenderError(
            f"mujoco was imported so that it draws on a screen {now}, and {_displays()}; {_FRAMES_REMEDY}"
        )


def _no_screen() -> bool:
    """Whether GLFW, which opens windows, fails: asked before MuJoCo's viewer, which then ends Python.

    In a process of its own, so that the viewer still is the first to start GLFW in this one.
    """
    if platform.system() != "Linux":
        return False  # there always is one, or MuJoCo says what is missing
    asked = [sys.executable, "-c", "import glfw, sys; sys.exit(not glfw.init())"]
    return subprocess.run(asked, capture_output=True, check=False).returncode != 0


def _displays() -> str:
    found = [(name, os.environ.get(name)) for name in ("DISPLAY", "WAYLAND_DISPLAY")]
    if not any(value for _, value in found):
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    return " and ".join(f"{name} is {value!r}, which cannot be opened" for name, value in found if value)
