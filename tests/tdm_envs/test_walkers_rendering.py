"""Where walkers and the suite are drawn, and what they say where that cannot be."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

import pytest

WALKER = "gym.make('tdm_envs:tdm/WalkerTree-v0', dof=4, width=64, height=48, render_mode={mode!r})"
SUITE = (
    "gym.make('tdm_envs:tdm/Suite-v0', domain='pendulum', task='swingup', width=64, height=48, "
    "render_mode={mode!r})"
)

on_linux = pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere there always is a screen")


def run(script, **environ):
    """What a Python of its own prints; only these of the variables that say where to draw are set."""
    names = ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in names} | environ
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120
    )


def refusal(made, **environ):
    """The error of the first frame; the process must live on after it."""
    done = run(
        "import gymnasium as gym\n"
        f"env = {made}\n"
        "try:\n"
        "    env.reset(seed=0)\n"
        "    env.render()\n"
        "except RuntimeError as error:\n"
        "    print(type(error).__name__, error)\n",
        **environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("made", [WALKER, SUITE], ids=["walker", "suite"])
def test_frames_where_opengl_is_switched_off_are_refused_with_the_remedy(made):
    error = refusal(made.format(mode="rgb_array"), MUJOCO_GL="disable")
    assert error.startswith("CannotRenderError OpenGL was switched off")
    assert "(MUJOCO_GL is 'disable' now)" in error
    assert "MUJOCO_GL=egl or MUJOCO_GL=osmesa before mujoco is imported" in error


@on_linux
def test_frames_that_need_a_screen_are_refused_where_there_is_none():
    error = refusal(WALKER.format(mode="rgb_array"), MUJOCO_GL="glfw")
    assert "draws on a screen (MUJOCO_GL is 'glfw' now), and neither DISPLAY nor WAYLAND_DISPLAY" in error
    assert "MUJOCO_GL=egl or MUJOCO_GL=osmesa" in error


@on_linux
@pytest.mark.parametrize(
    ("made", "environ", "why"),
    [
        pytest.param(WALKER, {}, "neither DISPLAY nor WAYLAND_DISPLAY is set", id="walker"),
        pytest.param(SUITE, {}, "neither DISPLAY nor WAYLAND_DISPLAY is set", id="suite"),
        pytest.param(WALKER, {"DISPLAY": ":77"}, "DISPLAY is ':77', which cannot be opened", id="gone"),
    ],
)
def test_a_window_where_there_is_no_screen_is_refused_and_python_lives_on(made, environ, why):
    error = refusal(made.format(mode="human"), MUJOCO_GL="disable", **environ)
    assert error.startswith("CannotRenderError render_mode='human' opens a window, which fails here: " + why)
    assert "render_mode='rgb_array'" in error


def test_a_copy_draws_frames_of_its_own_and_closing_it_spoils_none():
    done = run(
        "import copy, gymnasium as gym\n"
        f"env = {WALKER.format(mode='rgb_array')}\n"
        "env.reset(seed=0)\n"
        "before = env.render()\n"
        "twin = copy.deepcopy(env)\n"
        "for _ in range(30):\n"
        "    twin.step(twin.action_space.high)\n"
        "print((twin.render() != before).any(), (env.render() == before).all())\n"
        "twin.close()\n"
        "print((env.render() == before).all())\n"
        "env.close()\n",
        MUJOCO_GL="egl",
    )
    if "OpenGL" in done.stderr or "GLContext" in done.stderr:
        pytest.skip("no EGL on this machine")
    assert done.stdout == "True True\nTrue\n", done.stderr


@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="needs xvfb")
def test_windows_open_in_real_time_and_close_one_after_another():
    script = """
import time
import gymnasium as gym
for name, settings in (("WalkerLine", {"dof": 5}), ("Suite", {"domain": "pendulum", "task": "swingup"})):
    env = gym.make(f"tdm_envs:tdm/{name}-v0", render_mode="human", **settings)
    env.reset(seed=0)
    began = time.monotonic()
    for _ in range(10):
        env.step(env.action_space.sample())
    assert time.monotonic() - began > 8 / env.metadata["render_fps"]
    assert env.render() is None
    env.close()
"""
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    command = ["xvfb-run", "-a", "-s", "-screen 0 640x480x24", sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
