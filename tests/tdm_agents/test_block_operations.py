"""What is between the products of a block: compiled loops say what PyTorch's operations say."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tdm_agents.world_models.transformer.attention import packed_attention
from tdm_agents.world_models.transformer.cpu.training_loops import runs_loops
from tdm_agents.world_models.transformer.dropout import Dropout
from tdm_agents.world_models.transformer.network import Block, NetworkConfig
from tdm_agents.world_models.transformer.operations import (
    added,
    gated,
    negative_log_likelihood,
    normed,
    rotated,
)
from tdm_agents.world_models.transformer.packing import Band
from tdm_agents.world_models.transformer.token_batch import IGNORED

DTYPES = [torch.float32, torch.bfloat16]
ROUNDING = {torch.float32: {"rtol": 2e-5, "atol": 2e-5}, torch.bfloat16: {"rtol": 2e-2, "atol": 2e-2}}
sizes = st.integers(1, 40)


@pytest.fixture(params=[1, 2], autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def random(*shape, dtype=torch.float32, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(shape, generator=generator)).to(dtype).requires_grad_()


def assert_same(operation, *inputs, precision):
    """An operation of these inputs has the results and gradients of itself in float64, where no loop runs."""
    assert runs_loops(inputs[0])
    exact = [x.detach().double().requires_grad_(x.requires_grad) for x in inputs]
    assert not runs_loops(exact[0])
    found, expected = operation(*inputs), operation(*exact)
    found, expected = ((x,) if isinstance(x, torch.Tensor) else x for x in (found, expected))
    ways = [torch.randn(x.shape, dtype=torch.float64) for x in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, **precision)
    sum((x * way.to(x.dtype)).sum() for x, way in zip(found, ways, strict=True)).backward()
    sum((x * way).sum() for x, way in zip(expected, ways, strict=True)).backward()
    for one, other in zip(inputs, exact, strict=True):
        if one.requires_grad:
            assert one.grad.dtype == one.dtype
            scale = max(1.0, other.grad.abs().max().item())
            torch.testing.assert_close(one.grad.double() / scale, other.grad / scale, **precision)


@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes, sizes, st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_norms(dtype, rows, width, seed):
    gain, shift = (random(width + 1, seed=seed + i) for i in (1, 2))

    def operation(x, gain, shift):
        norm = nn.LayerNorm(width + 1, dtype=x.dtype)
        del norm.weight, norm.bias
        norm.weight, norm.bias = gain, shift
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return normed(x, norm)

    x = random(rows, width + 1, seed=seed, spread=3.0) + 0.5
    x = x.detach().requires_grad_()
    if dtype == torch.float32 and width > 1:  # two numbers are normalised to their signs, at a steep slope
        assert_same(operation, x, gain, shift, precision={"rtol": 1e-3, "atol": 1e-3})
    assert operation(x, gain, shift).dtype == dtype
    torch.testing.assert_close(
        operation(x, gain, shift).float(), F.layer_norm(x, x.shape[1:], gain, shift), **ROUNDING[dtype]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes, st.integers(1, 3), st.integers(1, 9), st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_rotations(dtype, rows, heads, half, seed):
    angle = random(rows, half, seed=seed + 1).detach()

    def operation(qkv):
        of = angle.to(torch.promote_types(qkv.dtype, torch.float32))
        return rotated(qkv, (of.cos(), of.sin()), heads)

    assert_same(operation, random(rows, 6 * heads * half, dtype=dtype, seed=seed), precision=ROUNDING[dtype])


bands = st.lists(
    st.builds(
        Band,
        step_tokens=st.integers(1, 9),
        steps=st.integers(1, 20),
        context_steps=st.integers(1, 25),
        windows=st.integers(1, 2),
        whole=st.booleans(),
    ),
    min_size=1,
    max_size=3,
).map(tuple)


@given(bands, st.integers(1, 3), st.integers(1, 40), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_attention_inside_bands(bands, heads, head_dim, seed):
    tokens = sum(band.tokens for band in bands)
    exact = [random(heads, tokens, head_dim, seed=seed + i, spread=2.0).double().detach() for i in range(3)]
    way = torch.randn(tokens, heads * head_dim, dtype=torch.float64)
    found = []
    for dtype in (torch.float32, torch.float64):  # a loop, and PyTorch's attention
        inputs = [x.to(dtype).requires_grad_() for x in exact]
        out = packed_attention(*inputs, SimpleNamespace(bands=bands))
        found.append([out, *torch.autograd.grad((out * way.to(dtype)).sum(), inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-4, atol=2e-4)


def test_attention_under_autocast_is_rounded_once():
    bands = (Band(step_tokens=8, steps=12, context_steps=5, windows=2),)
    inputs = [random(2, 192, 24, seed=i) for i in range(3)]
    exact = packed_attention(*inputs, SimpleNamespace(bands=bands))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = packed_attention(*inputs, SimpleNamespace(bands=bands))
    assert torch.equal(rounded, exact.bfloat16())


@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes, sizes, st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_gates(dtype, rows, width, seed):
    x = random(rows, 2 * width, dtype=dtype, seed=seed, spread=4.0)
    assert_same(gated, x, precision=ROUNDING[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes, sizes, st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_sums(dtype, rows, width, drops, seed):
    kept = (random(rows, width, seed=seed + 2).detach() > 0).float() * 2 if drops else None
    x, y = random(rows, width, seed=seed), random(rows, width, dtype=dtype, seed=seed + 1)
    assert_same(lambda x, y: added(x, y, kept), x, y, precision=ROUNDING[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes, st.integers(2, 70), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_likelihoods(dtype, rows, bins, limited, seed):
    generator = torch.Generator().manual_seed(seed)
    choices = torch.randint(1, bins + 1, (rows,), generator=generator) if limited else None
    target = torch.randint(0, bins, (rows,), generator=generator)
    if choices is not None:
        target = target % choices
    target[torch.rand(rows, generator=generator) < 0.2] = IGNORED
    logits = random(rows, bins, dtype=dtype, seed=seed, spread=5.0)
    found = negative_log_likelihood(logits, target, choices)
    assert found.dtype == torch.float32
    assert (found[target == IGNORED] == 0).all()
    expected = negative_log_likelihood(logits.detach(), target, choices)  # no gradient is wanted: no loop
    torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=1e-5)
    way = torch.rand(rows, generator=generator)
    (gradient,) = torch.autograd.grad((found * way).sum(), logits)
    exact = logits.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad((negative_log_likelihood(exact, target, choices) * way).sum(), exact)
    torch.testing.assert_close(gradient.double(), wanted, **ROUNDING[dtype])


def test_nothing_is_predicted_of_no_rows():
    logits = torch.empty((0, 7), requires_grad=True)
    found = negative_log_likelihood(logits, torch.empty(0, dtype=torch.int64), None)
    found.sum().backward()
    assert found.shape == (0,)
    assert logits.grad.shape == (0, 7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_have_no_finite_likelihood(value):
    logits = torch.zeros((3, 40))
    logits[1, 17] = value
    found = negative_log_likelihood(logits.requires_grad_(), torch.tensor([0, 1, 2]), None)
    assert found.isfinite().tolist() == [True, False, True]


def test_in_float64_on_other_shapes_and_without_a_gradient_pytorch_computes():
    x = torch.randn(3, 4, requires_grad=True)
    assert runs_loops(x)
    assert not runs_loops(x.double())
    assert not runs_loops(x[None])
    with torch.no_grad():
        assert not runs_loops(x)


@pytest.mark.parametrize(
    ("weights", "products"),
    [
        (torch.bfloat16, None),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, None),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
        (torch.float64, None),
    ],
)
def test_a_block_of_any_types_is_that_block(weights, products):
    sizes = {"layers": 1, "width": 16, "heads": 2, "feedforward": 24}
    config = NetworkConfig(**sizes, bins=8, max_observation=3, max_action=1)
    block, band = Block(config), Band(step_tokens=6, steps=4, context_steps=2, windows=2)
    packed = SimpleNamespace(bands=(band,), padding=None)
    x, angle = random(band.tokens, 16), torch.randn(band.tokens, 4)
    found = []
    for dtype in (weights, torch.float64):
        one = Block(config)
        one.load_state_dict(block.state_dict())
        one.to(dtype)
        inputs = x.detach().to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=products, enabled=products is not None and dtype == weights):
            out = one(inputs, (angle.cos().to(dtype), angle.sin().to(dtype)), packed)
        out.sum().backward()
        found.append([out.double(), inputs.grad.double(), one.qkv.weight.grad.double()])
    for of_types, exact in zip(*found, strict=True):
        scale = exact.abs().max()
        torch.testing.assert_close(of_types / scale, exact / scale, rtol=0, atol=0.05)


def test_dropout_has_its_rate_and_every_draw_is_another():
    masks = Dropout(0.3, seeds=(5, 2**62 - 1), tokens=(300, 500)).masks(torch.zeros(800, 64).requires_grad_())
    first, second = next(masks), next(masks)
    torch.testing.assert_close(first.unique(), torch.tensor([0.0, 1 / 0.7]))
    gone, gone_then = first == 0, second == 0
    assert gone.float().mean() == pytest.approx(0.3, abs=0.01)
    for other in (gone_then, gone.roll(1, 0), gone.roll(1, 1), gone.roll(300, 0)):
        assert (gone & other).float().mean() == pytest.approx(0.09, abs=0.01)


def test_a_window_has_its_own_draws_wherever_it_is_read():
    like = torch.zeros(30, 8).requires_grad_()
    together = Dropout(0.5, seeds=(3, 4), tokens=(10, 20)).masks(like)
    alone = Dropout(0.5, seeds=(4,), tokens=(20,)).masks(like[10:])
    for _ in range(3):
        torch.testing.assert_close(next(together)[10:], next(alone))
