"""Windows of environments of any sizes in one forward: the same loss and gradients as each by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.protocols import Batch, MixedBatch
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.transformer.attention import band_mask
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.generalist import Generalist
from tdm_agents.world_models.transformer.layout import StepLayout
from tdm_agents.world_models.transformer.network import rotate
from tdm_agents.world_models.transformer.packing import Band, Windows, pack
from tdm_agents.world_models.transformer.preparing import drop_rewards
from tdm_agents.world_models.transformer.step_generalist import StepGeneralist
from tdm_agents.world_models.transformer.token_batch import step_tokens
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

FITTED = TokenizerConfig(bins=16)
PAPER = TokenizerConfig(observation="mu_law", target="absolute", bins=16)


@dataclass(frozen=True)
class Environment:
    """What a mixture may hold; ``lengths`` and ``ended`` are of its windows."""

    n: int
    m: int
    choices: tuple[int, ...]  # none where actions are continuous
    terminates: bool
    steps: int
    lengths: tuple[int, ...]
    ended: tuple[bool, ...]

    @property
    def spec(self):
        action = spaces.MultiDiscrete(self.choices) if self.choices else spaces.Box(-1.0, 1.0, (self.m,))
        return replace(
            spec_of(spaces.Box(-torch.inf, torch.inf, (self.n,)), action), terminates=self.terminates
        )

    def batch(self, generator):
        rows = (len(self.lengths), self.steps)
        length = torch.tensor(self.lengths)[:, None]
        ended = torch.tensor(self.ended)[:, None]
        step = torch.arange(self.steps)
        valid = step < length
        acted = valid & ~(ended & (step == length - 1))
        reward = torch.randn(rows, generator=generator)
        reward[:, 0] = torch.nan
        if self.choices:
            components = [torch.randint(c, rows, generator=generator) for c in self.choices]
            action = torch.stack(components, dim=-1)
        else:
            action = torch.rand((*rows, self.m), generator=generator) * 2 - 1
        return Batch(
            observation=torch.randn((*rows, self.n), generator=generator) * valid[..., None],
            reward=reward.masked_fill(~valid, torch.nan),
            action=action * acted[..., None],
            alive=acted if self.terminates else valid,
            valid=valid,
            acted=acted,
        )


@st.composite
def environments(draw):
    n, m, steps = draw(st.integers(1, 14)), draw(st.integers(1, 3)), draw(st.integers(2, 14))
    windows = draw(st.integers(1, 3))
    choices = draw(st.just(()) | st.lists(st.integers(2, 5), min_size=m, max_size=m).map(tuple))
    return Environment(
        n, m, choices, draw(st.booleans()), steps,
        lengths=tuple(draw(st.lists(st.integers(1, steps), min_size=windows, max_size=windows))),
        ended=tuple(draw(st.lists(st.booleans(), min_size=windows, max_size=windows))),
    )  # fmt: skip


@st.composite
def mixtures(draw):
    """A generalist of up to five environments, and a batch with windows of all of them."""
    several = {f"{i}": e for i, e in enumerate(draw(st.lists(environments(), min_size=1, max_size=5)))}
    largest = max(e.n + e.m + 2 for e in several.values())
    config = TransformerConfig(
        layers=2,
        width=16,
        heads=2,
        feedforward=16,
        tokenizer=draw(st.sampled_from([FITTED, PAPER])),
        context=draw(st.sampled_from([1, 3, 20])) * largest,  # shorter and longer than the windows
        action_weight=draw(st.sampled_from([0.0, 0.1, 1.0])),
        reward_dropout=draw(st.sampled_from([0.0, 1.0])),
    )
    seed = draw(st.integers(0, 2**32 - 1))
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = Generalist({name: e.spec for name, e in several.items()}, config)
    torch.nn.init.normal_(model.network.alive.weight)
    for name, environment in several.items():
        data = torch.randn((64, environment.n), generator=generator)
        model.environment(name).tokenizer.fit(data, 0.5 * data, data[:, 0])
    return model, MixedBatch({name: e.batch(generator) for name, e in several.items()})


def pack_windows(model, part):
    tokens = step_tokens(model.tokenizer, part.observation, part.reward, part.action)
    return Windows(tokens, model.layout, model.context_steps)


def plain_hidden(network, tokens, layout, context_steps):
    """Hidden states of one environment's windows, with all scores and a mask."""
    steps = tokens.shape[1]
    x = network.embed(tokens.flatten(1), layout.positions().repeat(steps))
    rotation = network.rotation(torch.arange(steps).repeat_interleave(layout.tokens))
    mask = band_mask(steps, layout.tokens, context_steps, tokens.device)
    for block in network.blocks:
        heads = (*x.shape[:2], 3, block.heads, -1)
        query, key, value = block.qkv(block.attention_norm(x)).view(heads).unbind(2)
        query, key = rotate(query, rotation), rotate(key, rotation)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        x = block.finish(x, torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2))
    return network.norm(x).view(*tokens.shape, -1)


def plain_loss(model, part, generator):
    """The loss of one environment's windows, kind by kind, and its metrics."""
    n, tokenizer, network, config = model.layout.observation_dim, model.tokenizer, model.network, model.config
    reward = part.reward if generator is None else drop_rewards(part.reward, config.reward_dropout, generator)
    tokens = step_tokens(tokenizer, part.observation, reward, part.action)
    hidden = plain_hidden(network, tokens, model.layout, model.context_steps)
    log_prob = network.logits(hidden).log_softmax(-1)  # [B, T, n + m + 2, bins]
    of_actions = tokenizer.mask_actions(network.logits(hidden[:, :, n + 1 : -1])).log_softmax(-1)
    moved = (part.valid[:, 1:] & part.acted[:, :-1])[..., None].expand(-1, -1, n)
    known = part.valid & ~part.reward.isnan()
    kinds = {
        "observation": (
            torch.cat([log_prob[:, :-1, -1:], log_prob[:, 1:, : n - 1]], dim=2),
            tokenizer.encode_target(part.observation[:, :-1], part.observation[:, 1:]),
            moved,
        ),
        "reward": (log_prob[:, :, n - 1], tokenizer.encode_reward(part.reward), known),
        "action": (
            of_actions,
            tokenizer.encode_action(part.action),
            part.acted[..., None].expand_as(part.action),
        ),
    }
    total = weight = 0.0
    metrics = {}
    for kind, (score, target, counts) in kinds.items():
        target = target.where(counts, 0)
        nll = -score.gather(-1, target[..., None])[..., 0][counts]
        kind_weight = config.action_weight if kind == "action" else 1.0
        total, weight = total + kind_weight * nll.sum(), weight + kind_weight * max(1, nll.numel())
        metrics[f"nll_{kind}"] = nll.sum() / max(1, nll.numel())
    loss = total / weight
    if model.spec.terminates:
        logit = network.alive(hidden[:, :, n - 1])[..., 0][part.valid]
        metrics["nll_alive"] = F.binary_cross_entropy_with_logits(logit, part.alive[part.valid].float())
        loss = loss + metrics["nll_alive"]
    return loss, metrics


def plain_mixture_loss(model, batch, generator):
    """One forward for each environment: mean of the losses, weighted by numbers of windows."""
    loss, sums, shares = 0.0, {}, {}
    for name, part in batch.parts.items():
        share = len(part.reward) / batch.windows
        one, metrics = plain_loss(model.environment(name), part, generator)
        loss = loss + share * one
        for key, value in metrics.items():
            sums[key] = sums.get(key, 0.0) + share * value
            shares[key] = shares.get(key, 0.0) + share
    return loss, {key: value / shares[key] for key, value in sums.items()}


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


@given(mixtures(), st.none() | st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_any_mixture_has_the_loss_and_the_gradient_of_its_environments(mixture, seed):
    model, batch = mixture

    def dropout():
        return None if seed is None else torch.Generator().manual_seed(seed)

    loss, metrics = model(batch, generator=dropout())
    expected_loss, expected_metrics = plain_mixture_loss(model, batch, dropout())
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-5)
    assert metrics.keys() == expected_metrics.keys()
    for key, value in metrics.items():
        torch.testing.assert_close(value, expected_metrics[key].detach(), rtol=1e-5, atol=1e-5, msg=key)
    found, expected = gradients(model, loss), gradients(model, expected_loss)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", [Generalist, StepGeneralist])
@given(mixtures())
@settings(deadline=None, max_examples=20)
def test_windows_padded_to_one_length_have_the_same_loss_and_gradient(kind, mixture):
    model, batch = mixture
    specs = {name: model.environment(name).spec for name in model.environments}
    other = kind(specs, model.config)
    other.load_state_dict(model.state_dict())
    padded = replace(other.preparation, pads=True)(batch, generator=None)
    (loss, metrics), (expected, expected_metrics) = other(padded), other(batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    assert metrics.keys() == expected_metrics.keys()
    found, plain = gradients(other, loss), gradients(other, expected)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-3, atol=1e-5, msg=name)


@given(mixtures())
@settings(deadline=None, max_examples=20)
def test_a_window_does_not_see_the_others(mixture):
    model, batch = mixture
    several = [pack_windows(model.environment(name), part) for name, part in batch.parts.items()]
    with torch.no_grad():
        together = model.network(pack(several))
        alone = torch.cat([
            model.network(pack([replace(windows, tokens=row)]))
            for windows in several
            for row in windows.tokens.split(1)
        ])  # fmt: skip
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_a_flat_sequence_says_where_each_token_stands():
    narrow, wide = StepLayout(1, 1, 3), StepLayout(3, 2, 3)
    first = Windows(torch.arange(16).view(2, 2, 4), narrow, 2)
    same_band = Windows(torch.arange(16, 24).view(1, 2, 4), narrow, 2)
    other = Windows(torch.arange(24, 38).view(1, 2, 7), wide, 2)
    packed = pack([first, same_band, other])
    assert packed.tokens.tolist() == list(range(38))
    assert packed.positions.tolist() == 6 * [0, 3, 4, 5] + 2 * [0, 1, 2, 3, 4, 5, 6]
    assert packed.steps.tolist() == 3 * (4 * [0] + 4 * [1]) + 7 * [0] + 7 * [1]
    assert packed.bands == (Band(4, 2, 2, windows=3), Band(7, 2, 2, windows=1))
    assert [band.tokens for band in packed.bands] == [24, 14]


@pytest.mark.parametrize("bf16", [False, True])
def test_the_loss_of_a_mixture_stays_float32(bf16):
    several = {
        "a": Environment(3, 1, (), True, 5, (5, 4), (False, True)),
        "b": Environment(2, 1, (3,), False, 5, (5,), (False,)),
    }
    config = TransformerConfig(layers=1, width=16, heads=2, feedforward=16, context=12, tokenizer=PAPER)
    torch.manual_seed(0)
    model = Generalist({name: e.spec for name, e in several.items()}, config)
    generator = torch.Generator().manual_seed(0)
    batch = MixedBatch({name: e.batch(generator) for name, e in several.items()})
    exact, _ = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss, metrics = model(batch)
    assert loss.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in metrics.values())
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
    assert all(gradient.isfinite().all() for gradient in gradients(model, loss).values())


def test_a_compiled_network_serves_every_mixture():
    """Only the parts that are per token are compiled, for any number of tokens."""
    several = {f"{n}": Environment(n, 1, (), False, 4, (4,), (False,)) for n in range(1, 7)}
    config = TransformerConfig(layers=2, width=16, heads=2, feedforward=16, context=12, tokenizer=PAPER)
    model = Generalist({name: e.spec for name, e in several.items()}, config)
    generator = torch.Generator().manual_seed(0)
    batches = [
        MixedBatch({name: several[name].batch(generator) for name in names})
        for names in ("12", "345", "26", "123456", "1")
    ]
    expected = [model(batch)[0].item() for batch in batches]
    graphs = []

    def compiler(graph, _):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    model.network.compile(backend=compiler)
    found, counts = [], []
    for batch in batches:
        found.append(model(batch)[0].item())
        counts.append(len(graphs))
    assert found == pytest.approx(expected, rel=1e-6)
    assert counts[0] > 0
    assert counts[1:] == 4 * [counts[1]]  # the second mixture shows that sizes vary
