"""The process that plans, apart from the one that shows: neither ever waits for the other.

The watcher asks for one snapshot at a time, so that a slow page costs the planner nothing. It sends at most
so many snapshots per second, and each plan once.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from tdm_agents.errors import WrongOrderError, is_mistake
from tdm_agents.view.snapshots import Body, Command, Setup, Snapshot

_IDLE_SECONDS = 0.2
"""How long a paused episode waits for a command before it looks whether it is still wanted."""


def run_episode(pipe: Connection, watched: Any, modules: tuple[str, ...], fps: float) -> None:
    """The whole life of the planning process.

    Args:
        pipe: Brings commands and the number of wanted snapshots, takes setups and snapshots.
        watched: A :class:`~tdm_agents.view.live_episode.Watched`.
        modules: Modules to import first, which register environments and plug-ins.
        fps: Snapshots per second, at most.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the watcher's, which closes the pipe
    os.environ.setdefault("MUJOCO_GL", "disable")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    import torch

    from tdm_agents.typed_modules import import_typed
    from tdm_agents.view.live_episode import LiveEpisode

    torch.set_num_threads(watched.threads)
    try:
        for module in modules:
            import_typed(module)
        loop = _Loop(pipe, LiveEpisode(watched), 1.0 / fps)
    except Exception as error:
        pipe.send(error if is_mistake(error) else RuntimeError(traceback.format_exc()))
        return
    try:
        loop.run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # nobody watches any more
    finally:
        loop.episode.close()


class _Loop:
    """Commands, steps and snapshots, in turns."""

    def __init__(self, pipe: Connection, episode: Any, every: float) -> None:
        self.pipe, self.episode, self.every = pipe, episode, every
        self.running, self.steps, self.speed = True, 0, 1.0
        self.wanted, self.problem, self.open = False, "", True
        self._sent_at, self._sent_plan, self._changed = -math.inf, (-1, 0), True
        self._serial, self._body = 0, b""
        self._due = time.monotonic()

    def run(self) -> None:
        """Play until the watcher has gone or says ``close``."""
        self._introduce()
        while self.open:
            self._listen()
            if not self.open:
                break
            if self._plays and time.monotonic() >= self._due:
                self._step()
            if self.wanted and self._changed and time.monotonic() - self._sent_at >= self.every:
                self._send()

    @property
    def _plays(self) -> bool:
        return self.running or self.steps > 0

    def _listen(self) -> None:
        """Obey what has arrived; wait for it until a step or a snapshot is due."""
        wait = self._due - time.monotonic() if self._plays else _IDLE_SECONDS
        if self.wanted and self._changed:
            wait = min(wait, self._sent_at + self.every - time.monotonic())
        wait = max(wait, 0.0)
        while self.pipe.poll(wait):
            message = self.pipe.recv()
            wait = 0.0
            if message is None:
                self.wanted = True
            else:
                self._obey(message)

    def _step(self) -> None:
        self.steps = max(0, self.steps - 1)
        before = self.episode.plan_number[0]
        try:
            self.episode.step()
        except Exception as error:
            self._fail(error)
        if self.episode.plan_number[0] != before:
            self._introduce()
        self._changed = True
        seconds = self.episode.seconds_per_step
        if self.speed > 0 and math.isfinite(seconds):
            self._due = max(self._due + seconds / self.speed, time.monotonic() - 0.1)
        else:
            self._due = time.monotonic()

    def _obey(self, command: Command) -> None:
        given = dict(command.settings)
        self._changed, self._serial = True, self._serial + 1
        try:
            match command.what:
                case "run":
                    self.running, self._due = True, time.monotonic()
                case "pause":
                    self.running = False
                case "step":
                    self.running, self.steps = False, int(given["steps"])
                case "reset":
                    self.episode.reset()
                case "planner":
                    self.episode.choose_planner(given["planner"])
                case "entry":
                    self.episode.choose_entry(int(given["index"]))
                case "reward":
                    self.episode.choose_reward(str(given["name"]))
                case "push":
                    self.episode.push(int(given["body"]), given["force"], int(given["steps"]))
                case "speed":
                    self.speed, self._due = float(given["times"]), time.monotonic()
                case "shown":
                    self.episode.shown = int(given["count"])
                case "close":
                    self.open = False
                case _:
                    raise ValueError(f"no command {command.what!r}")
        except Exception as error:
            self._fail(error)
        self._introduce(begins=command.what == "reset")

    def _introduce(self, *, begins: bool = True) -> None:
        """Say who plays where; where an episode begins, also the body, if that has changed."""
        self.pipe.send(self.episode.setup(self._serial))
        if not begins:
            return
        body = self.episode.body()
        digest = hashlib.sha256(body.model or b"").digest()
        if digest != self._body:
            self.pipe.send(body)
            self._body = digest

    def _fail(self, error: Exception) -> None:
        """Show why, and wait: a page that shows its problem is worth more than one that is gone."""
        self.problem = f"{error}" if is_mistake(error) else f"{type(error).__name__}: {error}"
        self.running, self.steps = (self.running, self.steps) if is_mistake(error) else (False, 0)

    def _send(self) -> None:
        number = self.episode.plan_number
        self.pipe.send(
            self.episode.snapshot(
                with_plan=number != self._sent_plan, running=self.running, problem=self.problem
            )
        )
        self._sent_plan, self._sent_at = number, time.monotonic()
        self.wanted = self._changed = False
        self.problem = ""  # told once


class PlanningProcess:
    """The watcher's end: the newest setup and snapshot, and commands.

    Args:
        watched: A :class:`~tdm_agents.view.live_episode.Watched`.
        modules: Modules that the process imports first.
        fps: Snapshots per second, at most.

    Raises:
        TDMError: Where the environment or the first player cannot be made.

    Attributes:
        setup: The first setup.
        sent: Number of commands that were sent.
        news: What arrives, in order; None at the end.
    """

    def __init__(self, watched: Any, modules: tuple[str, ...] = (), fps: float = 30.0) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=run_episode, args=(other, watched, modules, fps), name="tdm view: planning", daemon=True
        )
        self._process.start()
        other.close()
        try:
            first = self._pipe.recv()
        except EOFError as error:
            raise WrongOrderError("the process that plans has ended before it began") from error
        if isinstance(first, Exception):
            self._process.join()
            raise first
        self.setup: Setup = first
        self.sent = 0
        self.news: queue.SimpleQueue[Setup | Body | Snapshot | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        threading.Thread(target=self._read, name="snapshots", daemon=True).start()
        self.ask()

    @property
    def pid(self) -> int | None:
        """Number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.is_alive()

    def ask(self) -> None:
        """Ask for the next snapshot."""
        self._write(None)

    def send(self, what: str, **settings: Any) -> None:
        """Send a command; :attr:`sent` counts them."""
        self.sent += 1
        self._write(Command(what, settings))

    def close(self) -> None:
        """End the process, at once if it does not listen."""
        self.send("close")
        self._process.join(timeout=3.0)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _write(self, message: Command | None) -> None:
        with self._lock:
            try:
                self._pipe.send(message)
            except (BrokenPipeError, ConnectionResetError):
                return  # it has ended; whoever reads the news is told

    def _read(self) -> None:
        """Pass on what arrives; None at the end."""
        try:
            while True:
                self.news.put(self._pipe.recv())
        except (EOFError, OSError):
            self.news.put(None)
