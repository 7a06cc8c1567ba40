"""A transition written token by token is the one that the model decodes at once."""

import math

import pytest
import torch
from gymnasium import spaces

from tdm_agents.protocols import HasTokens, History, ModelSpec
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.tokenizer import TokenizerConfig

N, HORIZON = 3, 3


def make_model(choices=(), *, dim=2, terminates=False, target="change", context=40):
    torch.manual_seed(0)
    spec = ModelSpec(
        observation_space=spaces.Box(-math.inf, math.inf, (N,)),
        action_space=spaces.MultiDiscrete(choices) if choices else spaces.Box(-1.0, 1.0, (dim,)),
        observation_dim=N,
        action_dim=len(choices) or dim,
        action_kind="discrete" if choices else "continuous",
        action_choices=choices,
        terminates=terminates,
    )
    config = TransformerConfig(
        layers=2,
        width=32,
        heads=2,
        feedforward=48,
        context=context,
        decoding=DecodingOptions(read="mode"),
        tokenizer=TokenizerConfig(bins=32, target=target),
    )
    model = TransformerWorldModel(spec, config)
    data = torch.randn((256, N), generator=torch.Generator().manual_seed(0))
    model.tokenizer.fit(data, 0.1 * data, data[:, 0])
    return model.eval()


def begin(model, batch=2):
    """States after a history of two steps."""
    generator = torch.Generator().manual_seed(1)
    m, kind = model.spec.action_dim, torch.zeros(batch, 1, model.spec.action_dim)
    history = History(
        observation=torch.randn((batch, 2, N), generator=generator),
        reward=torch.randn((batch, 2), generator=generator),
        action=kind.long() if model.spec.action_kind == "discrete" else kind,
        length=torch.full((batch,), 2),
    )
    assert history.action.shape[2] == m
    return model.start(history, horizon=HORIZON)


def random_tokens(model, rows, seed):
    counts = torch.tensor(model.spec.action_choices or [32] * model.spec.action_dim)
    draws = torch.rand((rows, len(counts)), generator=torch.Generator().manual_seed(seed))
    return (draws * counts).long()


def written(model, state, tokens):
    """The draft of the transitions with these action tokens and the likeliest outcomes."""
    draft = model.draft(state)
    for token in tokens.unbind(dim=1):
        draft = draft.push(token)
    for _ in range(N + 1):
        draft = draft.push(draft.log_probs().argmax(dim=1))
    return draft


@pytest.mark.parametrize(
    "model",
    [
        make_model(),
        make_model(target="absolute", dim=1),
        make_model((2, 5)),
        make_model(terminates=True),
        make_model(context=14),  # two steps: the band slides
    ],
)
def test_the_likeliest_outcomes_are_those_of_a_step(model):
    assert isinstance(model, HasTokens)
    rows = torch.tensor([0, 1, 1, 0])
    stepped, drafted = (model.take(begin(model), rows) for _ in range(2))
    for t in range(HORIZON):
        tokens = random_tokens(model, 4, t)
        action = model.tokenizer.decode_action(tokens)
        stepped, expected = model.step(stepped, action)
        drafted, same, found = written(model, drafted, tokens).finish()
        assert torch.equal(same, action)
        assert torch.equal(found.alive, expected.alive)
        torch.testing.assert_close(found.observation, expected.observation)
        torch.testing.assert_close(found.reward, expected.reward)
        torch.testing.assert_close(drafted.observation, stepped.observation)
        assert torch.equal(drafted.reward, stepped.reward)
    with pytest.raises(RuntimeError, match="horizon of 3 steps"):
        model.draft(drafted)


@pytest.mark.parametrize("choices", [(), (2, 5)])
def test_actions_are_as_probable_as_proposed(choices):
    model = make_model(choices)
    state = begin(model)
    proposal = model.propose(state, 3, generator=torch.Generator().manual_seed(0))
    draft = model.draft(model.take(state, torch.tensor([0, 0, 0, 1, 1, 1])))
    total = torch.zeros(6)
    for j, token in enumerate(model.tokenizer.encode_action(proposal.actions.flatten(0, 1)).unbind(dim=1)):
        log_prob = draft.log_probs()
        assert log_prob.shape == (6, choices[j] if choices else 32)
        torch.testing.assert_close(log_prob.exp().sum(dim=1), torch.ones(6))
        total += log_prob.gather(1, token[:, None])[:, 0]
        draft = draft.push(token)
    torch.testing.assert_close(total, proposal.log_prob.flatten())


def test_rows_are_forked_between_any_two_tokens():
    model = make_model()
    tokens = random_tokens(model, 2, 0)
    whole = written(model, begin(model), tokens)
    for cut in range(2 + N + 1):
        draft = model.draft(begin(model))
        for token in whole.tokens[:, :cut].unbind(dim=1):
            draft = draft.push(token)
        forked = draft.take(torch.tensor([1, 0, 1]))
        draft = draft.push(whole.tokens[:, cut])  # the other copy goes its own way
        for token in whole.tokens[:, cut:].unbind(dim=1):
            forked = forked.push(token[[1, 0, 1]])
        state, _, step = forked.finish()
        assert torch.equal(step.observation[0], step.observation[2])
        follow, _ = model.step(state, torch.zeros(3, 2))
        expected, _, same = written(model, begin(model), tokens).finish()
        assert torch.equal(step.observation[:2], same.observation[[1, 0]])
        expected, _ = model.step(expected, torch.zeros(2, 2))
        torch.testing.assert_close(follow.observation[:2], expected.observation[[1, 0]])


def test_what_was_consumed_or_is_not_complete_is_refused():
    model = make_model()
    state = begin(model)
    draft = model.draft(state)
    with pytest.raises(RuntimeError, match="consumed by step or rollout"):
        model.take(state, torch.tensor([0]))
    with pytest.raises(RuntimeError, match=r"0 of 6 tokens .* are chosen: push the others first"):
        draft.finish()
    after = draft.push(torch.tensor([0, 1]))
    for use in (draft.log_probs, draft.finish, lambda: draft.push(torch.zeros(2, dtype=torch.int64))):
        with pytest.raises(RuntimeError, match=r"consumed by push or finish.*take\(rows\) first"):
            use()
    for _ in range(5):
        after = after.push(torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match=r"6 of 6 tokens .* call finish\(\)"):
        after.log_probs()
    after.finish()
    with pytest.raises(RuntimeError, match="consumed"):
        after.take(torch.tensor([0]))
