"""How far a product is that is not complete."""

from __future__ import annotations

import math

from tdm_agents.comparison.matches import PARTS_FOLDER
from tdm_agents.studies.stage_products import Product
from tdm_agents.studies.stages import Collect, Reinforce, Train
from tdm_agents.training import run_state


def share_done(product: Product) -> float:
    """The share of a product's episodes or updates that is there, from 0 to 1.

    Raises:
        CheckpointError: If the checkpoint of a training was altered.
    """
    stage, files = product.stage, product.files
    if product.done:
        return 1.0
    if isinstance(stage, Reinforce):
        return 0.0  # it begins again
    if isinstance(stage, Collect):
        there = wanted = 0
        for dataset in stage.datasets:
            episodes = sum(dataset.counts.values())
            wanted += episodes
            there += (
                episodes
                if dataset.data(files).exists()
                else sum(1 for _ in dataset.shards(files).glob("*.safetensors"))
            )
        return there / wanted
    if isinstance(stage, Train):
        return run_state.step_of(files) / stage.recipe.training.steps if run_state.exists(files) else 0.0
    parts = len(stage.envs) * math.ceil(stage.protocol.episodes / stage.protocol.batch)
    return min(1.0, sum(1 for _ in (files / PARTS_FOLDER).glob("*.json")) / parts)
