"""Decoding with a history that rows share equals one forward over the whole sequence without a cache."""

from dataclasses import replace

import pytest
import torch
from small_transformer import make_history, make_model, make_spec

from tdm_agents.protocols import HasProposal, HasTokens, History, WorldModel, looped_rollout
from tdm_agents.testing import check_world_model
from tdm_agents.world_models.transformer.decoding.cache import Capacity
from tdm_agents.world_models.transformer.decoding.reading import mean_near_mode
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.packing import Windows, pack
from tdm_agents.world_models.transformer.step_model import StepTransformer
from tdm_agents.world_models.transformer.token_batch import step_tokens
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig


def row_of(history, row):
    length = int(history.length[row])
    return History(
        history.observation[row : row + 1, -length:],
        history.reward[row : row + 1, -length:],
        history.action[row : row + 1, history.action.shape[1] - length + 1 :],
        history.length[row : row + 1],
    )


def actions_for(model, rows, horizon, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((rows, horizon, model.spec.action_dim), generator=generator) * 2 - 1


def uncached_logits(model, history, actions, rollout):
    """Logits of every imagined observation scalar and reward, ``[H, n + 1, bins]``, in one plain forward."""
    steps = history.observation.shape[1]
    keep = min(steps, model.context_steps)
    observation = torch.cat([history.observation[:, -keep:], rollout.observation], dim=1)
    reward = torch.cat([history.reward[:, -keep:], rollout.reward], dim=1)
    past = history.action[:, history.action.shape[1] - keep + 1 :]
    action = torch.cat([past, actions, torch.zeros_like(actions[:, :1])], dim=1)
    tokens = step_tokens(model.tokenizer, observation, reward, action)
    packed = pack([Windows(tokens, model.layout, model.context_steps)])
    hidden = model.network(packed).view(*tokens.shape[1:], -1)  # [T, n + m + 2, d]
    n = model.spec.observation_dim
    if model.layout.whole:
        return model.network.logits(hidden[keep - 1 : -1, [*range(n), n + 1]])
    read = torch.cat([hidden[keep - 1 : -1, -1:], hidden[keep:, :n]], dim=1)  # [H, n + 1, d]
    return model.network.logits(read)


def cached_logits(model, history, actions, monkeypatch):
    """The same logits as seen by the decoder, and the rollout."""
    seen = []
    plain = type(model.network).logits

    def listen(network, hidden):
        seen.append(plain(network, hidden))
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(type(model.network), "logits", listen)
        state = model.start(history, horizon=actions.shape[1])
        rollout = model.rollout(model.take(state, torch.zeros(1, dtype=torch.int64)), actions)
    flat = torch.cat([x.flatten(0, -2) for x in seen])
    return flat.view(actions.shape[1], -1, flat.shape[-1]), rollout


@pytest.mark.parametrize(
    ("n", "m", "context", "history", "horizon"),
    [
        (5, 1, 24, 1, 9),  # the band slides past an empty history
        (5, 1, 24, 3, 9),
        (5, 1, 8, 2, 5),  # room for one step: the band holds two
        (5, 1, 1023, 10, 6),  # nothing leaves the band
        (24, 6, 96, 6, 7),  # walker: the band slides over history and imagination
        (67, 21, 270, 4, 6),  # humanoid
    ],
)
@pytest.mark.parametrize("target", ["change", "absolute"])
@pytest.mark.parametrize("attention", ["fused", "products"])
@pytest.mark.parametrize("kind", [TransformerWorldModel, StepTransformer])
def test_cached_equals_uncached(n, m, context, history, horizon, target, attention, kind, monkeypatch):
    tokenizer = TokenizerConfig(target=target)
    settings = {"read": "mode", "attention": attention, "parallel": False, "kind": kind}
    model = make_model(n, m, context=context, tokenizer=tokenizer, **settings)
    past = make_history(model, [history])
    actions = actions_for(model, 1, horizon)
    cached, rollout = cached_logits(model, past, actions, monkeypatch)
    torch.testing.assert_close(cached, uncached_logits(model, past, actions, rollout), rtol=0, atol=1e-5)


@pytest.mark.parametrize("context", [8, 24, 1023])
@pytest.mark.parametrize("read", ["sample", "mode", "mean"])
@pytest.mark.parametrize("terminates", [False, True])
@pytest.mark.parametrize("attention", ["fused", "products"])
@pytest.mark.parametrize("kind", [TransformerWorldModel, StepTransformer])
def test_contract(context, read, terminates, attention, kind):
    spec = make_spec(5, 1, terminates=terminates)
    model = make_model(context=context, read=read, attention=attention, kind=kind, spec=spec)
    check_world_model(model, make_history(model, [3, 1, 2]))


@pytest.mark.parametrize("kind", [TransformerWorldModel, StepTransformer])
def test_histories_of_different_lengths_share_a_forward(kind):
    model = make_model(context=48, read="mode", kind=kind)
    history = make_history(model, [6, 1, 3])
    actions = actions_for(model, 3, 5)
    together = model.rollout(model.start(history, horizon=5), actions)
    for row in range(3):
        alone = model.rollout(model.start(row_of(history, row), horizon=5), actions[row : row + 1])
        # a near tie is a bin of 0.0007 apart
        torch.testing.assert_close(together.observation[row], alone.observation[0], rtol=0, atol=2e-3)


def test_rows_of_a_history_in_any_order():
    model = make_model(context=24, read="mode")
    state = model.start(make_history(model, [3, 2]), horizon=4)
    rows = torch.tensor([1, 0, 1, 1, 0, 1])
    actions = actions_for(model, 6, 4)
    mixed = model.rollout(model.take(state, rows), actions)
    for row, source in enumerate(rows):
        alone = model.rollout(model.take(state, source[None]), actions[row : row + 1])
        torch.testing.assert_close(mixed.observation[row], alone.observation[0], rtol=0, atol=1e-4)


def tensor_bytes(state):
    return state.history.nbytes + (0 if state.imagined is None else state.imagined.nbytes)


@pytest.mark.parametrize("attention", ["fused", "products"])
def test_history_is_never_copied_per_candidate(attention):
    """Bytes of keys and values grow with K and with the history, never with their product."""
    model = make_model(context=1023, read="mode", attention=attention)
    horizon = 4
    size = {}
    for steps in (2, 60):
        state = model.start(make_history(model, [steps]), horizon=horizon)
        for candidates in (1, 64):
            fork = model.take(state, torch.zeros(candidates, dtype=torch.int64))
            final = model.rollout(fork, actions_for(model, candidates, horizon)).state
            assert final.history is state.history
            size[steps, candidates] = tensor_bytes(final)
    assert size[60, 64] - size[60, 1] == size[2, 64] - size[2, 1]
    config = model.config
    layers = config.layers + (attention == "products")
    token = 2 * layers * config.width * 4
    tokens = Capacity.of(horizon, model.context_steps, model.layout).most
    assert tokens <= (horizon + 1) * model.layout.tokens
    assert size[2, 64] - size[2, 1] == 63 * tokens * token


def test_forward_calls_do_not_depend_on_the_batch():
    model = make_model(context=24, parallel=False)
    calls = []
    model.network.norm.register_forward_hook(lambda *_: calls.append(1))
    counts = []
    for batch in (1, 5):
        calls.clear()
        state = model.start(make_history(model, [2] * batch), horizon=3)
        model.rollout(state, actions_for(model, batch, 3))
        counts.append(len(calls))
    assert counts == [3 * (5 + 1)] * 2  # [r, SEP, a] and n scalars a step


def test_sampling_draws_the_predicted_distribution():
    model = make_model(read="sample")
    state = model.start(make_history(model, [2]), horizon=1)
    rows = torch.zeros(4000, dtype=torch.int64)
    action = torch.zeros((4000, 1))
    _, step = model.step(model.take(state, rows), action, generator=torch.Generator().manual_seed(0))
    bins = model.tokenizer.encode_target(state.observation[rows], step.observation)[:, 0]

    seen = []
    model.network.register_module("head", torch.nn.Sequential(model.network.head))
    model.network.head.register_forward_hook(lambda *a: seen.append(a[2]))
    model.network.head.weight = model.network.head[0].weight
    model.step(model.take(state, rows[:1]), action[:1], generator=torch.Generator().manual_seed(0))
    expected = seen[0].softmax(dim=-1).flatten().double()
    found = torch.bincount(bins, minlength=len(expected)).double() / len(bins)
    # two cumulative distributions of 4000 draws: Kolmogorov-Smirnov at far beyond one in a million
    assert (found.cumsum(0) - expected.cumsum(0)).abs().max() < 2.7 / 4000**0.5


def test_rollout_beyond_the_horizon_is_refused():
    model = make_model()
    state = model.start(make_history(model, [1]), horizon=2)
    with pytest.raises(RuntimeError, match="horizon of 2"):
        looped_rollout(model, state, actions_for(model, 1, 3))


def test_bad_input_is_refused():
    model = make_model()
    history = make_history(model, [2])
    with pytest.raises(ValueError, match=r"history.observation has shape \(1, 2, 4\)"):
        model.start(replace(history, observation=history.observation[..., :4]), horizon=1)
    broken = history.observation.clone()
    broken[0, 1, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        model.start(replace(history, observation=broken), horizon=1)
    with pytest.raises(ValueError, match="horizon is 0"):
        model.start(history, horizon=0)
    with pytest.raises(ValueError, match=r"action has shape \(1, 2\)"):
        model.step(model.start(history, horizon=1), torch.zeros((1, 2)))
    with pytest.raises(ValueError, match="action holds NaN"):
        model.step(model.start(history, horizon=1), torch.full((1, 1), float("nan")))
    with pytest.raises(ValueError, match="context of 7 tokens"):
        make_model(context=7)


def test_a_band_holds_the_two_steps_of_a_transition_however_large_they_are():
    assert make_model(11, 3, context=24).spec.history_steps == 2
    assert make_model(5, 1, context=24).spec.history_steps == 3


def test_proposal_follows_the_action_distribution():
    model = make_model(5, 2)
    state = model.start(make_history(model, [3, 2]), horizon=1)
    sampled = model.propose(state, 8, generator=torch.Generator().manual_seed(0))
    assert sampled.actions.shape == (2, 8, 2)
    assert sampled.log_prob is not None
    assert sampled.log_prob.shape == (2, 8)
    assert (sampled.actions.abs() <= 1).all()
    best = model.propose(state, 3, deterministic=True)
    assert (best.actions == best.actions[:, :1]).all()
    assert best.log_prob is not None
    again = model.propose(state, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sampled.actions, again.actions, rtol=0, atol=0)
    # the most likely first token is at least as likely as any sampled one
    model.step(state, torch.zeros((2, 2)))  # still usable: a proposal consumes nothing


@pytest.mark.gpu
def test_cuda_equals_cpu():
    model = make_model(context=24, read="mode")
    history, actions = make_history(model, [3]), actions_for(model, 1, 5)
    expected = model.rollout(model.start(history, horizon=5), actions).observation
    model.to("cuda")
    moved = History(*(getattr(history, f).cuda() for f in ("observation", "reward", "action", "length")))
    found = model.rollout(model.start(moved, horizon=5), actions.cuda()).observation
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4)


def test_a_transformer_of_whole_steps_proposes_nothing_and_has_no_tokens_to_search():
    model = make_model(kind=StepTransformer)
    assert isinstance(model, WorldModel) and not isinstance(model, HasProposal | HasTokens)
    for option, value in (("parallel", True), ("capture", "eager")):
        with pytest.raises(ValueError, match=f"{option} is {value!r}, but a step_transformer computes"):
            model.with_decoding(**{option: value})
        with pytest.raises(ValueError, match=f"{option} is {value!r}, but a step_transformer computes"):
            make_model(kind=StepTransformer, **{option: value})


def test_the_likeliest_action_is_the_mean_near_the_likeliest_token():
    model = make_model(5, 2, read="mean", parallel=False)
    state = model.start(make_history(model, [3]), horizon=1)
    (action,) = model.propose(state, 1, deterministic=True).actions[0]
    draft = model.draft(model.take(state, torch.tensor([0])))
    bins = model.tokenizer.action
    for j in range(2):
        mean = mean_near_mode(draft.log_probs(), bins.centres(j), model.tokenizer.config.bins // 4)
        torch.testing.assert_close(action[j], mean[0])
        draft = draft.push(bins.encode(mean, j))
    likeliest = model.with_decoding(action_window=0)
    first = likeliest.propose(likeliest.start(make_history(model, [3]), horizon=1), 1, deterministic=True)
    assert bins.encode(first.actions[0, 0, :1], 0) == model.draft(state).log_probs().argmax()
    assert not torch.equal(first.actions[0, 0], action)
