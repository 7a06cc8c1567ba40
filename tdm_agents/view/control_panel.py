"""The page's controls: the episode, its player, the planner's settings, pushes and the picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import viser

from tdm_agents import registry
from tdm_agents.agent.agent_files import planner_name
from tdm_agents.errors import TDMError
from tdm_agents.view.gui_values import show_value
from tdm_agents.view.setting_controls import SettingControl, setting_controls, with_setting
from tdm_agents.view.snapshots import Setup

DIRECTIONS = {
    "forwards, +x": (1.0, 0.0, 0.0),
    "backwards, -x": (-1.0, 0.0, 0.0),
    "left, +y": (0.0, 1.0, 0.0),
    "right, -y": (0.0, -1.0, 0.0),
    "up, +z": (0.0, 0.0, 1.0),
}
_DEFAULT_PUSH = 0.5
"""Of the body's weight."""

Send = Callable[..., None]


class ControlPanel:
    """The controls of a page.

    Args:
        gui: Where they are added.
        entries: The players to choose from.
        send: Sends a command; see :class:`tdm_agents.view.snapshots.Command`.
        complain: Shows a person why something cannot be done.

    Attributes:
        serial: Number of commands that had been sent when the planner was last touched; setups that answer
            fewer are too old to say how it stands.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        entries: tuple[str, ...],
        send: Send,
        sent: Callable[[], int],
        complain: Callable[[str], None],
    ) -> None:
        self._gui, self._send, self._sent, self._complain = gui, send, sent, complain
        self.serial = 0
        self._entries = entries
        self._planner: Any = None
        self._built: type | None = None  # whose settings the controls are of
        self._controls: dict[str, Any] = {}
        self._seconds_per_step = 0.02
        with gui.add_folder("Episode"):
            self.running = gui.add_checkbox("running", True, hint="Go on, or pause.")
            self.step = gui.add_button("Step", hint="One environment step; pauses.")
            self.reset = gui.add_button("Reset", hint="Begin the next episode.")
            self.speed = gui.add_slider(
                "speed", 0.0, 4.0, 0.25, 1.0, hint="Times real time; 0 is as fast as it can plan."
            )
            self.record = gui.add_button("Record", hint="Record the scene; once more writes it as HTML.")
        with gui.add_folder("Player"):
            self.entry = gui.add_dropdown("model", entries, initial_value=entries[0])
            self.reward = gui.add_dropdown("reward", ("-",), initial_value="-")
            self.planner = gui.add_dropdown("planner", ("-",), initial_value="-")
        self._settings = gui.add_folder("Planner's settings")
        self._push_folder = gui.add_folder("Push", expand_by_default=False)
        with self._push_folder:
            self.body = gui.add_dropdown("body part", ("-",), initial_value="-")
            self.direction = gui.add_dropdown("direction", tuple(DIRECTIONS))
            self.force = gui.add_number("force, N", 0.0, min=0.0)
            self.seconds = gui.add_slider("seconds", 0.02, 1.0, 0.02, 0.1)
            self.push = gui.add_button("Push")
            gui.add_markdown("Or hold *shift* and pull a body part with the mouse.")
        self._listen()

    def _listen(self) -> None:
        @self.running.on_update
        def _(event: viser.GuiEvent[Any]) -> None:
            if event.client is not None:
                self._send("run" if self.running.value else "pause")

        @self.step.on_click
        def _(_: viser.GuiEvent[Any]) -> None:
            self._send("step", steps=1)

        @self.reset.on_click
        def _(_: viser.GuiEvent[Any]) -> None:
            self._send("reset")

        @self.speed.on_update
        def _(event: viser.GuiEvent[Any]) -> None:
            if event.client is not None:
                self._send("speed", times=float(self.speed.value))

        @self.entry.on_update
        def _(event: viser.GuiEvent[Any]) -> None:
            if event.client is not None:
                self._send("entry", index=self._entries.index(self.entry.value))
                self.serial = self._sent()

        @self.reward.on_update
        def _(event: viser.GuiEvent[Any]) -> None:
            if event.client is not None:
                self._send("reward", name=self.reward.value)
                self.serial = self._sent()

        @self.planner.on_update
        def _(event: viser.GuiEvent[Any]) -> None:
            if event.client is not None:
                self.choose_planner(self.planner.value)

        @self.push.on_click
        def _(_: viser.GuiEvent[Any]) -> None:
            body = self.bodies.index(self.body.value)
            steps = max(1, round(self.seconds.value / self._seconds_per_step))
            force = [self.force.value * part for part in DIRECTIONS[self.direction.value]]
            self._send("push", body=body, force=force, steps=steps)

    # ------------------------------------------------------------------ what is the case

    bodies: tuple[str, ...] = ()
    """Names of the body parts by index, the world first."""

    def show_bodies(self, names: tuple[str, ...]) -> None:
        """Offer the body parts of a model, the world first; none without MuJoCo."""
        self.bodies = names
        self._push_folder.visible = len(names) > 1
        if len(names) > 1:
            self.body.options = names[1:]
            show_value(self.body, names[1])

    def introduce(self, setup: Setup) -> None:
        """Show who plays with which settings, if nobody has changed them since."""
        if setup.seconds_per_step > 0:
            self._seconds_per_step = setup.seconds_per_step
        if self.force.value == 0.0 and setup.weight > 0.0:
            show_value(self.force, round(_DEFAULT_PUSH * setup.weight, 1))
        if setup.serial < self.serial:
            return
        show_value(self.entry, self._entries[setup.entry])
        if self.reward.options != setup.rewards:
            self.reward.options = setup.rewards
        show_value(self.reward, setup.reward)
        self._show_planner(setup.planner)

    def show_running(self, running: bool) -> None:
        """Show whether the episode goes on by itself."""
        show_value(self.running, running)

    # ------------------------------------------------------------------ the planner

    def choose_planner(self, name: str) -> None:
        """Another planner, with the former horizon, which belongs to the model and its task."""
        if name not in self.planner.options:  # it may import a module, and whoever sees the page can send one
            self._complain(f"planner {name!r}; expected one of {', '.join(self.planner.options)}")
            return
        try:
            made = registry.make_planner(name, horizon=self._planner.horizon)
        except TDMError as error:
            self._complain(str(error))
            return
        self._use(made)
        self._show_planner(made)

    def _use(self, planner: Any) -> None:
        self._planner = planner
        self._send("planner", planner=planner)
        self.serial = self._sent()

    def _show_planner(self, planner: Any) -> None:
        plans = planner is not None
        self.planner.disabled = not plans
        self._settings.visible = plans
        if not plans:
            self._planner = None
            self.planner.options = ("-",)
            show_value(self.planner, "-")
            return
        name = planner_name(planner)
        names = tuple(dict.fromkeys([*registry.names(registry.PLANNERS), name]))
        if self.planner.options != names:
            self.planner.options = names
        show_value(self.planner, name)
        self._planner = planner
        if type(planner) is not self._built:
            self._build_settings()
            return
        for control in setting_controls(planner):
            handle = self._controls.get(control.name)
            if handle is not None:
                show_value(handle, _shown(control))

    def _build_settings(self) -> None:
        self._built = type(self._planner)
        for handle in self._controls.values():
            handle.remove()
        with self._settings:
            self._controls = {control.name: self._add(control) for control in setting_controls(self._planner)}

    def _add(self, control: SettingControl) -> Any:
        gui, name, shown = self._gui, control.name, _shown(control)
        if control.kind == "switch":
            handle: Any = gui.add_checkbox(name, shown)
        elif control.kind == "choice":
            options = tuple(str(choice) for choice in control.choices)
            handle = gui.add_dropdown(name, options, initial_value=shown)
        elif control.optional:
            handle = gui.add_text(name, shown, hint="Empty: none.")
        else:
            low, high = min(control.low, control.value), max(control.high, control.value)
            whole = control.kind == "whole"
            step = 1 if whole else round((high - low) / 200, 4) or 1e-4
            handle = gui.add_slider(name, low, high, step, control.value)

        @handle.on_update  # type: ignore[untyped-decorator]
        def _(event: viser.GuiEvent[Any]) -> None:
            if event.client is not None:
                self._change(control, handle)

        return handle

    def _change(self, control: SettingControl, handle: Any) -> None:
        try:
            self._use(with_setting(self._planner, control.name, _value(control, handle.value)))
        except (ValueError, TypeError) as error:
            self._complain(str(error))
            former = next(c for c in setting_controls(self._planner) if c.name == control.name)
            show_value(handle, _shown(former))


def _shown(control: SettingControl) -> Any:
    """A setting's value, as its control shows it."""
    if control.kind == "choice" or (control.optional and control.value is not None):
        return str(control.value)
    return "" if control.value is None else control.value


def _value(control: SettingControl, shown: Any) -> Any:
    """What a control shows, as the planner takes it."""
    if control.kind == "choice":
        return next(choice for choice in control.choices if str(choice) == shown)
    if control.kind == "switch":
        return bool(shown)
    if control.optional and isinstance(shown, str):
        if not shown.strip():
            return None
        return int(shown) if control.kind == "whole" else float(shown)
    return int(shown) if control.kind == "whole" else float(shown)
