"""Measures a scenario: everybody's decision in turn, beside the floor and the roofline of the same run."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speed.clock import (
    Imagined,
    copy_bytes_per_second,
    product_flops_per_second,
    time_decision,
)
from speed.contestants import (
    CAPTURED,
    OTHERS,
    Decide,
    decide_as,
    rows_that_fit,
    why_left_out,
)
from speed.floor import linear_seconds
from speed.memory import decision_bytes
from speed.models import random_model, with_rounds
from speed.roofline import DecisionShape, decision_cost
from speed.scenarios import Scenario
from speed.tensor_bytes import TensorBytes
from tdm_agents.evaluation.as_json import plain
from tdm_agents.evaluation.report import provenance

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""By name."""
_COPIED_MEGABYTES = {"cpu": 256, "cuda": 4096}
_SQUARE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How a scenario is measured.

    Attributes:
        repeats: Decisions of everybody, in turn; medians count.
        seconds: After which a decision is cut.
        rounds: Of parallel decoding, imposed on random weights, an average; at most ``n`` of them.
        memory: Bytes for a decision. The package splits its candidates to keep to it; others are left out.
    """

    repeats: int
    seconds: float
    rounds: float
    memory: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What the machine reached in this run.

    Attributes:
        linear_flops_per_second: In the linear layers of the decision.
        square_flops_per_second: In a product of large square matrices.
        copy_bytes_per_second: Read and written by a copy.
    """

    linear_flops_per_second: float
    square_flops_per_second: float
    copy_bytes_per_second: float


def measure(scenario: Scenario, dtype: str, *, device: torch.device, effort: Effort) -> dict[str, Any]:
    """One row of the results, a JSON value.

    Args:
        scenario: The decision, and who makes it.
        dtype: Of :data:`DTYPES`.
        device: Where.
        effort: How thoroughly.

    Raises:
        ImportError: If ``transformers`` takes part and is not installed.
    """
    shape, kind, on_cpu = scenario.shape, DTYPES[dtype], device.type == "cpu"
    rounds = min(effort.rounds, float(shape.observation_dim))
    model = random_model(shape, device=device, dtype=kind)
    weights = sum(weight.nbytes for weight in model.network.parameters())
    square = product_flops_per_second(device, kind, size=_SQUARE[device.type], repeats=effort.repeats)
    everybody: dict[str, Decide] = {}
    known: dict[str, dict[str, int]] = {}
    left_out: dict[str, str] = {}
    for name in scenario.contestants:
        if name in CAPTURED and device.type != "cuda":
            continue
        why = why_left_out(
            name,
            shape,
            number_bytes=kind.itemsize,
            memory=effort.memory,
            seconds=2 * effort.seconds,
            flops_per_second=square,
        )
        if why is not None:
            left_out[name] = why
            continue
        share = len(CAPTURED) if name in CAPTURED else 1  # their buffers stay
        rows = rows_that_fit(
            name,
            shape,
            number_bytes=kind.itemsize,
            memory=effort.memory // share,
            on_cpu=on_cpu,
        )
        if name in CAPTURED and rows < shape.rows and shape.batch > 1:
            left_out[name] = "is for whole batches, for which there is no memory"
            continue
        weighed = with_rounds(model, rounds) if name == "parallel" else model
        everybody[name] = decide_as(name, weighed, shape, max_rows=rows)
        # also the first run, which does not count
        peak = peak_bytes(everybody[name](), device, at_most=effort.seconds / 2)
        known[name] = {"peak_bytes": weights + peak} | ({} if name in OTHERS else {"rows_at_once": rows})
    floors: list[float] = []
    timed: dict[str, list[Imagined]] = {name: [] for name in everybody}
    for _ in range(effort.repeats):
        floors.append(linear_seconds(model, shape, repeats=effort.repeats))
        for name, decide in everybody.items():
            timed[name].append(time_decision(decide(), device, at_most=effort.seconds))
    floor = statistics.median(floors)
    megabytes = _COPIED_MEGABYTES[device.type]
    rates = Rates(
        linear_flops_per_second=decision_cost(shape).linear_flops / floor,
        square_flops_per_second=square,
        copy_bytes_per_second=copy_bytes_per_second(device, megabytes=megabytes, repeats=effort.repeats),
    )
    limits = {
        "sequential": limits_of(shape, None, rates, kind.itemsize, on_cpu=on_cpu),
        "parallel": limits_of(shape, rounds, rates, kind.itemsize, on_cpu=on_cpu),
    }
    contestants = {
        name: summary(scenario, taken, floor=floor, limit=limits.get(name, limits["sequential"]))
        | known[name]
        for name, taken in timed.items()
    }
    return {
        "scenario": scenario.name,
        "dtype": dtype,
        "shape": plain(shape),
        "control_seconds": scenario.control_seconds,
        "rounds": rounds,
        "floor_seconds": floor,
        "rates": plain(rates),
        "limits": limits,
        "contestants": contestants,
        "left_out": left_out,
        "load_average": os.getloadavg(),
        "provenance": provenance(),
    }


def limits_of(
    shape: DecisionShape, rounds: float | None, rates: Rates, number_bytes: int, *, on_cpu: bool
) -> dict[str, float]:
    """What a decision needs by formula: forwards, seconds of the roofline and of the call floor, bytes.

    Args:
        shape: Of the decision.
        rounds: Of parallel decoding; None for one scalar after another.
        rates: The roofline takes those of the linear layers, the call floor those of a large product.
        number_bytes: Size of a number.
        on_cpu: Whether it is made there.
    """
    cost = decision_cost(shape, rounds=rounds)
    memory: dict[str, Any] = {
        "bytes_per_second": rates.copy_bytes_per_second,
        "number_bytes": number_bytes,
    }
    needed = decision_bytes(shape, parallel=rounds is not None, on_cpu=on_cpu, number_bytes=number_bytes)
    return {
        "forwards": cost.forwards,
        "roofline_seconds": cost.seconds(flops_per_second=rates.linear_flops_per_second, **memory),
        "call_floor_seconds": cost.call_floor_seconds(
            flops_per_second=rates.square_flops_per_second, **memory
        ),
        "formula_bytes": needed.total,
    }


def summary(
    scenario: Scenario, timed: list[Imagined], *, floor: float, limit: dict[str, float]
) -> dict[str, Any]:
    """What a contestant's decisions come to; medians over them.

    Args:
        scenario: The decision.
        timed: Repetitions. Where they were cut, what they took is scaled to a whole decision: too little,
            because later steps read more keys and values. Shares that depend on these are null then.
        floor: Seconds of the linear layers alone, one scalar after another.
        limit: With ``roofline_seconds`` and ``call_floor_seconds`` of its own forwards.

    Returns:
        ``seconds`` (a decision, each repetition), ``whole`` (whether none was cut), tokens, transitions and
        decisions per second, ``times_real_time`` (the environment's time between decisions over the time
        until all ``B`` are made) and shares (of 1): ``of_floor``, ``of_roofline``, ``of_call_floor``.
    """
    shape = scenario.shape
    seconds = [one.seconds * shape.transitions / one.transitions for one in timed]
    whole = all(one.transitions == shape.transitions for one in timed)
    median = statistics.median(seconds)
    return {
        "seconds": seconds,
        "whole": whole,
        "tokens_per_second": shape.tokens / median,
        "transitions_per_second": shape.transitions / median,
        "decisions_per_second": shape.batch / median,
        "times_real_time": scenario.control_seconds / median,
        "of_floor": floor / median,
        "of_roofline": limit["roofline_seconds"] / median if whole else None,
        "of_call_floor": limit["call_floor_seconds"] / median if whole else None,
    }


def peak_bytes(steps: Iterable[Tensor], device: torch.device, *, at_most: float) -> int:
    """The most bytes of tensors at once while a decision is imagined, beyond those that were there before.

    On a GPU what the allocator has given out, elsewhere a count of tensors.

    Args:
        steps: Of the decision.
        device: Where.
        at_most: Seconds after which it is cut.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before: int = torch.cuda.memory_allocated(device)
        time_decision(steps, device, at_most=at_most)
        most: int = torch.cuda.max_memory_allocated(device)
        return most - before
    counter = TensorBytes()
    with counter:
        time_decision(steps, device, at_most=at_most)
    return counter.peak
