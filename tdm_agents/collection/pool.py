"""Pools that may lose a worker at any moment: their interface, and the one of processes on this machine.

``multiprocessing.Pool`` waits for ever for the result of a worker that was killed, and
``concurrent.futures.ProcessPoolExecutor`` gives up all work when one dies. Here every worker has a pipe of
its own and one task at a time, so the parent knows which task a dead worker had, and gives it to another.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Protocol, TypeVar

from tdm_agents.errors import TDMError, WrongValueError
from tdm_agents.remarks import LOG

T = TypeVar("T")
R = TypeVar("R")

GRACE_SECONDS = 30.0
"""For which workers that are to end may write what they have done."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Pool(Protocol):
    """The part of ``multiprocessing.Pool`` that distributes work.

    :class:`WorkerPool` has it on this machine, :class:`tdm_agents.collection.ray_pool.RayPool` on a cluster.
    """

    def imap_unordered(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int = 1
    ) -> Iterator[R]:
        """Results of ``func`` in any order; what ``func`` raises is raised here."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerDeath:
    """A worker process that ended in the middle of a task.

    Attributes:
        worker: Which one, in words.
        how: How it ended: the signal that killed it, its exit status, or what a cluster says.
        task: The task that it was working on.
        deaths: Number of workers that this task has lost so far.
    """

    worker: str
    how: str
    task: Any
    deaths: int

    def __str__(self) -> str:
        return f"{self.worker} ended ({self.how}) while doing {self.task}; another one does it again"


class WorkerDiedError(TDMError, RuntimeError):
    """A task lost so many workers that another worker would probably die as well."""


_REMEDY = (
    "Perhaps there is too little memory (SIGKILL: run fewer workers), or the workers cannot import the main "
    'module (it needs `if __name__ == "__main__":`)'
)


@dataclass(slots=True)
class Task:
    """A task of a pool, with the number of workers that it has lost."""

    argument: Any
    deaths: int = 0

    def lose(
        self,
        worker: str,
        how: str,
        *,
        max_deaths: int,
        on_death: Callable[[WorkerDeath], None],
        remedy: str = _REMEDY,
    ) -> None:
        """Take note that a worker ended while doing it.

        Raises:
            WorkerDiedError: If it has lost ``max_deaths`` workers.
        """
        self.deaths += 1
        if self.deaths >= max_deaths:
            raise WorkerDiedError(
                f"{self.deaths} workers ended while doing {self.argument}; of the last: {how}. {remedy}"
            )
        on_death(WorkerDeath(worker, how, self.argument, self.deaths))


def warn_of_death(death: WorkerDeath) -> None:
    """Warn that a worker ended; what pools do unless they are told otherwise."""
    warnings.warn(str(death), stacklevel=2)


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    task: Task | None = None


class WorkerPool:
    """A :class:`Pool` of processes on this machine; a dead worker is reported and replaced.

    Processes start when there is work for them, compute with one thread each, ignore Ctrl-C (the parent
    handles it) and end with their parent, however it ends.

    Args:
        processes: Most processes at a time.
        initializer: Function that is called in every new worker; importable.
        on_death: Function that is called for every worker that died during a task; by default it warns.
        max_deaths: Number of workers that one task may lose before :class:`WorkerDiedError` is raised.

    Raises:
        ValueError: If ``processes`` or ``max_deaths`` is not positive.
    """

    def __init__(
        self,
        processes: int = 1,
        initializer: Callable[[], None] | None = None,
        *,
        on_death: Callable[[WorkerDeath], None] = warn_of_death,
        max_deaths: int = 3,
    ) -> None:
        for name, value in {"processes": processes, "max_deaths": max_deaths}.items():
            if value < 1:
                raise WrongValueError(f"{name} is {value}; expected at least 1")
        self._processes = processes
        self._initializer = initializer
        self._on_death = on_death
        self._max_deaths = max_deaths
        self._workers: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def imap_unordered(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int = 1
    ) -> Generator[R, None, None]:
        """Results in the order in which they are ready.

        Tasks are drawn from ``iterable`` when a worker is free, so it may be endless. An iterator that ends
        is asked again after every result: it may have new tasks then. One call at a time.

        Args:
            func: Function that is importable, and safe to call again with the same task: a worker may die
                just after the task was done.
            iterable: Tasks that can be pickled.
            chunksize: 1, because tasks are handed out one by one.

        Raises:
            WorkerDiedError: If a task has lost ``max_deaths`` workers.
            ValueError: If ``chunksize`` is not 1.
            RuntimeError: If another call has not finished.
        """
        if chunksize != 1:
            raise WrongValueError(f"chunksize is {chunksize}; expected 1")
        if any(worker.task is not None for worker in self._workers):
            raise RuntimeError("the pool is still busy with another imap_unordered; finish that one first")
        fresh = map(Task, iterable)
        lost: deque[Task] = deque()
        while True:
            self._hand_out(func, lost, fresh)
            busy = {worker.pipe: worker for worker in self._workers if worker.task is not None}
            if not busy:
                return
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker = busy[pipe]
                try:
                    done, result = pipe.recv()
                except (EOFError, OSError):  # closed, or cut off in the middle of a result
                    lost.append(self._bury(worker))
                    continue
                worker.task = None
                if not done:
                    raise result
                yield result

    def terminate(self) -> None:
        """End the workers; what they were doing is lost, unless they keep it on SIGTERM, as trainings do."""
        for worker in self._workers:
            worker.process.terminate()
        last = time.monotonic() + GRACE_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, last - time.monotonic()))
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _hand_out(self, func: Callable[[Any], Any], lost: deque[Task], fresh: Iterator[Task]) -> None:
        while True:
            idle = next((worker for worker in self._workers if worker.task is None), None)
            if idle is None and len(self._workers) == self._processes:
                return
            task = lost.popleft() if lost else next(fresh, None)
            if task is None:
                return
            if idle is None:
                idle = self._start()
            idle.task = task
            # if it died while idle, its pipe is found closed when the result is awaited
            with contextlib.suppress(ConnectionError):
                idle.pipe.send((func, task.argument))

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # not fork: MuJoCo and torch hold threads
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._initializer, LOG.level), daemon=True)
        with _worker_surroundings():
            process.start()
        theirs.close()  # so that the pipe closes with the worker
        worker = _Worker(process, pipe)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker) -> Task:
        """Take note of a dead worker; its task, which is to be done again."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join()
        task, code = worker.task, worker.process.exitcode
        assert task is not None
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"
        task.lose(f"worker {worker.process.pid}", how, max_deaths=self._max_deaths, on_death=self._on_death)
        return task


@contextmanager
def _worker_surroundings() -> Iterator[None]:
    """A context whose child processes have one thread each and ignore Ctrl-C, which the parent handles.

    Both must hold before a child's first import, so an initialiser would come too late.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    main_thread = threading.current_thread() is threading.main_thread()  # others cannot set handlers
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN) if main_thread else None
    try:
        yield
    finally:
        if main_thread:
            signal.signal(signal.SIGINT, heard)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, initializer: Callable[[], None] | None, level: int = 0) -> None:
    """The work of a worker process: tasks, until the pipe closes; it says as much as its parent."""
    LOG.setLevel(level)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer()
    while True:
        try:
            func, argument = pipe.recv()
        except (EOFError, ConnectionResetError):  # closed; reset where a result was not read before
            return
        try:
            pipe.send(outcome(func, argument))
        except (BrokenPipeError, ConnectionResetError):
            return


def _end_with_parent() -> None:
    """End this process when its parent ends: a killed parent cannot tell its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def outcome(func: Callable[[T], R], argument: T) -> tuple[bool, R | Exception]:
    """Whether a task was done, and its result, or the error that whoever awaits the result is to raise."""
    try:
        return True, func(argument)
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return False, _portable(error)


def _portable(error: Exception) -> Exception:
    """The error, or its text where it does not survive being pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except (pickle.PicklingError, TypeError, AttributeError):
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
