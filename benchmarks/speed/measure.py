"""Measurement of a scenario: the contestants' decisions in turn, with the floor and roofline of the run."""

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
"""Types by name."""
_COPIED_MEGABYTES = {"cpu": 256, "cuda": 4096}
_SQUARE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The effort with which a scenario is measured.

    Attributes:
        repeats: Decisions per contestant, in turn; medians count.
        seconds: Seconds after which a decision is cut.
        rounds: Average rounds of parallel decoding, imposed on random weights, at most ``n``.
        memory: Bytes for a decision. The package splits its candidates to keep to it; others are left out.
    """

    repeats: int
    seconds: float
    rounds: float
    memory: int


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates that the machine reached in this run.

    Attributes:
        linear_flops_per_second: FLOPs per second in the linear layers of the decision.
        square_flops_per_second: FLOPs per second in a product of large square matrices.
        copy_bytes_per_second: Bytes per second read and written by a copy.
    """

    linear_flops_per_second: float
    square_flops_per_second: float
    copy_bytes_per_second: float


def measure(scenario: Scenario, dtype: str, *, device: torch.device, effort: Effort) -> dict[str, Any]:
    """One row of the results, a JSON value.

    Args:
        scenario: The decision, and who makes it.
        dtype: A name in :data:`DTYPES`.
        device: Device to compute on.
        effort: The effort.

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
        share = len(CAPTURED) if name in CAPTURED else 1  # their buffers stay allocated
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
        # this is also the first run, which does not count
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
    """The needs of a decision by formula: forwards, seconds of the roofline and of the call floor, bytes.

    Args:
        shape: Shape of the decision.
        rounds: Rounds of parallel decoding; None for one scalar after another.
        rates: Rates of the machine; the roofline uses that of the linear layers, the call floor that of a
            large product.
        number_bytes: Size of a number.
        on_cpu: Whether the decision is made on a CPU.
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
    """The results of a contestant's decisions, as medians over them.

    Args:
        scenario: The decision.
        timed: Repetitions. Where they were cut, their time is scaled to a whole decision. That is too little,
            because later steps read more keys and values, so shares that depend on it are null.
        floor: Seconds of the linear layers alone, one scalar after another.
        limit: The ``roofline_seconds`` and ``call_floor_seconds`` of its own forwards.

    Returns:
        ``seconds`` (per decision, of each repetition), ``whole`` (whether none was cut), tokens, transitions
        and decisions per second, ``times_real_time`` (the environment's time between decisions over the time
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
    """The peak of tensor bytes while a decision is imagined, beyond those that existed before.

    On a GPU it is what the allocator has given out, elsewhere a count of tensors.

    Args:
        steps: Steps of the decision.
        device: Device to compute on.
        at_most: Seconds after which the decision is cut.
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
