"""The contract that every planner keeps, checked on the closed-form linear-quadratic model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tdm_agents.agent.memory import carry_flaw
from tdm_agents.protocols import (
    History,
    Plan,
    Planner,
    looped_rollout,
)
from tdm_agents.testing.linear_quadratic import LinearQuadraticModel
from tdm_agents.testing.recorder import Recorded, Recorder

PlannerFactory = Callable[..., Planner]

_HORIZON = 6
_STARTS = torch.tensor(
    [[0.6, 0.1], [-0.5, 0.0], [0.3, -0.4]], device="cpu", dtype=torch.float32
)  # the optimum stays inside the bounds


def check_planner(
    make: PlannerFactory,
    *,
    settings: Mapping[str, Any] | None = None,
    noise: str | None = None,
    quiet_and_noisy: tuple[float, float] = (0.1, 1.0),
    search: Mapping[str, Any] | None = None,
    fraction: float = 0.9,
    model: LinearQuadraticModel | None = None,
    draws: bool = True,
    compares: bool = True,
) -> None:
    """Assert that a planner keeps the contract.

    These are checked: it is a frozen dataclass; shapes, dtypes and bounds are right, and the action is the
    first of the sequence; the same seed gives the same plan, and another seed another; the state it is given
    stays usable; more noise widens the candidates; ``iterations`` (where it has that setting) is the number
    of rollouts; a row whose value is NaN is never chosen, and is counted where ``stats`` has ``non_finite``;
    if all rows of an environment are NaN, the error names that environment; its memory is None or a dataclass
    of tensors with a leading ``B``; only environments with ``elapsed`` 0 forget, and the others stay as they
    were; the optimum of the linear-quadratic model is found.

    Args:
        make: The planner's class, called with ``horizon`` and other settings by keyword.
        settings: Settings for every check.
        noise: Name of the setting that says how widely it samples; None for a planner without one.
        quiet_and_noisy: Two values of that setting; with the first the planner explores less.
        search: More settings for the check of the optimum, for example more candidates.
        fraction: Least share of the way from doing nothing (0) to the optimum (1) that the plan must cover.
        model: The world model, by default a :class:`LinearQuadraticModel` of one continuous action.
            ``LinearQuadraticModel(choices=3)`` checks discrete actions, a :class:`LinearQuadraticExpert` a
            planner that needs a proposal.
        draws: False for a planner that draws nothing, whose plans are the same for all seeds.
        compares: False for a planner that compares no candidates, and so has none to refuse.

    Raises:
        AssertionError: If the contract is broken; the message says where.
    """
    world = LinearQuadraticModel() if model is None else model

    def build(**more: Any) -> Planner:
        return make(**{"horizon": _HORIZON, **(settings or {}), **more})

    noisy = build(**({noise: quiet_and_noisy[1]} if noise else {}))
    _check_form(build(), world)
    _check_seeds(build(), world, draws)
    _check_bounds(noisy, world)
    if noise is not None:
        _check_noise(build, world, noise, *quiet_and_noisy)
    if hasattr(build(), "iterations"):
        _check_rollouts(build, world)
    if compares:
        _check_non_finite(noisy, world)
    _check_memory(build(), world)
    _check_optimum(build(**(search or {})), world, fraction)


def _begin(model: Recorder, planner: Planner, starts: Tensor = _STARTS) -> Recorded:
    discrete = model.spec.action_kind == "discrete"
    history = History.of_observation(starts, action_dim=model.spec.action_dim, discrete=discrete)
    return model.start(history, horizon=planner.horizon)


def _plan(
    planner: Planner,
    model: Recorder,
    *,
    carry: Any = None,
    elapsed: Tensor | None = None,
    seed: int = 0,
    starts: Tensor = _STARTS,
) -> Plan:
    batch = starts.shape[0]
    return planner.plan(
        model,
        _begin(model, planner, starts),
        planner.init(model.spec, batch) if carry is None else carry,
        elapsed=torch.zeros(batch, dtype=torch.int64, device="cpu") if elapsed is None else elapsed,
        generator=torch.Generator("cpu").manual_seed(seed),
    )


def _check_form(planner: Planner, world: LinearQuadraticModel) -> None:
    name = type(planner).__name__
    assert is_dataclass(planner), (
        f"{name} is not a dataclass: a planner is a frozen dataclass of its settings"
    )
    frozen = planner.__dataclass_params__.frozen
    assert frozen, f"{name} is not frozen: what it learns belongs in its carry, not in itself"
    assert planner.horizon == _HORIZON, f"{name}.horizon is {planner.horizon} after horizon={_HORIZON}"
    model = Recorder(world)
    state = _begin(model, planner)
    plan = planner.plan(
        model,
        state,
        planner.init(model.spec, 3),
        elapsed=torch.zeros(3, dtype=torch.int64, device="cpu"),
        generator=torch.Generator("cpu").manual_seed(0),
    )
    shapes = tuple(plan.action.shape), tuple(plan.sequence.shape), tuple(plan.value.shape)
    expected = (3, 1), (3, _HORIZON, 1), (3,)
    assert shapes == expected, f"plan: action, sequence and value have shapes {shapes}; expected {expected}"
    kind = model.spec.action_kind
    wanted = torch.int64 if kind == "discrete" else model.spec.dtype
    assert plan.action.dtype == wanted, f"plan: {kind} actions are {plan.action.dtype}; expected {wanted}"
    assert torch.equal(plan.action, plan.sequence[:, 0]), "plan: action is not the first of sequence"
    try:
        kept = model.take(state, torch.arange(3, device="cpu"))
    except RuntimeError as error:
        raise AssertionError("plan consumed the state it was given; take() its rows first") from error
    assert torch.equal(kept.inner.read(), _STARTS), "plan changed the state it was given"


def _check_seeds(planner: Planner, world: LinearQuadraticModel, draws: bool) -> None:
    first, again, other = (Recorder(world) for _ in range(3))
    a, b = _plan(planner, first, seed=1), _plan(planner, again, seed=1)
    same = torch.equal(a.sequence, b.sequence) and torch.equal(a.value, b.value)
    assert same, "the same seed gave another plan: draw from the generator alone, and keep no state"
    _plan(planner, other, seed=2)
    if draws and len(first.imagined) and len(other.imagined):
        pairs = zip(first.imagined, other.imagined, strict=False)
        differs = not all(torch.equal(one, two) for one, two in pairs)
        assert differs, "another seed imagined the same candidates: the generator is not used"


def _check_bounds(planner: Planner, world: LinearQuadraticModel) -> None:
    model = Recorder(world)
    plan = _plan(planner, model, starts=50.0 * _STARTS)  # far away: the optimum is outside the bounds
    if model.spec.action_kind == "discrete":
        model.check_choices("plan", plan.sequence)
        return
    for what, actions in [("plan", plan.sequence), *(("a candidate", x) for x in model.imagined)]:
        widest = actions.abs().max().item()
        assert widest <= 1.0, f"{what} holds the action {widest}: actions must be clipped to [-1, 1]"


def _check_noise(
    build: PlannerFactory, world: LinearQuadraticModel, name: str, quiet: float, noisy: float
) -> None:
    spread = []
    for value in (quiet, noisy):
        model = Recorder(world)
        _plan(build(**{name: value}), model)
        spread.append(model.imagined[0].float().std().item())
    assert spread[1] > spread[0], (
        f"{name} has no effect: the candidates' standard deviation is {spread[0]:.4g} at {quiet} and "
        f"{spread[1]:.4g} at {noisy}"
    )


def _check_rollouts(build: PlannerFactory, world: LinearQuadraticModel) -> None:
    for iterations in (1, 3):
        model = Recorder(world)
        _plan(build(iterations=iterations), model)
        count = model.rollouts
        assert count == iterations, f"iterations={iterations} made {count} rollouts: one per iteration"


def _check_non_finite(planner: Planner, world: LinearQuadraticModel) -> None:
    # NaN wherever the first action is positive; rewards are negative, so a NaN taken for 0 would win
    for bad in (float("nan"), float("inf"), -float("inf")):
        model = Recorder(world, poison=lambda environment, past: past[:, 0, 0] > 0.0, bad=bad)
        plan = _plan(planner, model, starts=-_STARTS.abs())  # the true optimum pushes into the NaN
        chosen = (world.push(plan.action) > 0.0).any() or not plan.value.isfinite().all()
        assert not chosen, (
            f"a candidate whose value is {bad} was chosen: such values count as -inf, never as 0"
        )
        counted = plan.stats.get("non_finite", model.refused)  # a planner need not count
        assert counted == model.refused, (
            f"stats['non_finite'] is {counted}, and {model.refused} candidates were {bad}: count those of "
            "every iteration (tdm_planners.scoring.refuse_non_finite does), or leave it out of stats"
        )
    lost = Recorder(world, poison=lambda environment, past: environment == 1)
    try:
        _plan(planner, lost)
    except ValueError as error:
        assert "environment 1" in str(error), f"no finite candidate: the error does not name it: {error}"
    else:
        raise AssertionError("environment 1 has no finite candidate, and plan did not raise ValueError")


def _check_memory(planner: Planner, world: LinearQuadraticModel) -> None:
    model, late = Recorder(world), torch.full((3,), 1, dtype=torch.int64, device="cpu")
    carry = _plan(planner, model, seed=3).carry
    if carry is None:
        return  # it remembers nothing
    flaw = carry_flaw(carry, 3)
    assert flaw is None, f"{flaw}: the agent could not gather its rows"
    before = _clone(carry)
    warm = _plan(planner, model, carry=carry, elapsed=late, seed=4)
    assert _same(before, carry), "plan changed the carry it was given: memory is a value"
    fresh = _plan(planner, model, seed=4)
    reset = _plan(planner, model, carry=carry, elapsed=torch.tensor([1, 0, 1], device="cpu"), seed=4)
    forgot = torch.equal(reset.sequence[1], fresh.sequence[1]) and torch.equal(reset.value[1], fresh.value[1])
    assert forgot, (
        "memory survives a new episode: environment 1 had elapsed 0 and planned as if it remembered"
    )
    others = [0, 2]
    kept = torch.equal(reset.sequence[others], warm.sequence[others])
    assert kept, "a new episode of environment 1 changed the plans of the others"
    past = _plan(
        planner,
        model,
        carry=carry,
        elapsed=torch.full((3,), _HORIZON + 1, dtype=torch.int64, device="cpu"),
        seed=4,
    )
    gone = torch.equal(past.sequence, fresh.sequence)
    assert gone, "a plan was remembered although more decisions were executed than it had (elapsed > horizon)"


def _check_optimum(planner: Planner, world: LinearQuadraticModel, fraction: float) -> None:
    best_actions, best = world.optimum(_STARTS, _HORIZON)
    assert world.push(best_actions).abs().max() <= 1.0, "the test's own optimum is out of bounds"
    idle = _value_of_idling(world)
    plan = _plan(planner, Recorder(world), seed=5)
    reached = _true_value(world, plan.sequence)
    share = ((reached - idle) / (best - idle)).min().item()
    assert share >= fraction, (
        f"the optimum of the linear-quadratic model is missed: the plan covers {share:.3f} of the way from "
        f"doing nothing to it; expected at least {fraction}"
    )


def _true_value(world: LinearQuadraticModel, sequence: Tensor) -> Tensor:
    state = world.start(History.of_observation(_STARTS, action_dim=1), horizon=_HORIZON)
    return looped_rollout(world, state, sequence).reward.sum(dim=1)


def _value_of_idling(world: LinearQuadraticModel) -> Tensor:
    return _true_value(
        LinearQuadraticModel(), _STARTS.new_zeros(len(_STARTS), _HORIZON, world.spec.action_dim)
    )


def _clone(carry: Any) -> Any:
    return replace(carry, **{f.name: getattr(carry, f.name).clone() for f in fields(carry)})


def _same(a: Any, b: Any) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
