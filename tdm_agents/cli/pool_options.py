"""The options that say who does the work: processes on this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tdm_agents.cli.checks import at_least
from tdm_agents.errors import WrongValueError

if TYPE_CHECKING:
    from rich.console import Console

    from tdm_agents.collection.pool import Pool, WorkerDeath


@dataclass(frozen=True)
class PoolOptions:
    """Who does the work, which changes nothing in the results."""

    workers: int | None = None
    """Number of processes, of one thread each; at most as many as there are idle cores. If not given 1, or
    with --pool ray as many as the cluster has room for."""
    pool: Literal["local", "ray"] = "local"
    """`local`: processes on this machine; `ray`: a Ray cluster (the extra `ray`), whose nodes see the same
    files under the same paths."""
    address: str | None = None
    """HOST:PORT of the cluster; if not given RAY_ADDRESS, or the one that runs on this machine, or one that
    is started here and ends with the command."""
    cpus_per_worker: float | None = None
    """Cores that each worker reserves on the cluster; 1 if not given."""
    gpus_per_worker: float | None = None
    """GPUs that each worker reserves on the cluster, such as 0.25; 0 if not given."""

    @property
    def processes(self) -> int:
        """Number of processes on this machine."""
        return self.workers or 1

    @property
    def side_by_side(self) -> bool:
        """Whether other processes than this one are to work."""
        return self.pool != "local" or self.processes > 1

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ValueError: If there are no workers, or an option is of another pool.
        """
        at_least(1, workers=self.workers)
        for name in ("address", "cpus_per_worker", "gpus_per_worker"):
            if self.pool == "local" and getattr(self, name) is not None:
                raise WrongValueError(
                    f"--{name.replace('_', '-')} is of a cluster; pass --pool ray too, or leave it out"
                )

    def opened(
        self,
        initializer: Callable[[], None],
        on_death: Callable[[WorkerDeath], None],
    ) -> AbstractContextManager[Pool]:
        """The pool, to be used in ``with``.

        Args:
            initializer: Called in every new worker process; importable.
            on_death: Called for every worker that died.

        Raises:
            ImportError: If Ray is asked for and not installed.
            ValueError: If a number makes no sense.
        """
        if self.pool == "local":
            from tdm_agents.collection.pool import WorkerPool

            return WorkerPool(self.processes, initializer, on_death=on_death)
        from tdm_agents.collection.ray_pool import RayPool

        return RayPool(
            self.address,
            workers=self.workers,
            cpus_per_worker=1.0 if self.cpus_per_worker is None else self.cpus_per_worker,
            gpus_per_worker=0.0 if self.gpus_per_worker is None else self.gpus_per_worker,
            initializer=initializer,
            on_death=on_death,
        )


Hands = Annotated[PoolOptions, tyro.conf.arg(name="")]
"""The type of the field that has them, without a prefix."""


def telling(console: Console) -> Callable[[WorkerDeath], None]:
    """A function that tells of a worker's death on a console, above what is live there."""
    return lambda death: console.print(str(death), style="yellow", markup=False, soft_wrap=True)
