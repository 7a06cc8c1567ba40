"""A :class:`~tdm_agents.collection.pool.Pool` on a Ray cluster: the same tasks, on many machines.

Ray starts processes, finds room for them, and says which have ended. Its own retries are switched off,
because they are silent: here, as in the local pool, every death is reported, and a task that keeps killing
its workers is named. Its ``ray.util.multiprocessing.Pool`` draws all tasks at once, and loses those of a node
that dies.

Tasks are called with the same arguments as by the local pool and compute with one thread, so that their
results are the same, bit for bit, on processors of the same kind.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from tdm_agents.collection.pool import THREAD_VARIABLES, Task, WorkerDeath, outcome, warn_of_death
from tdm_agents.errors import MissingPackageError, WrongValueError
from tdm_agents.remarks import LOG, remark

T = TypeVar("T")
R = TypeVar("R")

_KNOCK_SECONDS = 10.0
_AGAIN = "`ray stop --force` on every machine ends what is left of a broken one"
_REMEDY = (
    f"Perhaps its machine has too little memory, or the cluster is broken: {_AGAIN}, then start it again"
)
_CARRIED = ("MUJOCO_GL",)
"""Variables of this process that workers on other machines need as well."""


class RayPool:
    """A pool on a Ray cluster; the tasks of a worker or node that dies are done again by another.

    Between ``with`` and its end the process is connected to the cluster. A program that is connected already
    stays so, and what it did not wait for is done in the background.

    Args:
        address: The cluster's ``host:port``; None = the one of ``RAY_ADDRESS`` or the one that runs on this
            machine; where there is none, one is started for as long as the pool lasts, on this machine alone.
        workers: Most tasks at a time; None = as many as the cluster has room for, also when it grows.
        cpus_per_worker: Cores that a task reserves, more than 0; it computes with one thread in any case.
        gpus_per_worker: GPUs that a task reserves, such as 0.25.
        initializer: Function that is called once in every worker process; importable.
        on_death: Function that is called for every worker that died during a task; by default it warns.
        max_deaths: Number of workers that one task may lose before
            :class:`~tdm_agents.collection.pool.WorkerDiedError` is raised.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If a number makes no sense.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
        initializer: Callable[[], None] | None = None,
        on_death: Callable[[WorkerDeath], None] = warn_of_death,
        max_deaths: int = 3,
    ) -> None:
        for name, value in {"workers": workers, "max_deaths": max_deaths}.items():
            if value is not None and value < 1:
                raise WrongValueError(f"{name} is {value}; expected at least 1")
        if cpus_per_worker <= 0 or gpus_per_worker < 0:
            raise WrongValueError(
                f"a worker reserves {cpus_per_worker:g} CPUs and {gpus_per_worker:g} GPUs; expected more "
                "than 0 CPUs, and 0 GPUs or more"
            )
        for kind, amount in {"CPUs": cpus_per_worker, "GPUs": gpus_per_worker}.items():
            if amount > 1 and amount != int(amount):
                raise WrongValueError(
                    f"a worker reserves {amount:g} {kind}; expected a fraction of one, or a whole number"
                )
        self._ray = _ray()
        self._address = address
        self._workers = workers
        self._wanted = {"CPU": cpus_per_worker, "GPU": gpus_per_worker}
        self._initializer = initializer
        self._on_death = on_death
        self._max_deaths = max_deaths
        self._connected_here = False

    def __enter__(self) -> RayPool:
        """Connect.

        Raises:
            ValueError: If there is no such cluster, it runs another version of Ray or Python, or no node of
                one that was started here has room for a worker.
        """
        if not self._ray.is_initialized():
            try:
                _knock(self._address or os.environ.get("RAY_ADDRESS"))
                self._ray.init(
                    address=self._address,
                    include_dashboard=False,
                    log_to_driver=False,  # it would tell the life of every node in the middle of our output
                    logging_level=logging.ERROR,
                )
            except (OSError, RuntimeError, ValueError) as error:
                place = self._address or os.environ.get("RAY_ADDRESS") or "this machine"
                raise WrongValueError(
                    f"no Ray cluster can be used at {place}: "
                    f"{' '.join(str(error).split())}; start one with `ray start --head`, on every further "
                    "machine `ray start --address=HOST:6379`, with the same versions of Ray and Python; "
                    f"{_AGAIN}"
                ) from error
            self._connected_here = True
        try:
            self._check_room()
        except WrongValueError:
            self.terminate()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def terminate(self) -> None:
        """Leave the cluster, which ends what is being done; end it where it was started here."""
        if self._connected_here:
            self._ray.shutdown()
            self._connected_here = False

    def imap_unordered(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int = 1
    ) -> Generator[R, None, None]:
        """Results in the order in which they are ready.

        Tasks are drawn from ``iterable`` when there is nearly room for them, so it may be endless. Those that
        have begun when the caller stops early end with the connection, or by themselves: ``ray.cancel`` may
        end the whole program where a task is just done (ray-project/ray#54260).

        Args:
            func: Function that is importable on every node, and safe to call again with the same task.
            iterable: Tasks that can be pickled.
            chunksize: 1, because tasks are handed out one by one.

        Raises:
            WorkerDiedError: If a task has lost ``max_deaths`` workers.
            ValueError: If ``chunksize`` is not 1.
        """
        if chunksize != 1:
            raise WrongValueError(f"chunksize is {chunksize}; expected 1")
        run = self._remote()
        surroundings = _Surroundings(os.getcwd(), tuple(sys.path), LOG.level)
        initializer = pickle.dumps(self._initializer)
        fresh = map(Task, iterable)
        lost: deque[Task] = deque()
        pending: dict[Any, Task] = {}
        while True:
            for task in self._drawn(fresh, lost, len(pending)):
                payload = pickle.dumps((func, task.argument))
                pending[run.remote(surroundings, initializer, payload)] = task
            if not pending:
                return
            ready, _ = self._ray.wait(list(pending), num_returns=1)
            task = pending.pop(ready[0])
            try:
                done, result = self._ray.get(ready[0])
            except self._deaths as error:
                task.lose(*_told(error), max_deaths=self._max_deaths, on_death=self._on_death, remedy=_REMEDY)
                lost.append(task)
                continue
            if not done:
                raise result
            yield result

    def _remote(self) -> Any:
        """The function that a worker runs, with what it reserves and the environment that it starts in."""
        variables = dict.fromkeys(THREAD_VARIABLES, "1")
        variables |= {name: os.environ[name] for name in _CARRIED if name in os.environ}
        return self._ray.remote(_work).options(
            num_cpus=self._wanted["CPU"],
            num_gpus=self._wanted["GPU"],
            max_retries=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": variables},
        )

    def _drawn(self, fresh: Iterator[Task], lost: deque[Task], pending: int) -> Iterator[Task]:
        """Tasks to hand out now; twice as many as there is room for, so that no worker waits for the next."""
        slots = sum(self._slots(node) for node in self._nodes())
        most = max(2 * slots, 1) if self._workers is None else self._workers
        for _ in range(pending, most):
            task = lost.popleft() if lost else next(fresh, None)
            if task is None:
                return
            yield task

    def _nodes(self) -> list[Mapping[str, float]]:
        """What each node that is alive has."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _slots(self, node: Mapping[str, float]) -> int:
        """Number of workers that a node has room for."""
        return min(
            int(node.get(kind, 0.0) / amount + 1e-6) for kind, amount in self._wanted.items() if amount > 0
        )

    def _check_room(self) -> None:
        nodes = self._nodes()
        if any(self._slots(node) for node in nodes):
            return
        there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
        text = (
            f"no node has room for a worker of {self._wanted['CPU']:g} CPUs and {self._wanted['GPU']:g} GPUs "
            f"(nodes: {there})"
        )
        if self._connected_here and self._address in (None, "local"):
            raise WrongValueError(f"{text}; ask for less per worker")
        remark(f"{text}; waiting for one that has")

    @property
    def _deaths(self) -> tuple[type[Exception], ...]:
        """What Ray raises for a task whose worker or node is gone, or whose result went with its node."""
        errors = self._ray.exceptions
        return (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
            errors.LocalRayletDiedError,
        )


def _ray() -> ModuleType:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingPackageError(
            f"a pool on a Ray cluster needs the extra `ray` ({error}): pip install 'tdm-agents[ray]'"
        ) from error
    module: ModuleType = ray
    return module


def _knock(address: str | None) -> None:
    """Raise at once what Ray finds out after minutes: that nobody listens at ``host:port``.

    Raises:
        OSError: If there is no connection.
        ValueError: If the port is no number.
    """
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def _told(error: Exception) -> tuple[str, str]:
    """Which worker ended, and how, from what Ray says."""
    how = {
        "WorkerCrashedError": "its process was killed or crashed",
        "NodeDiedError": "its node died",
        "LocalRayletDiedError": "its node died",
        "OutOfMemoryError": "its node was out of memory",
    }
    return "a worker on the cluster", how.get(type(error).__name__, "its result was lost with its node")


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What a worker process takes over from the one that draws the tasks, as a child of it would."""

    folder: str
    path: tuple[str, ...]
    level: int


_taken_over: list[bytes] = []
"""The initializer of this worker process, pickled, once it was called."""


def _work(surroundings: _Surroundings, initializer: bytes, task: bytes) -> tuple[bool, Any]:
    """A task, in a worker process, which Ray uses again for other tasks of the same program."""
    return outcome(partial(_done, surroundings, initializer), task)


def _done(surroundings: _Surroundings, initializer: bytes, task: bytes) -> Any:
    if _taken_over != [initializer]:
        LOG.setLevel(surroundings.level)
        if os.path.isdir(surroundings.folder):  # names of files are relative to it; a node may do without
            os.chdir(surroundings.folder)
        sys.path += [folder for folder in surroundings.path if folder not in sys.path]
        if (function := pickle.loads(initializer)) is not None:
            function()
        _taken_over[:] = [initializer]
    func, argument = pickle.loads(task)  # now, because it may need the folders above
    return func(argument)
