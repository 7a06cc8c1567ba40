"""Trainings of a study side by side, each in a worker process.

A worker that is stopped keeps what it has learned, as a training in this process does, and one that is killed
goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from tdm_agents.collection.pool import WorkerPool
from tdm_agents.evaluation.progress_bar import counting
from tdm_agents.storage import make_folder
from tdm_agents.studies.making import Means, make
from tdm_agents.studies.stage_products import Product
from tdm_agents.studies.stages import Collect, Evaluate

LOG_FILE = "log.txt"
"""In a product's folder, what its training said."""


@dataclass(frozen=True, slots=True)
class MakeJob:
    """A product to be made in a worker.

    Attributes:
        product: The product; its inputs are complete.
        needs: Its inputs, by name.
        device: Where it trains.
        threads: PyTorch's threads.
    """

    product: Product
    needs: Mapping[str, Product]
    device: str
    threads: int

    def __str__(self) -> str:
        return self.product.stage.name


def make_job(job: MakeJob) -> str:
    """Make a product, and say its name.

    Raises:
        TDMError: What :func:`tdm_agents.studies.making.make` refuses.
    """
    make_folder(job.product.folder)
    with (job.product.folder / LOG_FILE).open("a") as log:
        console = Console(file=log, width=110)
        # a training needs no pool, and this one starts nobody
        make(job.product, job.needs, Means(WorkerPool(), job.device, job.threads, console))
    return str(job)


def is_training(product: Product) -> bool:
    """Whether it can be made beside others: collections play their episodes side by side already."""
    return not isinstance(product.stage, Collect | Evaluate)


class _Due(Iterator[MakeJob]):
    """Trainings whose inputs are complete; it ends where there is none, and goes on once there is."""

    def __init__(self, trainings: Sequence[Product], products: Mapping[str, Product], means: Means) -> None:
        self._left, self._products, self._means = list(trainings), products, means

    def __next__(self) -> MakeJob:
        for product in self._left:
            needs = {name: self._products[name] for name in product.stage.needs}
            if all(needed.done for needed in needs.values()):
                self._left.remove(product)
                return MakeJob(product, needs, self._means.device, self._means.threads)
        raise StopIteration


def train_side_by_side(trainings: Sequence[Product], products: Mapping[str, Product], means: Means) -> None:
    """Make trainings in the pool, each as soon as its inputs are complete.

    Args:
        trainings: Their products, which need nothing that is missing but each other.
        products: All products of the study, by name.
        means: What to make them with.

    Raises:
        TDMError: If one is refused; the others keep what they have learned.
    """
    logs = ", ".join(str(product.folder / LOG_FILE) for product in trainings)
    means.console.print(f"what they say is in {logs}", soft_wrap=True, markup=False)
    with counting(len(trainings), means.console, "training") as count:
        for name in means.pool.imap_unordered(make_job, _Due(trainings, products, means)):
            count(name)
