"""The compiled loop computes what PyTorch's products do, for every way in which rows can stand."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_transformer import make_history, make_model, make_spec

from tdm_agents.protocols import History
from tdm_agents.world_models.transformer.cpu import openmp
from tdm_agents.world_models.transformer.cpu.arguments import PastArgument, table
from tdm_agents.world_models.transformer.cpu.attention_loop import attention
from tdm_agents.world_models.transformer.cpu.keeping import kept
from tdm_agents.world_models.transformer.cpu.loop_caches import PanelHistory, RingImagined
from tdm_agents.world_models.transformer.cpu.loop_view import LoopView
from tdm_agents.world_models.transformer.cpu.openmp import in_threads, thread_functions
from tdm_agents.world_models.transformer.cpu.pages import in_huge_pages
from tdm_agents.world_models.transformer.cpu.powers import exp2_over_max
from tdm_agents.world_models.transformer.cpu.sampling import sampled_bins
from tdm_agents.world_models.transformer.decoding.packed_caches import PackedHistory, PackedImagined
from tdm_agents.world_models.transformer.decoding.reading import choose_bin


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def attended(new, own, past, history, history_of, first, *, outputs, heads, **numbers):
    """What the loop writes; ``new`` is ``[N, c, 3, heads, head_dim]``."""
    rows, chunk, *_, head_dim = new.shape
    new = new.clone()
    new[:, :, 0] *= np.log2(np.e)
    out = torch.full((rows * outputs, heads * head_dim), torch.nan)
    keys, values = history.keys[0], history.values[0]
    arrays = {"new": new, "own": own, "past": past, "keys": keys, "values": values, "out": out}
    arrays |= {"history_of": history_of, "first": first}
    number, count = thread_functions()
    arguments = table(
        **{name: array.data_ptr() for name, array in arrays.items()},
        rows=rows,
        chunk=chunk,
        outputs=outputs,
        capacity=own.shape[2],
        parts=len(past),
        batch=len(keys),
        length=values.shape[2],
        thread_number=number,
        thread_count=count,
        **numbers,
    )
    in_threads(attention(heads, head_dim).address, arguments.ctypes.data, parts=rows)
    return out.view(rows, outputs, heads, head_dim)


def reference(new, imagined, layer, history_of, first, *, outputs, whole):
    """The same in float64, token by token; ``imagined[N, 2, seen, width]`` holds the new tokens already."""
    rows, chunk, _, heads, head_dim = new.shape
    out = torch.empty((rows, outputs, heads, head_dim), dtype=torch.float64)
    seen = imagined.shape[2]
    imagined = imagined.view(rows, 2, seen, heads, head_dim).double()
    for row in range(rows):
        before = layer[:, :, history_of[row], first[history_of[row]] :].double()  # [2, heads, P, head_dim]
        for i in range(outputs):
            query = chunk - outputs + i
            visible = seen if whole else seen - (chunk - 1 - query)
            keys, values = torch.cat([before, imagined[row, :, :visible].transpose(1, 2)], dim=2)
            scores = torch.einsum("hd,hpd->hp", new[row, query, 0].double(), keys)
            out[row, i] = torch.einsum("hp,hpd->hd", scores.softmax(dim=1), values)
    return out


@settings(deadline=None, max_examples=100)
@given(
    sizes=st.sampled_from([(2, 16), (2, 12), (1, 32)]),  # a register, parts of one, two; each is compiled
    rows=st.integers(1, 21),
    batch=st.integers(1, 3),
    length=st.integers(0, 150),
    chunk=st.integers(1, 4),
    outputs=st.integers(1, 4),
    before=st.integers(0, 40),
    ends=st.lists(st.integers(1, 40), max_size=4, unique=True),  # of the parts of the past
    others=st.integers(0, 3),
    capacity=st.integers(4, 44),
    in_order=st.booleans(),
    whole=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_row_attends_over_its_history_its_past_and_its_own(
    sizes, rows, batch, length, chunk, outputs, before, ends, others, capacity, in_order, whole, seed
):
    heads, head_dim = sizes
    outputs, width = min(outputs, chunk), heads * head_dim
    generator = torch.Generator().manual_seed(seed)
    layer = torch.randn((2, heads, batch, length, head_dim), generator=generator)
    new = torch.randn((rows, chunk, 3, heads, head_dim), generator=generator)
    history_of = torch.randint(batch, (rows,), generator=generator)
    history_of = history_of.sort().values if in_order else history_of
    first = torch.randint(length + 1, (batch,), generator=generator)  # the whole history may have left
    ends = sorted(end for end in ends if end <= before)
    begins = [0, *ends]
    seen = min(before + chunk, capacity)
    since = before + chunk - seen
    parts, held, tokens = [], [], []  # what the loop is told, what it points to, all tokens by their number
    for begin, end in zip(begins, ends, strict=False):
        part_of = torch.randint(1 + others, (rows,), generator=generator)
        drawn = torch.randn((1 + others, 2, end - begin, width), generator=generator)
        part = torch.full((1 + others, 2, capacity, width), torch.nan)  # where nothing is written
        for number in range(max(since, begin), end):
            part[:, :, (number - begin) % capacity] = drawn[:, :, number - begin]
        tokens.append(drawn[part_of])
        if end > since:
            visible = max(since, begin)
            place = (visible - begin) % capacity
            parts.append([part.data_ptr(), part_of.data_ptr(), capacity, place, end - visible])
            held.append((part, part_of))
    shared = begins[-1]
    tokens.append(torch.randn((rows, 2, before - shared, width), generator=generator))
    tokens.append(new[:, :, 1:].transpose(1, 2).flatten(3))
    tokens = torch.cat(tokens, dim=2)
    own = torch.full((rows, 2, capacity, width), torch.nan)
    for number in range(max(since, shared), before):
        own[:, :, (number - shared) % capacity] = tokens[:, :, number]
    expected = own.clone()
    for number in range(before, before + chunk):
        expected[:, :, (number - shared) % capacity] = tokens[:, :, number]
    got = attended(
        new,
        own,
        torch.tensor(parts, dtype=torch.int64).view(-1, len(PastArgument)),
        PanelHistory.of([layer], None),
        history_of,
        first,
        outputs=outputs,
        heads=heads,
        place=(before - shared) % capacity,
        start=(max(since, shared) - shared) % capacity,
        seen=seen,
        whole=whole,
    )
    torch.testing.assert_close(own, expected, rtol=0, atol=0, equal_nan=True)
    wanted = reference(new, tokens[:, :, since:], layer, history_of, first, outputs=outputs, whole=whole)
    torch.testing.assert_close(got, wanted.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 8, 9, 40])
def test_threads_change_nothing(rows, two_threads):
    model = make_model(read="mode")
    state = model.start(make_history(model, [3]), horizon=5)
    actions = torch.linspace(-1, 1, rows * 5).view(rows, 5, 1)
    fork = [model.take(state, torch.zeros(rows, dtype=torch.int64)) for _ in range(2)]
    two = model.rollout(fork[0], actions)
    torch.set_num_threads(1)
    one = model.rollout(fork[1], actions)
    assert torch.equal(two.observation, one.observation)
    assert torch.equal(two.reward, one.reward)


@pytest.mark.parametrize("read", ["sample", "mode", "mean"])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("context", [24, 1023])
def test_tokens_are_those_of_products(read, parallel, context):
    model = make_model(context=context, read=read, parallel=parallel)
    past = make_history(model, [3, 1])
    rows = torch.arange(2).repeat_interleave(8)
    actions = torch.rand((16, 8, 1), generator=torch.Generator().manual_seed(0)) * 2 - 1

    def imagine(attention):
        other = model.with_decoding(attention=attention)
        state = other.take(other.start(past, horizon=8), rows)
        return other.rollout(state, actions, generator=torch.Generator().manual_seed(0))

    fused, products = imagine("fused"), imagine("products")
    assert isinstance(fused.state.imagined, RingImagined)
    assert isinstance(products.state.imagined, PackedImagined)
    for ours, theirs in ((fused.observation, products.observation), (fused.reward, products.reward)):
        apart = (ours - theirs).abs()
        assert (apart < 1e-4).float().mean() > 0.98  # a near tie is a bin apart
        assert apart.max() < 1e-2


def test_a_copy_has_buffers_of_its_own():
    model = make_model(context=24, read="mode")
    state = model.start(make_history(model, [3]), horizon=6)
    state, _ = model.step(model.take(state, torch.zeros(3, dtype=torch.int64)), torch.zeros(3, 1))
    other = model.take(state, torch.tensor([2, 0]))
    _, expected = model.step(model.take(other, torch.arange(2)), torch.ones(2, 1))
    for _ in range(3):  # around the band
        state, _ = model.step(state, -torch.ones(3, 1))
    _, got = model.step(other, torch.ones(2, 1))
    assert torch.equal(got.observation, expected.observation)


@pytest.mark.parametrize("changes", [{"capture": "eager"}, {"attention": "products"}])
def test_products_are_used_where_asked_for(changes):
    model = make_model(**changes)
    assert isinstance(model.start(make_history(model, [2]), horizon=2).history, PackedHistory)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_numbers_use_products(dtype):
    model = make_model()
    model.network.to(dtype)
    assert isinstance(model.start(make_history(model, [2]), horizon=2).history, PackedHistory)


def test_a_state_goes_on_as_it_began():
    """What rows read is laid out at the start, whatever the model does then."""
    model = make_model(read="mode")
    past, actions = make_history(model, [3]), torch.zeros((1, 3, 1))
    expected = model.rollout(model.start(past, horizon=3), actions).observation
    got = model.with_decoding(capture="eager").rollout(model.start(past, horizon=3), actions).observation
    assert torch.equal(got, expected)


def test_padding_is_not_seen():
    model = make_model(read="mode", context=1023)
    spec = make_spec(5, 1)
    past = make_history(model, [1, 4])
    state = model.start(past, horizon=1)
    assert isinstance(state.history, PanelHistory)
    assert state.history.first.tolist() == [3 * (spec.observation_dim + spec.action_dim + 2), 0]
    alone = History(past.observation[:1, -1:], past.reward[:1, -1:], past.action[:1, :0], past.length[:1])
    _, both = model.step(state, torch.zeros(2, 1))
    _, one = model.step(model.start(alone, horizon=1), torch.zeros(1, 1))
    torch.testing.assert_close(both.observation[0], one.observation[0], rtol=0, atol=1e-4)


@settings(deadline=None)  # the first call loads what numba compiled
@given(
    st.lists(st.floats(-60.0, 60.0, width=32), min_size=1, max_size=300),
    st.floats(-1e4, 1e4, width=32),
)
def test_powers_of_two_are_exact_to_float32(x, shift):
    x = (np.array(x, dtype=np.float32) + np.float32(shift)).astype(np.float32)
    powers = x.copy()
    total = exp2_over_max(powers)
    expected = 2.0 ** (x - x.max()).astype(np.float64)
    np.testing.assert_allclose(powers, expected, rtol=3e-7)
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-6)


def test_far_below_the_largest_is_next_to_nothing():
    x = np.array([0.0, -1e30, -np.inf, -200.0], dtype=np.float32)
    assert exp2_over_max(x) == 1.0
    assert x[0] == 1.0
    assert (x[1:] <= 2e-38).all()


@settings(deadline=None)
@given(
    bins=st.integers(1, 300),
    scale=st.floats(0.0, 20.0),
    masked=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_bins_are_those_of_the_inverse_cumulative_distribution(bins, scale, masked, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn((32, bins), generator=generator)
    if masked:
        logits[:, bins // 2 + 1 :] = -torch.inf
    uniform = torch.rand(32, generator=generator)
    uniform[0] = 0.0
    chosen = sampled_bins(logits, uniform)
    exact = choose_bin(logits.double(), uniform.double())
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    for row in (chosen != exact).nonzero()[:, 0]:
        first = min(int(chosen[row]), int(exact[row]))
        assert abs(cumulative[row, first] - uniform[row]) < 1e-5  # a near tie
    assert (logits.gather(1, chosen[:, None]) > -torch.inf).all()
    assert (cumulative[torch.arange(32), chosen] > 0).all()


@pytest.mark.parametrize("size", [0, 100, 3 * 2**20])
def test_huge_pages_are_an_advice(size):
    numbers = torch.arange(size, dtype=torch.float32)
    assert in_huge_pages(numbers) is numbers
    assert torch.equal(numbers, torch.arange(size, dtype=torch.float32))


def test_the_last_bins_are_those_of_the_distribution():
    """Where sums round differently, what is beyond the distribution is not chosen."""
    logits = torch.full((64, 1024), -40.0)
    logits[:, 100:160] = torch.randn((64, 60), generator=torch.Generator().manual_seed(0))
    logits[:, 900:] = -torch.inf
    for k in range(1, 9):
        chosen = sampled_bins(logits, torch.full((64,), 1.0 - k * 2.0**-24))
        assert ((chosen >= 100) & (chosen < 160)).all()


def test_a_number_for_all_rows_and_other_shapes():
    logits = torch.randn((64, 8), generator=torch.Generator().manual_seed(0))
    expected = sampled_bins(logits, torch.full((64,), 0.5))
    assert torch.equal(sampled_bins(logits, torch.tensor([0.5])), expected)
    with pytest.raises(RuntimeError, match="expanded size"):
        sampled_bins(logits, torch.rand(3))


def test_autocast_is_refused():
    model = make_model()
    state = model.start(make_history(model, [2]), horizon=2)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(TypeError, match="plan outside of autocast"),
    ):
        model.step(state, torch.zeros(1, 1))


def test_products_are_used_where_threads_cannot_be_shared(monkeypatch, two_threads):
    monkeypatch.setattr(openmp, "_openmp", lambda: None)
    model = make_model()
    assert isinstance(model.start(make_history(model, [2]), horizon=2).history, PackedHistory)


def test_products_are_used_where_nothing_is_compiled(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    model = make_model(read="sample")
    state = model.start(make_history(model, [2]), horizon=2)
    assert isinstance(state.history, PackedHistory)
    model.step(state, torch.zeros(1, 1), generator=torch.Generator().manual_seed(0))


def test_the_next_process_finds_what_was_compiled(tmp_path):
    program = (
        "import numba, torch; from tdm_agents.world_models.transformer.cpu.attention_loop import attention;"
        "function = attention(1, 4); print(function.cache_hits)"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    hits = [
        int(subprocess.check_output([sys.executable, "-c", program], env=environment, text=True))
        for _ in range(2)
    ]
    assert hits == [0, 1]


@pytest.mark.parametrize("error", [RuntimeError("no locator"), OSError("no space left"), EOFError()])
def test_a_disk_that_cannot_be_used_is_done_without(error):
    def function():
        """Anything."""

    def compiler(**settings):
        if settings.get("cache"):
            raise error
        return lambda function: function

    assert kept(compiler, function) is function


def test_what_is_attended_to_is_told_to_the_loop():
    model = make_model()
    state = model.start(make_history(model, [2]), horizon=2).consume()
    view = state.view(model.network, offset=5, chunk=3)
    assert isinstance(view, LoopView)
    assert (view.place, view.start, view.seen) == (0, 0, 3)
