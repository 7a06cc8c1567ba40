"""The running of a study: what is missing is made, in order, and then reported; the same call goes on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from tdm_agents.collection.pool import Pool
from tdm_agents.errors import PathTakenError, TDMError, WrongValueError
from tdm_agents.storage import foreign_file, locked
from tdm_agents.studies import study_report
from tdm_agents.studies.entry_text import named
from tdm_agents.studies.making import Means, make, play
from tdm_agents.studies.side_by_side import is_training, train_side_by_side
from tdm_agents.studies.stage_products import PRODUCTS_FOLDER, Product, products_of
from tdm_agents.studies.stages import Collect, Evaluate, Plan, Reinforce, Size, Study, Train


@dataclass(frozen=True, slots=True)
class Opened:
    """A study at one size, in a folder.

    Attributes:
        study: The study.
        size: Its size.
        plan: Its stages.
        out: Folder of the products, which studies may share.
        products: The products, by the names of their stages.
    """

    study: Study
    size: Size
    plan: Plan
    out: Path
    products: Mapping[str, Product]

    @property
    def folder(self) -> Path:
        """Folder of the report."""
        return self.out / f"{self.study.name}-{self.size}"

    @property
    def missing(self) -> list[Product]:
        """Products that are not complete, in the order in which they are made."""
        return [product for product in self.products.values() if not product.done]

    @property
    def progress(self) -> str:
        """How many products are complete, in words."""
        total = len(self.products)
        return f"{total - len(self.missing)} of {total} products are complete"

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.missing and study_report.is_reported(self.folder, self._key)

    @property
    def _key(self) -> str:
        return study_report.report_key(self.plan, self.products)


def opened(study: Study, size: Size, out: Path) -> Opened:
    """A study in a folder; nothing is written.

    Raises:
        PathTakenError: If the folder holds something else.
        TDMError: If the study names a model, preset or setting that does not exist.
    """
    if not (out / PRODUCTS_FOLDER).exists() and (found := foreign_file(out)) is not None:
        raise PathTakenError(
            f"--out {out} holds {found!r} and no study; choose another folder, or empty this one"
        )
    plan = study.plan(size)
    return Opened(study, size, plan, out, products_of(plan.stages, out))


def adoptable(one: Opened, name: str, folder: Path) -> Product:
    """The product that a folder of `tdm collect` or `tdm train` is to be; nothing is written.

    Raises:
        LookupError: If the study has no such product.
        ValueError: If it is of another kind, or there is no such folder.
    """
    product = named(f"product of {one.study.name}", name, one.products)
    if not isinstance(product.stage, Collect | Train):
        raise WrongValueError(
            f"{name} is {'an evaluation' if product.kind == 'returns' else 'a policy'}, which is made here; "
            "expected the name of data or of a model"
        )
    if not folder.is_dir():
        raise WrongValueError(f"{folder} is not a folder; expected one of `tdm collect` or `tdm train`")
    return product


def run(
    one: Opened,
    *,
    adopted: Mapping[str, Path],
    hands: AbstractContextManager[Pool],
    device: str,
    threads: int,
    console: Console,
    side_by_side: bool = False,
) -> Path:
    """Make what is missing of a study and write its report.

    Args:
        one: The study.
        adopted: Folders of `tdm collect` or `tdm train` to adopt, by the names of products. A stage refuses
            one that has other settings when it goes on in it.
        hands: The pool that plays episodes, not yet opened.
        device: Where models train and plan.
        threads: PyTorch's threads while a model trains.
        console: Where progress is shown.
        side_by_side: Whether the pool also makes trainings that do not need each other, side by side.

    Returns:
        The folder of the report.

    Raises:
        FolderInUseError: If another process works in the folder.
        TDMError: If a stage refuses something, such as an adopted folder with other settings.
        SystemExit: On Ctrl-C during training, with code 130.
    """
    adoptions = [(adoptable(one, name, folder), folder) for name, folder in adopted.items()]
    with locked(one.out), hands as pool:
        means = Means(pool=pool, device=device, threads=threads, console=console)
        linked: list[Product] = []
        try:
            for product, folder in adoptions:
                if product.adopt(folder):
                    linked.append(product)
            while ready := _ready(one, adopted, side_by_side=side_by_side):
                names = ", ".join(f"{product.stage.name} ({product.kind})" for product in ready)
                console.rule(f"{one.progress}: {names}", align="left")
                if len(ready) > 1:
                    train_side_by_side(ready, one.products, means)
                else:
                    make(ready[0], one.products, means)
        except TDMError:
            for product in linked:
                if not product.done:  # nothing has checked it yet, or what did refused it
                    product.disown()
            raise
        # what two contestants have in common is played once
        if evaluations := list({product.key: product for product in one.missing}.values()):
            console.rule(f"{one.progress}: the others are played", align="left")
            play(evaluations, one.products, means)
        study_report.write(one.folder, one.study.name, one.size, one.plan, one.products)
    return one.folder


def report_so_far(one: Opened) -> Path:
    """Write the report of the evaluations that are complete, also while another process makes the rest.

    Whoever's reference is not complete has no scale in it.

    Returns:
        The folder of the report.

    Raises:
        WrongValueError: If none is complete.
    """
    complete = {name for name, product in one.products.items() if product.done}
    stages = tuple(
        replace(stage, reference=None)
        if isinstance(stage, Evaluate) and stage.reference not in complete
        else stage
        for stage in one.plan.stages
        if stage.name in complete
    )
    if not any(isinstance(stage, Evaluate) for stage in stages):
        raise WrongValueError(f"nobody has played yet in {one.out}; run the study, and ask again later")
    # the key of this report is not that of the whole one, which is therefore still to be made
    products = {stage.name: one.products[stage.name] for stage in stages}
    plan = replace(one.plan, stages=stages)
    missing = [s for s in one.plan.stages if isinstance(s, Evaluate) and s.name not in products]
    study_report.write(one.folder, one.study.name, one.size, plan, products, missing=missing)
    return one.folder


def _ready(one: Opened, adopted: Mapping[str, Path], *, side_by_side: bool) -> list[Product]:
    """What is to be made next: one product, or several trainings that do not need each other.

    Nothing is made of evaluations: they come last, where all their matches can be played side by side.
    """
    missing = [product for product in one.missing if not isinstance(product.stage, Evaluate)]
    if not side_by_side:
        return missing[:1]  # in the declared order, each comes after what it needs
    ready = [product for product in missing if all(one.products[name].done for name in product.stage.needs)]
    here = [product for product in ready if not is_training(product) or product.stage.name in adopted]
    return here[:1] or _trainings(one, [product for product in missing if product.stage.name not in adopted])


def _trainings(one: Opened, missing: list[Product]) -> list[Product]:
    """Those of what is missing that are trainings and need nothing else of it but each other, policies first.

    A policy cannot be made in parts, and others wait for it.
    """
    found: dict[str, Product] = {}
    for product in missing:  # each comes after what it needs
        needs = [one.products[name] for name in product.stage.needs]
        if is_training(product) and all(needed.done or needed.key in found for needed in needs):
            found[product.key] = product
    return sorted(found.values(), key=lambda product: not isinstance(product.stage, Reinforce))
