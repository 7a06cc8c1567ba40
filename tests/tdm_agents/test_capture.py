"""Rollouts that replay one imagined step in fixed buffers equal steps one by one."""

import copy
import pickle
import shutil
import weakref
from dataclasses import fields
from functools import partial

import pytest
import torch
from small_transformer import make_history, make_model, make_spec

from tdm_agents.protocols import History, looped_rollout
from tdm_agents.testing import check_world_model
from tdm_agents.world_models.transformer.decoding import captured
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig


def rows_of(model, history, rows, horizon):
    """Fresh rows, ``rows`` an environment."""
    state = model.start(history, horizon=horizon)
    return model.take(state, torch.arange(history.batch).repeat_interleave(rows))


def actions_of(model, rows, horizon, seed=2):
    generator = torch.Generator().manual_seed(seed)
    if choices := model.spec.action_choices:
        scalars = [torch.randint(c, (rows, horizon), generator=generator) for c in choices]
        return torch.stack(scalars, dim=2)
    return torch.rand((rows, horizon, model.spec.action_dim), generator=generator) * 2 - 1


def both(model, history, *, rows=3, horizon=7, capture="eager"):
    """The same actions step by step, and replayed."""
    actions = actions_of(model, history.batch * rows, horizon)
    plain = looped_rollout(
        model, rows_of(model, history, rows, horizon), actions, generator=torch.Generator().manual_seed(3)
    )
    other = model.with_decoding(capture=capture)
    replayed = other.rollout(
        rows_of(other, history, rows, horizon), actions, generator=torch.Generator().manual_seed(3)
    )
    return plain, replayed


def check_equal(plain, replayed):
    # one token off would be further away: a bin is 0.001 wide or more
    torch.testing.assert_close(replayed.observation, plain.observation, rtol=0, atol=2e-4)
    torch.testing.assert_close(replayed.reward, plain.reward, rtol=0, atol=2e-4)
    assert torch.equal(replayed.alive, plain.alive)


@pytest.mark.parametrize("read", ["sample", "mode", "mean"])
@pytest.mark.parametrize("target", ["change", "absolute"])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("context", [16, 24, 1023])  # bands of 2, 3 and 127 steps: rows slide over histories
def test_replayed_equals_step_by_step(context, parallel, target, read):
    model = make_model(
        context=context, read=read, parallel=parallel, tokenizer=TokenizerConfig(target=target)
    )
    model.network.double()  # in float32 the order of a sum decides near ties between bins
    check_equal(*both(model, make_history(model, [5, 1, 3])))


@pytest.mark.parametrize("parallel", [False, True])
def test_one_scalar(parallel):
    model = make_model(n=1, context=12, parallel=parallel)
    model.network.double()
    check_equal(*both(model, make_history(model, [2])))


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_blocks_equal_step_by_step():
    model = make_model(context=24)
    model.network.double()
    for rows in (2, 3, 4):  # more variants than dynamo's default limit
        check_equal(*both(model, make_history(model, [5, 1, 3]), rows=rows, capture="compiled"))


def test_discrete_actions_and_ends():
    spec = make_spec(4, 2, action_kind="discrete", action_choices=(3, 5), terminates=True)
    model = make_model(n=4, m=2, spec=spec, context=24, read="sample")
    model.network.double()
    torch.nn.init.constant_(model.network.alive.bias, 2.0)  # of eight transitions, one ends
    history = make_history(model, [3, 2])
    history = History(
        history.observation, history.reward, torch.ones_like(history.action).long(), history.length
    )
    plain, replayed = both(model, history)
    check_equal(plain, replayed)
    assert plain.alive.any() and not plain.alive.all()


@pytest.mark.parametrize("context", [24, 1023])
@pytest.mark.parametrize("horizon", [1, 7])
def test_the_state_that_is_left_goes_on(context, horizon):
    model = make_model(context=context)
    model.network.double()
    history = make_history(model, [4, 2])
    rows, more = 3, 4
    actions = actions_of(model, 6, horizon + more)
    plain = looped_rollout(model, rows_of(model, history, rows, horizon + more), actions)
    other = model.with_decoding(capture="eager")
    first = other.rollout(rows_of(other, history, rows, horizon + more), actions[:, :horizon])
    chosen = torch.tensor([5, 0, 0, 3])
    fork = other.take(first.state, chosen)
    rest = other.rollout(first.state, actions[:, horizon:])  # not fresh: step by step
    torch.testing.assert_close(rest.observation, plain.observation[:, horizon:], rtol=0, atol=2e-4)
    forked = other.rollout(fork, actions[chosen, horizon:])
    torch.testing.assert_close(forked.observation, plain.observation[chosen, horizon:], rtol=0, atol=2e-4)


@pytest.mark.parametrize("parallel", [False, True])
def test_contract(parallel):
    model = make_model(parallel=parallel, capture="eager", read="sample")
    check_world_model(model, make_history(model, [3, 1, 2]))


@pytest.mark.parametrize("read", ["sample", "mode", "mean"])
@pytest.mark.parametrize("parallel", [False, True])
def test_trial_runs_before_a_capture_leave_nothing(monkeypatch, parallel, read):
    def tried(work, device, *, pool=None, reset=None):
        for _ in range(2):
            if reset is not None:
                reset()
            work()

    monkeypatch.setattr(captured, "cuda_graph", tried)
    model = make_model(context=24, read=read, parallel=parallel)
    model.network.double()
    check_equal(*both(model, make_history(model, [5, 1, 3])))


def decide(model, lengths, rows=3, horizon=2):
    actions = actions_of(model, len(lengths) * rows, horizon)
    return model.rollout(rows_of(model, make_history(model, lengths), rows, horizon), actions)


def test_a_step_is_captured_once_for_its_sizes(monkeypatch):
    made, original = [], captured.CapturedStep

    def counted(*args, **kwargs):
        made.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(captured, "CapturedStep", counted)
    model = make_model(capture="eager")
    for _ in range(3):  # three steps have the room of the whole band, two their own
        decide(model, [3]), decide(model, [2])
    assert len(made) == 2
    decide(model, [3], rows=4)  # the least recent leaves
    assert len(made) == 3 and len(model.captured_steps._steps) == 2
    decide(model, [2])
    assert len(made) == 3
    model.network.double()  # other weights
    decide(model, [2])
    assert len(made) == 4


def test_a_model_is_freed_with_its_captures():
    model = make_model(capture="eager")
    decide(model, [3])
    alive = weakref.ref(model)
    del model
    assert alive() is None


def test_new_token_ranges_are_seen():
    model = make_model(capture="eager", tokenizer=TokenizerConfig(observation="quantile"))
    decide(model, [3])
    data = 3 * torch.randn((512, 5), generator=torch.Generator().manual_seed(5))
    model.tokenizer.fit(data, data, data[:, 0])
    expected = decide(model.with_decoding(capture="no"), [3])
    torch.testing.assert_close(decide(model, [3]).observation, expected.observation, rtol=0, atol=1e-3)


def test_inference_mode_and_others_take_turns():
    model = make_model(capture="eager")
    with torch.inference_mode():
        first = decide(model, [3]).observation.clone()
    assert torch.equal(first, decide(model, [3]).observation)


def test_training_between_decisions_is_seen():
    model = make_model(capture="eager")
    history = make_history(model, [3])
    actions = actions_of(model, 3, 4)
    first = model.rollout(rows_of(model, history, 3, 4), actions)
    with torch.no_grad():
        model.network.head.weight.mul_(-1.0)
    second = model.rollout(rows_of(model, history, 3, 4), actions)
    assert not torch.allclose(first.observation, second.observation)
    plain = model.with_decoding(capture="no")
    expected = plain.rollout(rows_of(plain, history, 3, 4), actions)
    torch.testing.assert_close(second.observation, expected.observation, rtol=0, atol=1e-3)


def test_one_decision_leaves_nothing_for_the_next():
    model = make_model(context=40, capture="eager", read="mean")
    history, actions = make_history(model, [3]), actions_of(model, 3, 4)  # room for more steps of history
    first = model.rollout(rows_of(model, history, 3, 4), actions)
    (step,) = model.captured_steps._steps.values()
    for buffer in (*step.rows._own, *step.rows._shared):
        buffer.fill_(float("nan"))  # as after a rollout that diverged
    again = model.rollout(rows_of(model, history, 3, 4), actions)
    assert torch.equal(first.observation, again.observation)


def test_copies_capture_for_themselves():
    model = make_model(capture="eager")
    history, actions = make_history(model, [3]), actions_of(model, 3, 4)
    expected = model.rollout(rows_of(model, history, 3, 4), actions)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.with_decoding()):
        assert other.captured_steps is not model.captured_steps
        with torch.no_grad():
            other.network.token.weight.add_(0.0)
        found = other.rollout(rows_of(other, history, 3, 4), actions)
        assert torch.equal(found.observation, expected.observation)


def test_the_state_is_consumed_and_the_horizon_kept():
    model = make_model(capture="eager")
    history = make_history(model, [3])
    state = rows_of(model, history, 2, 3)
    with pytest.raises(RuntimeError, match="horizon of 3"):
        model.rollout(state, actions_of(model, 2, 4))
    model.rollout(state, actions_of(model, 2, 3))
    with pytest.raises(RuntimeError, match="consumed"):
        model.rollout(state, actions_of(model, 2, 3))
    with pytest.raises(ValueError, match="NaN"):
        model.rollout(rows_of(model, history, 2, 3), actions_of(model, 2, 3) * float("nan"))


def test_rows_in_any_order_go_step_by_step():
    model = make_model(capture="eager")
    history = make_history(model, [3, 2])
    start = model.start(history, horizon=3)
    order = torch.tensor([1, 0, 1])
    actions = actions_of(model, 3, 3)
    found = model.rollout(model.take(start, order), actions)
    plain = model.with_decoding(capture="no")
    expected = plain.rollout(plain.take(start, order), actions)
    assert torch.equal(found.observation, expected.observation)


@pytest.mark.gpu
@pytest.mark.parametrize("capture", ["eager", "compiled"])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("read", ["sample", "mode", "mean"])
def test_a_cuda_graph_equals_step_by_step(read, parallel, capture):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = make_model(context=24, parallel=parallel, read=read)
    model.network.double()
    history = make_history(model, [5, 1, 3])
    history = History(*(getattr(history, f.name).cuda() for f in fields(History)))
    model = model.to("cuda")
    other = model.with_decoding(capture=capture)
    for rows in (3, 2, 3):  # two sizes are kept, and used in turn
        actions = actions_of(model, 3 * rows, 7).cuda()
        of = torch.arange(3, device="cuda").repeat_interleave(rows)
        plain, replayed = (
            imagine(one.take(one.start(history, horizon=7), of), actions, generator=torch.Generator("cuda"))
            for one, imagine in ((model, partial(looped_rollout, model)), (other, other.rollout))
        )
        check_equal(plain, replayed)
