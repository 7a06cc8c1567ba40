"""The making of products: each kind of stage as the package's own command does it, in a folder of its own."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tdm_agents.cli.collect_progress import Progress as CollectionProgress
from tdm_agents.cli.train import run as train
from tdm_agents.cli.train_options import Train as TrainCommand
from tdm_agents.collection.collecting import collect
from tdm_agents.collection.collection_check import check
from tdm_agents.collection.pool import Pool
from tdm_agents.evaluation.progress_bar import counting
from tdm_agents.storage import read_json
from tdm_agents.studies.evaluating import evaluate
from tdm_agents.studies.makers import note, noted
from tdm_agents.studies.stage_products import Product
from tdm_agents.studies.stages import Collect, Evaluate, Reinforce, Train
from tdm_agents.training import verdict


@dataclass(frozen=True, slots=True)
class Means:
    """What products are made with; nothing here is part of what they are declared to be.

    Attributes:
        pool: Who plays episodes.
        device: Where models train and plan.
        threads: PyTorch's threads while a model trains.
        console: Where progress is shown.
    """

    pool: Pool
    device: str
    threads: int
    console: Console


def make(product: Product, products: Mapping[str, Product], means: Means) -> None:
    """Collect data or train a model, or go on where that stopped; policies begin again.

    Args:
        product: The product; its inputs are complete.
        products: All products of the study, by name.
        means: What to make it with.

    Raises:
        TDMError: What the package's own commands refuse; an adopted folder, for example, that holds something
            else than what was declared.
        SystemExit: On Ctrl-C during training, with code 130.
    """
    began = time.monotonic()
    note(product.folder, means.device)
    stage = product.stage
    if isinstance(stage, Reinforce):
        result = _reinforce(stage, product, means)
    elif isinstance(stage, Collect):
        result = _collect(stage, product, products, means)
    else:
        assert isinstance(stage, Train)
        result = _train(stage, product, products, means)
    product.finish(result, seconds=time.monotonic() - began, makers=noted(product.folder))


def play(evaluations: Sequence[Product], products: Mapping[str, Product], means: Means) -> None:
    """Play the matches of evaluations, side by side.

    Args:
        evaluations: Their products; what they need is complete.
        products: All products of the study, by name.
        means: What to play them with.

    Raises:
        TDMError: If a contestant cannot play; what others reached is kept.
    """
    folders = {
        name: data_path(product) if isinstance(product.stage, Collect) else product.files
        for name, product in products.items()
    }
    total = sum(len(product.stage.envs) for product in evaluations if isinstance(product.stage, Evaluate))
    with counting(total, means.console) as count:
        evaluate(
            evaluations,
            folders,
            device=means.device,
            pool=means.pool,
            watch=lambda played: count(played.job.product),
        )


def train_command(
    stage: Train, product: Product, products: Mapping[str, Product], means: Means
) -> TrainCommand:
    """The ``tdm train`` that makes a model."""
    recipe = stage.recipe
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in recipe.settings.items()}
    return TrainCommand(
        data=tuple(data_path(products[name], stage.only) for name in stage.data),
        out=product.files,
        model=recipe.model,
        preset=recipe.preset,
        model_settings=texts,
        action_repeat=recipe.action_repeat,
        init_from=None if stage.init_from is None else products[stage.init_from].files,
        held_out_fraction=recipe.held_out_fraction,
        data_seed=recipe.data_seed,
        device=means.device,
        known_reward=recipe.known_reward,
        suit_sizes=False,  # a study's settings are what it was published with
        planner=recipe.planner,
        training=replace(recipe.training, threads=means.threads),
    )


def data_path(product: Product, only: str | None = None) -> Path:
    """The path of a collection, or of one data set of it, as trainings and prompts read it."""
    if only is not None:
        return product.files / only / "data"
    assert isinstance(product.stage, Collect)
    return product.files if product.stage.datasets[0].name else product.files / "data"


def _reinforce(stage: Reinforce, product: Product, means: Means) -> dict[str, Any]:
    # imported here: Stable-Baselines3 is heavy to import, and few studies need it
    from tdm_agents.experts.reinforcement import Training
    from tdm_agents.experts.training_jobs import TrainingJob, train_job

    product.files.mkdir(parents=True, exist_ok=True)
    training = Training(
        env=stage.env,
        algorithm=stage.algorithm,
        settings=stage.settings,
        steps=stage.steps,
        num_envs=1,
        evaluate_every=stage.evaluate_every,
        seed=stage.seed,
        record=True,
    )
    job = TrainingJob(training, product.files, product.files, threads=means.threads)
    with counting(stage.steps // stage.evaluate_every, means.console, "learning") as count:
        trained = train_job(job, watch=lambda found: count(f"mean return {found.mean_return:.1f}"))
    return {"returns": [[one.steps, one.mean_return] for one in trained.found]}


def _collect(
    stage: Collect, product: Product, products: Mapping[str, Product], means: Means
) -> dict[str, Any]:
    datasets = stage.filled({name: shlex.quote(str(products[name].files)) for name in stage.needs})
    counts: Counter[str] = Counter()
    for dataset in check(datasets, product.files):
        counts.update(dataset.counts)
    progress = CollectionProgress(counts, clock=time.monotonic)
    # what was adopted may be complete, with nothing to show
    with progress.live(means.console) if counts else nullcontext():
        collect(datasets, product.files, pool=means.pool, watch=progress.add)
    return {"episodes": sum(sum(one.counts.values()) for one in datasets)}


def _train(stage: Train, product: Product, products: Mapping[str, Product], means: Means) -> dict[str, Any]:
    train(train_command(stage, product, products, means), console=means.console)
    verdicts = read_json(product.files / verdict.VERDICT_FILE, schema=verdict.SCHEMA)["environments"]
    return {"prediction_errors": {env: found["errors"] for env, found in verdicts.items()}}
