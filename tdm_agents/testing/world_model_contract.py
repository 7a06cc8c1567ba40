"""The contract that every world model keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from tdm_agents.protocols import HasProposal, HasRollout, HasValue, History, Rollout, Step, WorldModel
from tdm_agents.protocols import looped_rollout as looped
from tdm_agents.protocols.values import lived


def check_world_model(
    model: WorldModel[Any],
    history: History,
    *,
    horizon: int = 4,
    seed: int = 0,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    reads_history: bool = True,
) -> None:
    """Assert that a world model keeps the contract of :class:`tdm_agents.protocols.WorldModel`.

    These are checked: shapes and dtypes, and that no row revives; observations exactly where
    ``spec.imagines_observations`` says so (without them, the rest is compared); the same seed gives the same
    steps; a consumed state is refused; ``take`` is a gather, with repeats, that leaves its state usable, and
    gathering commutes with stepping (also one step later); inputs are not changed; ``rollout`` equals looped
    steps with the same seed; a row does not depend on the others (up to near ties: the same float32 row in
    products of other sizes differs in its last bits), nor on the padding of its history; ``value`` and
    ``propose``, where the model has them, do not consume their state.

    A model samples if two seeds give different steps; its rows are then compared only where they see the same
    draws. Models pass NaN on as NaN: a planner refuses such rows, and would choose them if a model turned NaN
    into a number.

    Args:
        model: The world model.
        history: ``B`` environments from which to imagine; two or more rows check more.
        horizon: Steps to imagine, at least 2.
        seed: Seed of the random actions and of the model's draws.
        rtol: Relative tolerance of comparisons.
        atol: Absolute tolerance of comparisons.
        reads_history: False for a model that does not read it (the simulator reads the live environment),
            whose rows cannot be started one by one.

    Raises:
        AssertionError: If the contract is broken; the message says where.
    """
    check = _Checks(model, history, horizon, seed, rtol, atol)
    check.inputs()  # first: the other checks imagine from the same inputs
    check.shapes()
    check.seeds()
    check.consumed()
    check.one_by_one()
    check.gather()
    check.rollout()
    check.capabilities()
    if reads_history:
        check.histories()


class _Checks:
    def __init__(
        self, model: WorldModel[Any], history: History, horizon: int, seed: int, rtol: float, atol: float
    ) -> None:
        assert horizon >= 2, f"horizon is {horizon}; expected at least 2, to compare a further step"
        self.model, self.history, self.horizon, self.seed = model, history, horizon, seed
        self.rtol, self.atol = rtol, atol
        self.device = model.spec.device
        # every environment twice, so that rows fork even where there is one environment
        self.rows = torch.arange(history.batch, device=self.device).repeat(2)
        self.actions = self.draw(self.rows.shape[0])

    def draw(self, count: int) -> Tensor:
        spec = self.model.spec
        generator = torch.Generator("cpu").manual_seed(self.seed)
        shape = (count, self.horizon, spec.action_dim)
        if spec.action_kind == "discrete":
            choices = torch.tensor(spec.action_choices, device="cpu")
            return (
                (torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu") * choices)
                .long()
                .to(self.device)
            )
        actions = torch.rand(shape, generator=generator, dtype=spec.dtype, device="cpu") * 2.0 - 1.0
        return actions.to(self.device)

    def generator(self, seed: int | None = None) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(self.seed if seed is None else seed)

    def start(self, history: History | None = None) -> Any:
        return self.model.start(history or self.history, horizon=self.horizon)

    def fork(self) -> Any:
        """A state of ``2B`` rows."""
        return self.model.take(self.start(), self.rows)

    def imagine(self, seed: int) -> Rollout:
        return looped(self.model, self.fork(), self.actions, generator=self.generator(seed))

    def same(self, a: Rollout | Step, b: Rollout | Step) -> bool:
        pairs = [(a.reward, b.reward)]
        if a.observation is not None and b.observation is not None:
            pairs.append((a.observation, b.observation))
        if a.survival is not None and b.survival is not None:
            pairs.append((a.survival, b.survival))
        close = all(torch.allclose(x, y, rtol=self.rtol, atol=self.atol, equal_nan=True) for x, y in pairs)
        return close and torch.equal(a.alive, b.alive)

    def shapes(self) -> None:
        spec, count = self.model.spec, self.rows.shape[0]
        result = self.imagine(self.seed)
        expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "reward": ((count, self.horizon), spec.dtype),
            "alive": ((count, self.horizon), torch.bool),
        }
        if spec.imagines_observations:
            expected["observation"] = ((count, self.horizon, spec.observation_dim), spec.dtype)
        _, step = self.model.step(self.fork(), self.actions[:, 0], generator=self.generator())
        self.observed("step", step)
        for name, (shape, dtype) in expected.items():
            for what, tensor, wanted in (
                ("step", getattr(step, name), (shape[0], *shape[2:])),
                ("rollout", getattr(result, name), shape),
            ):
                found = tuple(tensor.shape), tensor.dtype
                good = found == (wanted, dtype)
                assert good, f"{what}: {name} is {found[0]} of {found[1]}; expected {wanted} of {dtype}"

    def observed(self, what: str, imagined: Step | Rollout) -> None:
        expected, found = self.model.spec.imagines_observations, imagined.observation is not None
        assert found == expected, (
            f"{what}: observation is {'a tensor' if found else 'None'}, but spec.imagines_observations is "
            f"{expected}; make them agree"
        )

    def seeds(self) -> None:
        first = self.imagine(self.seed)
        self.samples = not self.same(first, self.imagine(self.seed + 1))
        assert self.same(first, self.imagine(self.seed)), (
            "the same seed gave other steps: draw from the generator alone"
        )

    def consumed(self) -> None:
        state = self.fork()
        self.model.step(state, self.actions[:, 0], generator=self.generator())
        uses: dict[str, Callable[[], object]] = {
            "step": lambda: self.model.step(state, self.actions[:, 0], generator=self.generator()),
            "take": lambda: self.model.take(state, self.rows[:1]),
        }
        if isinstance(self.model, HasRollout):
            rolled, inner = self.fork(), self.model
            inner.rollout(rolled, self.actions, generator=self.generator())
            uses["step after rollout"] = lambda: self.model.step(rolled, self.actions[:, 0])
        for what, use in uses.items():
            try:
                use()
            except RuntimeError:
                continue
            raise AssertionError(f"{what} of a consumed state did not raise RuntimeError")

    def gather(self) -> None:
        count = self.rows.shape[0]
        self.gather_rows(torch.arange(count, device=self.device))
        if not self.samples:  # draws are made for all rows at once: only a whole copy sees the same ones
            self.gather_rows(torch.tensor([count - 1, 0, 0, *range(count)], device=self.device))

    def gather_rows(self, rows: Tensor) -> None:
        kept = self.fork()
        taken = self.model.take(kept, rows)
        taken, before = self.model.step(taken, self.actions[rows, 0], generator=self.generator())
        again = self.model.take(kept, rows)
        _, repeat = self.model.step(again, self.actions[rows, 0], generator=self.generator())
        alone = "take(s, r) shares memory with s: stepping what was taken changed the state that was kept"
        assert self.same(before, repeat), alone
        kept, whole = self.model.step(kept, self.actions[:, 0], generator=self.generator())
        picked = Step(_part(whole.observation, rows), whole.reward[rows], whole.alive[rows])
        law = "take is not a gather: step(take(s, r), a[r]) differs from take(step(s, a), r)"
        assert self.same(before, picked), law
        follow = self.model.take(kept, rows)
        _, one = self.model.step(taken, self.actions[rows, 1], generator=self.generator(self.seed + 1))
        _, two = self.model.step(follow, self.actions[rows, 1], generator=self.generator(self.seed + 1))
        assert self.same(one, two), f"{law}, seen one step later"

    def inputs(self) -> None:
        copy = replace(
            self.history, **{f.name: getattr(self.history, f.name).clone() for f in fields(History)}
        )
        actions = self.actions.clone()
        self.imagine(self.seed)
        if isinstance(self.model, HasRollout):
            self.model.rollout(self.fork(), self.actions, generator=self.generator())
        for f in fields(History):
            kept = torch.equal(getattr(copy, f.name).nan_to_num(), getattr(self.history, f.name).nan_to_num())
            assert kept, f"start or step changed history.{f.name}"
        assert torch.equal(actions, self.actions), "step or rollout changed the actions it was given"

    def rollout(self) -> None:
        result = self.imagine(self.seed)
        if isinstance(self.model, HasRollout):
            fast = self.model.rollout(self.fork(), self.actions, generator=self.generator())
            self.observed("rollout", fast)
            revived = (fast.alive[:, 1:] & ~fast.alive[:, :-1]).any()
            assert not revived, "rollout: alive is True after it was False"
            seen = _masked(result), _masked(fast)
            assert self.same(*seen), "rollout differs from looped steps with the same generator"
        assert self.model.spec.terminates or result.alive.all(), "a row ended, and spec.terminates is False"

    def one_by_one(self) -> None:
        if self.samples:
            return  # a single row sees other draws
        whole = self.imagine(self.seed)
        for row in range(self.rows.shape[0]):
            single = self.model.take(self.start(), self.rows[row : row + 1])
            alone = looped(self.model, single, self.actions[row : row + 1])
            part = _row(whole, row)
            assert self.same(alone, part), (
                f"row {row} imagined alone differs from the same row in a batch: "
                "rows are mixed, or take returns other rows"
            )

    def capabilities(self) -> None:
        state = self.fork()
        count = self.rows.shape[0]
        if isinstance(self.model, HasValue):
            shape = tuple(self.model.value(state).shape)
            assert shape == (count,), f"value has shape {shape}; expected ({count},)"
        if isinstance(self.model, HasProposal):
            proposal = self.model.propose(state, 3, generator=self.generator())
            shape, wanted = tuple(proposal.actions.shape), (count, 3, self.model.spec.action_dim)
            assert shape == wanted, f"propose: actions have shape {shape}; expected {wanted}"
        try:
            after = looped(self.model, state, self.actions, generator=self.generator())
        except RuntimeError as error:
            raise AssertionError("value or propose consumed the state it was given") from error
        assert self.same(after, self.imagine(self.seed)), "value or propose changed the state it was given"

    def histories(self) -> None:
        whole = self.imagine(self.seed)
        padded = _pad(self.history)
        if padded.observation.shape[1] <= self.model.spec.history_steps:
            state = self.model.take(self.start(padded), self.rows)
            other = looped(self.model, state, self.actions, generator=self.generator())
            assert self.same(whole, other), "padding to the left of a history changed what was imagined"
        if self.samples:
            return
        for row in range(self.history.batch):
            state = self.start(_history_row(self.history, row))
            alone = looped(self.model, state, self.actions[row : row + 1])
            part = _row(whole, row)
            assert self.same(alone, part), f"environment {row} started alone differs from the same in a batch"


def _masked(result: Rollout) -> Rollout:
    """The rollout with everything after the end of a row, which is meaningless, set to 0."""
    before = torch.cat([torch.ones_like(result.alive[:, :1]), result.alive[:, :-1]], dim=1)
    seen = result.observation
    return replace(
        result,
        observation=None if seen is None else torch.where(before[:, :, None], seen, 0.0),
        reward=torch.where(before, result.reward, 0.0),
        survival=None if result.survival is None else lived(result.survival),
    )


def _row(result: Rollout, row: int) -> Rollout:
    part = slice(row, row + 1)
    return replace(
        result,
        observation=_part(result.observation, part),
        reward=result.reward[part],
        alive=result.alive[part],
        survival=None if result.survival is None else result.survival[part],
    )


def _part(observation: Tensor | None, rows: Tensor | slice) -> Tensor | None:
    return None if observation is None else observation[rows]


def _history_row(history: History, row: int) -> History:
    return replace(history, **{f.name: getattr(history, f.name)[row : row + 1] for f in fields(History)})


def _pad(history: History, steps: int = 2) -> History:
    return History(
        observation=torch.nn.functional.pad(history.observation, (0, 0, steps, 0)),
        reward=torch.nn.functional.pad(history.reward, (steps, 0), value=float("nan")),
        action=torch.nn.functional.pad(history.action, (0, 0, steps, 0)),
        length=history.length,
    )
