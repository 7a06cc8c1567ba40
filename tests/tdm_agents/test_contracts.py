"""The contract checks pass on good plug-ins, and each catches the bug that it is there for."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from tdm_agents.protocols import History, Rollout, Step, looped_rollout
from tdm_agents.testing import (
    LinearQuadraticExpert,
    LinearQuadraticModel,
    check_planner,
    check_world_model,
)
from tdm_agents.testing.linear_quadratic import LinearQuadraticState
from tdm_planners import shooting
from tdm_planners.beam_search import BeamSearch
from tdm_planners.cem import CEM
from tdm_planners.mppi import MPPI

SEARCH = {"num_samples": 128, "iterations": 6, "noise_alpha": 0.0}


def check(planner):
    check_planner(planner, noise="initial_std", search=SEARCH)


def history(steps=3):
    generator = torch.Generator().manual_seed(0)
    return History(
        observation=torch.randn(3, steps, 2, generator=generator),
        reward=torch.full((3, steps), math.nan),
        action=torch.zeros(3, steps - 1, 1),
        length=torch.tensor([steps, 1, steps]),
    )


def test_a_good_planner_passes():
    check(MPPI)


# planners that break one contract each


class NaNIsZero(MPPI):
    def plan(self, model, state, carry, **more):
        return super().plan(_NoNaN(model), state, carry, **more)


@dataclass
class _NoNaN:
    inner: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def rollout(self, state, actions, **more):
        result = self.inner.rollout(state, actions, **more)
        return replace(result, reward=result.reward.nan_to_num(0.0, 0.0, 0.0))


@dataclass(frozen=True, kw_only=True)
class SigmaWithoutEffect(MPPI):
    def first(self, memory, spec):
        return replace(super().first(memory, spec), std=torch.full_like(memory.mean, 0.5))


class MemorySurvives(MPPI):
    def plan(self, model, state, carry, *, elapsed, generator):
        return super().plan(model, state, carry, elapsed=torch.ones_like(elapsed), generator=generator)


class ForgetsTogether(MPPI):
    def plan(self, model, state, carry, *, elapsed, generator):
        together = torch.zeros_like(elapsed) if (elapsed == 0).any() else elapsed
        return super().plan(model, state, carry, elapsed=together, generator=generator)


class GlobalRandomness(MPPI):
    def plan(self, model, state, carry, *, elapsed, generator):
        other = torch.Generator().manual_seed(int(torch.randint(2**30, ())))
        return super().plan(model, state, carry, elapsed=elapsed, generator=other)


class FixedRandomness(MPPI):
    def plan(self, model, state, carry, *, elapsed, generator):
        fixed = torch.Generator().manual_seed(0)
        return super().plan(model, state, carry, elapsed=elapsed, generator=fixed)


class NeverClips(MPPI):
    def _candidates(self, distribution, memory, generator):
        return distribution.sample(self.num_samples, generator)


class RollsOutTwice(MPPI):
    def plan(self, model, state, carry, **more):
        super().plan(model, state, carry, **more)
        return super().plan(model, state, carry, **more)


class ConsumesItsState(MPPI):
    def plan(self, model, state, carry, **more):
        plan = super().plan(model, state, carry, **more)
        model.step(state, plan.action)
        return plan


class DoesNotSearch(MPPI):
    def choose(self, distribution, candidates, values, weights, generator):
        return torch.zeros_like(distribution.centre), values.amax(dim=1)


class ChangesItsCarry(MPPI):
    def plan(self, model, state, carry, **more):
        plan = super().plan(model, state, carry, **more)
        carry.mean.zero_()
        return plan


@dataclass(frozen=True)
class OddCarry:
    memory: object


class CarryIsNotTensors(MPPI):
    def init(self, spec, batch):
        return OddCarry(super().init(spec, batch))

    def plan(self, model, state, carry, **more):
        plan = super().plan(model, state, carry.memory, **more)
        return replace(plan, carry=OddCarry(plan.carry))


class StopsAtAnything(MPPI):
    def plan(self, model, state, carry, **more):
        try:
            return super().plan(model, state, carry, **more)
        except ValueError as error:
            raise ValueError("something is wrong") from error


class CountsWrongly(MPPI):
    def plan(self, model, state, carry, **more):
        plan = super().plan(model, state, carry, **more)
        return replace(plan, stats={**plan.stats, "non_finite": 0.0})


class CountsNothing(MPPI):
    def plan(self, model, state, carry, **more):
        return replace(super().plan(model, state, carry, **more), stats={})


def test_a_planner_that_counts_nothing_passes():
    check(CountsNothing)


@pytest.mark.parametrize(
    ("planner", "sentence"),
    [
        (NaNIsZero, "never as 0"),
        (CountsWrongly, "stats['non_finite'] is 0.0"),
        (SigmaWithoutEffect, "initial_std has no effect"),
        (MemorySurvives, "memory survives a new episode: environment 1"),
        (ForgetsTogether, "changed the plans of the others"),
        (GlobalRandomness, "the same seed gave another plan"),
        (FixedRandomness, "another seed imagined the same candidates"),
        (NeverClips, "actions must be clipped"),
        (RollsOutTwice, "iterations=1 made 2 rollouts"),
        (ConsumesItsState, "plan consumed the state it was given"),
        (DoesNotSearch, "optimum of the linear-quadratic model is missed"),
        (ChangesItsCarry, "plan changed the carry it was given"),
        (CarryIsNotTensors, "carry.memory is a ShootingCarry; expected a tensor with a leading B"),
        (StopsAtAnything, "the error does not name it"),
    ],
)
def test_a_broken_planner_is_caught(planner, sentence):
    with pytest.raises(AssertionError) as error:
        check(planner)
    assert sentence in str(error.value)


def test_a_plan_remembered_for_too_long_is_caught(monkeypatch):
    forgetful = shooting.shift

    def clinging(carry, elapsed, *, warm=True):
        return forgetful(carry, torch.where(elapsed > 0, 1, 0), warm=warm)

    monkeypatch.setattr(shooting, "shift", clinging)
    with pytest.raises(AssertionError, match=r"elapsed > horizon"):
        check(MPPI)


# planners of discrete actions


class ChoicesAsNumbers(CEM):
    def plan(self, model, state, carry, **more):
        plan = super().plan(model, state, carry, **more)
        return replace(plan, action=plan.action.float(), sequence=plan.sequence.float())


class ChoicesThatDoNotExist(CEM):
    def _candidates(self, distribution, memory, generator):
        return super()._candidates(distribution, memory, generator) - 1


class TakesNaNForNothing(BeamSearch):
    def _grown(self, model, beams, count, generator):
        return super()._grown(_NoNaNSteps(model), beams, count, generator)


@dataclass
class _NoNaNSteps:
    inner: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def step(self, state, action, **more):
        state, step = self.inner.step(state, action, **more)
        return state, replace(step, reward=step.reward.nan_to_num(0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("planner", "sentence"),
    [
        (ChoicesAsNumbers, "discrete actions are torch.float32; expected torch.int64"),
        (ChoicesThatDoNotExist, "holds the choices -1 to"),
        (TakesNaNForNothing, "never as 0"),
    ],
)
def test_a_broken_planner_of_discrete_actions_is_caught(planner, sentence):
    with pytest.raises(AssertionError) as error:
        check_planner(planner, model=LinearQuadraticModel(choices=3), draws=planner is not TakesNaNForNothing)
    assert sentence in str(error.value)


@pytest.mark.parametrize("choices", [None, 3])
@pytest.mark.parametrize("model", [LinearQuadraticModel, LinearQuadraticExpert])
def test_a_good_world_model_passes(model, choices):
    past = history()
    if choices is not None:
        past = replace(past, action=past.action.long())
    check_world_model(model(choices=choices), past)


def test_a_world_model_of_one_environment_passes():
    one = History.of_observation(torch.tensor([[0.3, -0.2]]), action_dim=1)
    check_world_model(LinearQuadraticModel(), one)


class Noisy(LinearQuadraticModel):
    """Samples: the draws of a step are made at once for all its rows."""

    def step(self, state, action, *, generator=None):
        state, step = super().step(state, action)
        state.value = state.value + 0.1 * torch.randn(state.value.shape, generator=generator)
        return state, replace(step, observation=state.value.clone())

    def rollout(self, state, actions, *, generator=None):
        return looped_rollout(self, state, actions, generator=generator)


def test_a_good_world_model_that_samples_passes():
    check_world_model(Noisy(), history())


# models that break one contract each


class TakeDoesNotCopy(LinearQuadraticModel):
    def take(self, state, rows):
        value = state.read()
        return LinearQuadraticState(value if torch.equal(rows, torch.arange(len(value))) else value[rows])

    def step(self, state, action, *, generator=None):
        old = state.read()
        after, step = super().step(state, action)
        old.copy_(after.read())  # buffers are reused, and were shared
        return LinearQuadraticState(old), step


class TakeIgnoresRows(LinearQuadraticModel):
    def take(self, state, rows):
        return LinearQuadraticState(state.read()[rows.sort().values])


class TakeForgetsVelocity(LinearQuadraticModel):
    def take(self, state, rows):
        return LinearQuadraticState(state.read()[rows] * torch.tensor([1.0, 0.0]))


class NeverRefuses(LinearQuadraticModel):
    def step(self, state, action, *, generator=None):
        return super().step(LinearQuadraticState(state.read().clone()), action)


class ChangesActions(LinearQuadraticModel):
    def step(self, state, action, *, generator=None):
        return super().step(state, action.mul_(0.5))


class ChangesHistory(LinearQuadraticModel):
    def start(self, history, *, horizon):
        state = super().start(history, horizon=horizon)
        history.action.sub_(1.0)
        return state


class RolloutDiffers(LinearQuadraticModel):
    def rollout(self, state, actions, *, generator=None):
        return looped_rollout(self, state, actions.flip(1), generator=generator)


class RolloutDoesNotConsume(LinearQuadraticModel):
    def rollout(self, state, actions, *, generator=None):
        return looped_rollout(self, LinearQuadraticState(state.read()), actions)


class Revives(LinearQuadraticModel):
    def rollout(self, state, actions, *, generator=None):
        result = looped_rollout(self, state, actions)
        alive = torch.tensor([True, False, True, True]).expand_as(result.alive)
        return Rollout(result.observation, result.reward, alive, result.state)


class EndsUnannounced(LinearQuadraticModel):
    def step(self, state, action, *, generator=None):
        state, step = super().step(state, action)
        return state, replace(step, alive=step.observation[:, 0] > 1e9)


class RowsMix(LinearQuadraticModel):
    def step(self, state, action, *, generator=None):
        value = state.consume()
        return super().step(LinearQuadraticState(value - 0.1 * value.mean(dim=0)), action)


class ReadsPadding(LinearQuadraticModel):
    def start(self, history, *, horizon):
        return LinearQuadraticState(history.observation.mean(dim=1))

    @property
    def spec(self):
        return replace(super().spec, history_steps=8)


class GlobalDraws(LinearQuadraticModel):
    def step(self, state, action, *, generator=None):
        return super().step(state, action + 0.1 * torch.randn(action.shape))


class WrongShape(LinearQuadraticModel):
    def step(self, state, action, *, generator=None):
        state, step = super().step(state, action)
        return state, Step(step.observation, step.reward[:, None], step.alive)


class ValueConsumes(LinearQuadraticModel):
    def value(self, state):
        return state.consume().sum(dim=1)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (TakeIgnoresRows, "or take returns other rows"),
        (
            TakeForgetsVelocity,
            "take is not a gather: step(take(s, r), a[r]) differs from take(step(s, a), r), seen",
        ),
        (NeverRefuses, "step of a consumed state did not raise"),
        (ChangesActions, "changed the actions"),
        (ChangesHistory, "changed history.action"),
        (RolloutDiffers, "rollout differs from looped steps"),
        (RolloutDoesNotConsume, "step after rollout of a consumed state"),
        (Revives, "alive is True after it was False"),
        (EndsUnannounced, "spec.terminates is False"),
        (RowsMix, "differs from the same row in a batch"),
        (ReadsPadding, "padding to the left"),
        (GlobalDraws, "the same seed gave other steps"),
        (WrongShape, "step: reward is (6, 1)"),
        (ValueConsumes, "value or propose consumed"),
        (TakeDoesNotCopy, "shares memory"),
    ],
)
def test_a_broken_world_model_is_caught(model, sentence):
    with pytest.raises(AssertionError) as error:
        check_world_model(model(), history())
    assert sentence in str(error.value)


def test_the_linear_quadratic_optimum_cannot_be_improved():
    model, starts = LinearQuadraticModel(action_dim=2), torch.tensor([[0.5, -0.3, 0.1, 0.2]])
    actions, value = model.optimum(starts, 5)

    def value_of(sequence):
        count = len(sequence)
        state = model.start(History.of_observation(starts.expand(count, -1), action_dim=2), horizon=5)
        return looped_rollout(model, state, sequence).reward.sum(dim=1)

    torch.testing.assert_close(value_of(actions), value)
    moved = actions + 0.05 * torch.randn(500, 5, 2, generator=torch.Generator().manual_seed(0))
    assert (value_of(moved) < value).all()
