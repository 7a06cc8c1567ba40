"""From windows of several environments to tokens: noise, tokenizers, weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tdm_agents.protocols import Batch, MixedBatch, Rows
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.dropout import window_seeds
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.packing import Windows
from tdm_agents.world_models.transformer.targets import Part, counts_of, environment_counts, token_batch
from tdm_agents.world_models.transformer.token_batch import TokenBatch, step_tokens
from tdm_agents.world_models.transformer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Reading:
    """How the windows of an environment become tokens.

    Attributes:
        tokenizer: Its tokenizer.
        layout: Layout of its steps.
        context_steps: Number of steps that a token sees, its own included.
        terminates: Whether its episodes end by themselves.
        alike: Equal for environments whose numbers become the same tokens.
    """

    tokenizer: Tokenizer
    layout: StepLayout
    context_steps: int
    terminates: bool
    alike: object


@dataclass(frozen=True, slots=True)
class Preparation:
    """Turns batches into tokens; see :class:`tdm_agents.protocols.Prepares`.

    Attributes:
        readings: The environments, by name, in the order of ``MixedBatch.counts``.
        config: Settings of the transformer.
        pads: Whether attention shall pad windows to one length.
    """

    readings: Mapping[str, Reading]
    config: TransformerConfig
    pads: bool

    def on_cpu(self) -> Preparation:
        """One that needs nothing of another device, for other processes."""
        tokenizers: dict[int, Tokenizer] = {}
        for of in self.readings.values():
            tokenizers.setdefault(id(of.tokenizer), copy.deepcopy(of.tokenizer).cpu())
        found = {n: replace(of, tokenizer=tokenizers[id(of.tokenizer)]) for n, of in self.readings.items()}
        return replace(self, readings=found)

    def __call__(self, batch: Batch | MixedBatch, *, generator: torch.Generator | None) -> TokenBatch:
        """The tokens of a batch.

        Args:
            batch: Windows; a plain batch where there is a single environment.
            generator: Source of the reward dropout and of the dropout of the network; None: there is neither.
        """
        batch = self._mixed(batch)
        noisy = {name: self._noisy(part, generator) for name, part in batch.parts.items()}
        rate, seeds = 0.0 if generator is None else self.config.dropout, {}
        if generator is not None and rate:
            seeds = {name: window_seeds(part, generator) for name, part in batch.parts.items()}
        # what is read together needs no operations of its own, of which there would be hundreds
        groups: dict[object, list[str]] = {}
        for name, part in batch.parts.items():
            if len(part.reward):  # a micro-batch may lack some
                steps = part.reward.shape[1]
                groups.setdefault((self.readings[name].alike, steps), []).append(name)
        parts = [self._part(batch, noisy, seeds, names) for names in groups.values()]
        names = [name for of_group in groups.values() for name in of_group]
        weight = self.config.action_weight
        if batch.counts is None:
            counts = torch.cat([environment_counts(part) for part in parts])
            return token_batch(parts, action_weight=weight, counts=counts, pads=self.pads, dropout=rate)
        windows, places = batch.counts[:, 0], list(self.readings)
        ends = [place for place, of in enumerate(self.readings.values()) if of.terminates]
        of_batch = windows.sum(), windows[ends].sum() if ends else None
        counts = batch.counts[[places.index(name) for name in names]]
        return token_batch(
            parts, action_weight=weight, counts=counts, of_batch=of_batch, pads=self.pads, dropout=rate
        )

    def counts(self, batch: Batch | MixedBatch) -> Tensor:
        """What the loss of each environment divides by, ``[E, 5]``; see :func:`.targets.counts_of`."""
        parts = self._mixed(batch).parts
        whole = next(iter(self.readings.values())).layout.whole
        found = torch.stack([counts_of(part, whole=whole).sum(0) for part in parts.values()])
        places = list(self.readings)
        counts = found.new_zeros((len(places), found.shape[1]))
        counts[[places.index(name) for name in parts]] = found
        return counts

    def _mixed(self, batch: Batch | MixedBatch) -> MixedBatch:
        """The batch as one of several environments."""
        if isinstance(batch, MixedBatch):
            return batch
        (only,) = self.readings
        counts = None if batch.counts is None else batch.counts.view(1, -1)
        return MixedBatch({only: batch}, counts)

    def _noisy(self, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """The rewards ``[B, T]`` that are read."""
        if generator is None:
            return batch.reward
        return drop_rewards(batch.reward, self.config.reward_dropout, generator, batch.rows)

    def _part(
        self,
        batch: MixedBatch,
        rewards: Mapping[str, Tensor],
        seeds: Mapping[str, Tensor],
        names: list[str],
    ) -> Part:
        """Windows of environments whose tokens are the same."""
        of = self.readings[names[0]]
        several = [batch.parts[name] for name in names]
        joined = several[0] if len(several) == 1 else Batch.joined(several)
        reward = torch.cat([rewards[name] for name in names])
        tokens = step_tokens(of.tokenizer, joined.observation, reward, joined.action)
        return Part(
            windows=Windows(tokens, of.layout, of.context_steps),
            batch=joined,
            tokenizer=of.tokenizer,
            terminates=of.terminates,
            sizes=tuple(len(part.reward) for part in several),
            seeds=torch.cat([seeds[name] for name in names]).tolist() if seeds else (),
        )


def drop_rewards(
    reward: Tensor, most: float, generator: torch.Generator | None, rows: Rows | None = None
) -> Tensor:
    """Replace rewards ``[B, T]`` by NaN (NONE), at a rate of ``most * U(0, 1)`` per window.

    Args:
        reward: The rewards.
        most: Highest rate.
        generator: Source of the draws.
        rows: Which windows of a batch these are, where they are a micro-batch; the draws are the batch's.
    """
    if most == 0.0:
        return reward
    device = reward.device if generator is None else generator.device
    count = reward.shape[0] if rows is None else rows.of
    rate = most * torch.rand((count, 1), generator=generator, device=device, dtype=torch.float32)
    shape = (count, reward.shape[1])
    drop = torch.rand(shape, generator=generator, device=device, dtype=torch.float32) < rate
    drop = drop if rows is None else rows.take(drop)
    return reward.masked_fill(drop.to(reward.device), float("nan"))
