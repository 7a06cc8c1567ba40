"""The page: it shows the newest snapshot, however many viewers there are, and passes on their wishes."""

from __future__ import annotations

import html
import math
import pickle
import queue
import threading
import time
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import viser

from tdm_agents.errors import WrongOrderError
from tdm_agents.view.body_scene import BodyScene
from tdm_agents.view.charts import Charts
from tdm_agents.view.control_panel import ControlPanel
from tdm_agents.view.gui_values import show_value
from tdm_agents.view.imagined_poses import imagined_positions, positions_of, velocities_of
from tdm_agents.view.live_physics import body_names
from tdm_agents.view.observed_positions import ObservedPositions
from tdm_agents.view.planning_process import PlanningProcess
from tdm_agents.view.scene_recorder import SceneRecorder
from tdm_agents.view.snapshots import Body, PlanSeen, Setup, Snapshot

_CHART_SECONDS = 0.25
_FUTURES_SHARE = 0.25
"""Share of a core that futures may take: after a slow one the next waits."""
_PULL_STEPS = 25
"""Environment steps that a pull lasts if the mouse says nothing more."""


class LivePage:
    """A page on a server, fed by a planning process.

    Args:
        server: The server.
        process: The process.
        entries: The players to choose from.
        out: Folder of recordings.

    Attributes:
        frames: Number of snapshots shown.
        newest: The last of them.
    """

    def __init__(
        self, server: viser.ViserServer, process: PlanningProcess, entries: tuple[str, ...], out: Path
    ) -> None:
        self.frames = 0
        self.newest: Snapshot | None = None
        self._server, self._process, self._out = server, process, out
        self._closed = threading.Event()
        self._setup: Setup = process.setup
        self._scene: BodyScene | None = None
        self._reader: ObservedPositions | None = None
        self._recorder: SceneRecorder | None = None
        self._recordings: queue.SimpleQueue[viser.ClientHandle | None] = queue.SimpleQueue()
        self._picture: viser.GuiImageHandle | None = None
        self._plan: PlanSeen | None = None
        self._charts_due = self._futures_due = 0.0
        self._times: list[float] = []
        gui = server.gui
        gui.configure_theme(control_width="medium", show_logo=False, show_share_button=False)
        self._panel = gui.add_panel()
        with self._panel.add_tab("Thinking"):
            self._status = gui.add_html("")
            self._charts = Charts(gui)
        self._panel.dock_left()
        gui.main_panel.dock_right()
        self.controls = ControlPanel(
            gui, entries, process.send, lambda: process.sent, lambda text: self._complain(text)
        )
        with gui.add_folder("Picture"):
            self._follow = gui.add_checkbox("follow the body", True)
            self._futures = gui.add_checkbox("imagined futures", True)
            self._shown = gui.add_slider("candidates", 0, 48, 1, 12, hint="Candidates drawn of each plan.")
            self._traced = gui.add_dropdown("traced part", ("-",), initial_value="-")
        self._listen()
        self._introduce(self._setup)

    def _listen(self) -> None:
        for control in (self._follow, self._futures, self._shown, self._traced):

            @control.on_update  # type: ignore[untyped-decorator]
            def _(event: viser.GuiEvent[Any]) -> None:
                if event.client is not None:  # a snapshot comes, even in a pause, and is drawn anew
                    self._plan = self._charts.plan
                    self._process.send("shown", count=int(self._shown.value))

        @self.controls.record.on_click
        def _(event: viser.GuiEvent[Any]) -> None:
            self._recordings.put(event.client)  # the loop draws, so it records too

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Show what arrives until :meth:`close`.

        Raises:
            RuntimeError: If the planning process ends by itself.
        """
        while not self._closed.is_set():
            while not self._recordings.empty():
                self._toggle_recording(self._recordings.get())
            try:
                news = self._process.news.get(timeout=0.2)
            except queue.Empty:
                continue
            if news is None:
                if self._closed.is_set():
                    return
                raise WrongOrderError("the process that plans has ended; see its messages above")
            if isinstance(news, Setup):
                self._introduce(news)
            elif isinstance(news, Body):
                self._embody(news)
            else:
                with self._server.atomic():
                    self._show(news)
                self._process.ask()

    def close(self) -> None:
        """Let :meth:`run` return."""
        self._closed.set()

    def _introduce(self, setup: Setup) -> None:
        self._setup = setup
        self.controls.introduce(setup)
        self._charts.introduce(setup)

    def _embody(self, body: Body) -> None:
        if body.model is None:
            self.controls.show_bodies(())
            self._traced.visible = False
            return
        model: mujoco.MjModel = pickle.loads(body.model)  # of our own process
        names = tuple(body_names(model))
        self._scene = BodyScene(self._server, model)
        self._reader = ObservedPositions(model)
        self.controls.show_bodies(names)
        self._traced.options = names
        show_value(self._traced, names[self._scene.traced])
        for number, handle in self._scene.handles.items():
            self._let_pull(number, handle)

    def _let_pull(self, body: int, handle: viser.GlbHandle) -> None:
        @handle.on_drag("left", modifier="shift")
        def _(event: Any) -> None:
            if self._scene is None:
                return
            way = np.subtract(event.end_position, event.start_position)
            force = (2.0 * self._setup.weight / self._scene.size * way).tolist()
            steps = 0 if event.phase == "end" else _PULL_STEPS
            self._process.send("push", body=body, force=force, steps=steps)

    # ------------------------------------------------------------------ a snapshot

    def _show(self, snapshot: Snapshot) -> None:
        seconds = snapshot.step * self._setup.seconds_per_step
        seconds = seconds if math.isfinite(seconds) else float(snapshot.step)
        self.frames, self.newest = self.frames + 1, snapshot
        self._charts.note(snapshot, seconds)
        self.controls.show_running(snapshot.running)
        if snapshot.plan is not None:
            self._plan = snapshot.plan
        if snapshot.frame is not None:
            self._show_picture(snapshot)
        if self._scene is not None and snapshot.physics is not None:
            self._show_body(self._scene, snapshot)
        now = time.monotonic()
        self._times = [t for t in self._times if now - t < 5.0] + [now]
        if now >= self._charts_due or not snapshot.running:
            self._charts_due = now + _CHART_SECONDS
            self._charts.draw()
            self._status.content = self._summary(snapshot)
        if snapshot.problem:
            self._complain(snapshot.problem)
        if self._recorder is not None:
            self._recorder.frame()

    def _show_body(self, scene: BodyScene, snapshot: Snapshot) -> None:
        assert snapshot.physics is not None and self._reader is not None
        qpos = positions_of(snapshot.physics, scene.model)
        self._reader.learn(snapshot.observation, qpos, velocities_of(snapshot.physics, scene.model))
        scene.follow = self._follow.value
        if self._traced.value in self._traced.options:
            scene.traced = self._traced.options.index(self._traced.value)
        scene.show(qpos)
        if not self._futures.value:
            scene.forget()
            return
        began = time.thread_time()  # not the clock: on a busy machine it would draw old plans
        if self._plan is None or (snapshot.running and time.monotonic() < self._futures_due):
            return
        plan, self._plan = self._plan, None
        setup = self._setup
        positions = imagined_positions(
            plan,
            scene.model,
            self._reader,
            steps=setup.sub_steps * setup.action_repeat,
            seconds=setup.seconds_per_step * setup.action_repeat,
        )
        if positions is None or plan.physics is None:
            scene.forget()
            return
        scene.imagine(positions, plan.values, positions_of(plan.physics, scene.model))
        self._futures_due = time.monotonic() + (time.thread_time() - began) / _FUTURES_SHARE

    def _show_picture(self, snapshot: Snapshot) -> None:
        assert snapshot.frame is not None
        if self._picture is None:
            with self._panel.add_tab("Picture"):
                self._picture = self._server.gui.add_image(snapshot.frame, format="jpeg")
        else:
            self._picture.image = snapshot.frame

    def _summary(self, snapshot: Snapshot) -> str:
        setup, plan = self._setup, self._charts.plan
        budget = 1e3 * setup.seconds_per_step * setup.action_repeat
        rows = [
            ("environment", setup.environment),
            ("player", setup.player),
            ("episode", f"{snapshot.episode + 1} (seed {snapshot.seed}), step {snapshot.step}"),
            ("state", "running" if snapshot.running else "paused"),
            ("return so far", f"{snapshot.score:.2f}"),
        ]
        if snapshot.last_score is not None:
            rows.append(("last return", f"{snapshot.last_score:.2f}"))
        if plan is not None:
            against = f" for {budget:.0f} ms of real time" if math.isfinite(budget) else ""
            rows += [
                ("plan", f"value {plan.values[0]:.3g}"),
                ("thinking", f"{plan.milliseconds:.1f} ms{against}"),
            ]
        span = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        rows.append(("frames per second", f"{(len(self._times) - 1) / span:.0f}" if span > 0 else "-"))
        cells = "".join(
            f"<tr><td style='color:#64748b;padding-right:8px;vertical-align:top'>{name}</td>"
            f"<td>{html.escape(text)}</td></tr>"
            for name, text in rows
        )
        wrong = html.escape(snapshot.problem)
        note = f"<p style='color:#b91c1c'>{wrong}</p>" if wrong else ""
        return f"<table style='font-size:12px;margin:4px 8px'>{cells}</table>{note}"

    def _complain(self, text: str) -> None:
        for client in self._server.get_clients().values():
            client.add_notification("Not done", text, auto_close_seconds=8.0, color="red")

    # ------------------------------------------------------------------ recording

    def _toggle_recording(self, client: viser.ClientHandle | None) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            self._recorder = SceneRecorder(self._server)
            self.controls.record.label = "Write the recording"
            return
        self.controls.record.label = "Record"
        path = self._out / f"scene-{time.strftime('%Y%m%d-%H%M%S')}.html"
        size = recorder.write(path)
        if client is not None:
            client.add_notification(
                "Recorded", f"{path} ({size / 1e6:.1f} MB)", auto_close_seconds=10.0, color="green"
            )
