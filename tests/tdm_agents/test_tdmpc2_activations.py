"""LayerNorm and activation together: the compiled loops and PyTorch's operations are one function."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from tdm_agents.world_models.tdmpc2 import activations
from tdm_agents.world_models.tdmpc2.activation_loops import loops
from tdm_agents.world_models.tdmpc2.activations import normed, sim_norm


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_formula(x, gain, shift, group):
    y = F.layer_norm(x, x.shape[-1:]) * gain[:, None] + shift[:, None]
    return sim_norm(y, group) if group else F.mish(y)


@pytest.mark.parametrize("group", [0, 4, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
def test_the_loops_are_the_formula_and_its_gradient(group, dtype, tolerance):
    exact = [3 * numbers(2, 7, 24), numbers(2, 24, seed=1), 2 * numbers(2, 24, seed=2)]
    exact[0] = exact[0].to(dtype).double()  # what both are given
    outer = numbers(2, 7, 24, seed=3).to(dtype).double()
    mine = [exact[0].to(dtype), *(z.float() for z in exact[1:])]
    for z in (*exact, *mine):
        z.requires_grad_()
    y, expected = normed(*mine, group=group), by_formula(*exact, group)
    assert y.dtype == dtype and y.shape == (2, 7, 24)
    torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)
    gradients = torch.autograd.grad(y, mine, outer.to(dtype))
    for found, true in zip(gradients, torch.autograd.grad(expected, exact, outer), strict=True):
        torch.testing.assert_close(found.double(), true, rtol=tolerance, atol=10 * tolerance)


def test_another_process_finds_the_loops_that_this_one_compiled():
    ask = (
        "from tdm_agents.world_models.tdmpc2.activation_loops import loops\n"
        "print([sum(loop.stats.cache_hits.values()) for loop in loops(4, 8)])"
    )
    loops(4, 8)
    asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[1, 1]"


@pytest.mark.parametrize("group", [0, 8])
def test_without_a_gradient_and_without_numba_it_is_the_same(group, monkeypatch):
    x, gain, shift = numbers(5, 3, 16).float(), numbers(16, seed=1).float(), numbers(16, seed=2).float()
    with torch.enable_grad():
        expected = normed(x, gain, shift, group=group)
    with torch.no_grad():
        torch.testing.assert_close(normed(x.clone(), gain, shift, group=group), expected, rtol=0, atol=0)
    monkeypatch.setattr(activations, "compiles", lambda: False)
    torch.testing.assert_close(normed(x, gain, shift, group=group), expected, rtol=1e-5, atol=2e-6)
    members = normed(x, gain.expand(5, 16), shift.expand(5, 16), group=group)
    torch.testing.assert_close(members, expected, rtol=1e-5, atol=2e-6)


def test_large_and_equal_numbers_are_no_trouble():
    gain = torch.full((16,), 30.0)
    x = torch.tensor([[1e15] + 15 * [-1e15], 16 * [7.0], 15 * [0.0] + [1e-30]])
    for group in (0, 8):
        assert normed(x.clone().requires_grad_(), gain, torch.zeros(16), group=group).isfinite().all()
    summed = normed(x.clone(), gain, torch.zeros(16), group=8).view(3, 2, 8).sum(dim=-1)
    torch.testing.assert_close(summed, torch.ones(3, 2))
