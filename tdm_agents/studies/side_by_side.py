"""Trainings of a study side by side, each in a worker process.

A worker that is stopped keeps what it has learned, as a training in this process does, and one that is killed
goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def train_side_by_side(trainings: Sequence[Product], products: Mapping[str, Product], means: Means) -> None:
    """Make trainings whose inputs are complete, in the pool.

    Args:
        trainings: Their products.
        products: All products of the study, by name.
        means: What to make them with.

    Raises:
        TDMError: If one is refused; the others keep what they have learned.
    """
    jobs = [
        MakeJob(product, {name: products[name] for name in product.stage.needs}, means.device, means.threads)
        for product in trainings
    ]
    logs = ", ".join(str(product.folder / LOG_FILE) for product in trainings)
    means.console.print(f"what they say is in {logs}", soft_wrap=True, markup=False)
    with counting(len(jobs), means.console, "training") as count:
        for name in means.pool.imap_unordered(make_job, jobs):
            count(name)
