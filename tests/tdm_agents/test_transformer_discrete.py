"""Discrete actions in the transformer: one token a component, its choice."""

import math

import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tdm_agents.protocols import Batch, History, ModelSpec
from tdm_agents.registry import make_planner
from tdm_agents.testing import check_world_model
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.tokenizer import Tokenizer, TokenizerConfig

N = 3


def make_model(*choices, seed=0, **settings):
    torch.manual_seed(seed)
    spec = ModelSpec(
        observation_space=spaces.Box(-math.inf, math.inf, (N,)),
        action_space=spaces.MultiDiscrete(choices),
        observation_dim=N,
        action_dim=len(choices),
        action_kind="discrete",
        action_choices=choices,
    )
    tokens = TokenizerConfig(bins=32)
    config = TransformerConfig(
        layers=1,
        width=32,
        heads=2,
        feedforward=48,
        context=40,
        tokenizer=tokens,
        decoding=DecodingOptions(**settings),
    )
    model = TransformerWorldModel(spec, config)
    data = torch.randn((256, N), generator=torch.Generator().manual_seed(seed))
    model.tokenizer.fit(data, 0.1 * data, data[:, 0])
    return model.eval()


def make_history(model, lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    batch, steps, choices = len(lengths), max(lengths), torch.tensor(model.spec.action_choices)
    history = History(
        observation=torch.randn((batch, steps, N), generator=generator),
        reward=torch.randn((batch, steps), generator=generator),
        action=(torch.rand((batch, steps - 1, len(choices)), generator=generator) * choices).long(),
        length=torch.tensor(lengths),
    )
    for row, length in enumerate(lengths):
        history.observation[row, : steps - length] = 0.0
        history.reward[row, : steps - length + 1] = math.nan
        history.action[row, : steps - length] = 0
    return history


@pytest.mark.parametrize("choices", [(2,), (3, 5)])
@pytest.mark.parametrize("read", ["sample", "mode", "mean"])
def test_contract(choices, read):
    model = make_model(*choices, read=read)
    check_world_model(model, make_history(model, [3, 1, 2]))


@settings(max_examples=30, deadline=None)
@given(choices=st.lists(st.integers(1, 32), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_a_choice_is_its_token(choices, seed):
    tokenizer = Tokenizer(TokenizerConfig(bins=32), N, len(choices), choices)
    draws = torch.rand((7, len(choices)), generator=torch.Generator().manual_seed(seed))
    action = (draws * torch.tensor(choices)).long()
    token = tokenizer.encode_action(action)
    assert torch.equal(token, action)
    assert torch.equal(tokenizer.encode_action(action.float()), token)  # as training data may hold them
    assert torch.equal(tokenizer.decode_action(token), action)
    beyond = torch.tensor(choices)
    assert torch.equal(tokenizer.encode_action(beyond), beyond - 1)  # values clip, as they do everywhere


@pytest.mark.parametrize("deterministic", [False, True])
def test_only_choices_that_exist_are_proposed(deterministic):
    model = make_model(2, 5)
    state = model.start(make_history(model, [3, 2]), horizon=1)
    proposal = model.propose(
        state, 200, generator=torch.Generator().manual_seed(0), deterministic=deterministic
    )
    assert proposal.actions.dtype == torch.int64
    assert proposal.actions.shape == (2, 200, 2)
    seen = proposal.actions.flatten(0, 1)
    assert (seen >= 0).all()
    assert (seen < torch.tensor([2, 5])).all()
    if not deterministic:
        assert seen.unique(dim=0).shape[0] == 10
        # the probabilities of all ten actions of a row sum to one
        actions, index = proposal.actions[0].unique(dim=0, return_inverse=True)
        first = [int((index == i).nonzero()[0]) for i in range(len(actions))]
        assert len(first) == 10
        assert proposal.log_prob[0, first].exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def test_the_policy_and_the_dynamics_are_learned():
    """Choice 2 moves the first scalar up, 0 down; the data choose by the second scalar's sign."""
    model = make_model(3)
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn((64, 2, N), generator=generator)
    action = torch.where(observation[:, :1, 1:2] > 0.0, 2, 0)
    observation[:, 1] = observation[:, 0]
    observation[:, 1, 0] += 0.3 * (action[:, 0, 0] - 1)
    known = torch.ones(64, 2, dtype=torch.bool)
    acted = torch.tensor([True, False]).expand(64, 2)
    actions = torch.cat([action, torch.zeros_like(action)], dim=1)
    reward = torch.full((64, 2), math.nan)
    batch = Batch(observation, reward, actions.float(), known, known, acted)
    change = observation[:, 1] - observation[:, 0]
    model.tokenizer.fit(observation.flatten(0, 1), change, torch.tensor([0.0, 1.0]))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss, metrics = model(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.isfinite()
    assert metrics["nll_action"] < 0.2
    state = model.start(History.of_observation(observation[:, 0], action_dim=1, discrete=True), horizon=1)
    proposed = model.propose(state, 1, deterministic=True).actions[:, 0]
    assert (proposed == action[:, 0]).float().mean() > 0.9
    rows = torch.arange(64)
    _, up = model.step(model.take(state, rows), torch.full((64, 1), 2))
    _, down = model.step(state, torch.zeros(64, 1, dtype=torch.int64))
    assert (up.observation[:, 0] - down.observation[:, 0]).mean().item() == pytest.approx(0.6, abs=0.2)


def test_before_training_every_choice_costs_the_same():
    model = make_model(4)
    torch.nn.init.zeros_(model.network.head.weight)
    known = torch.ones(2, 3, dtype=torch.bool)
    history = make_history(model, [3, 3])
    action = torch.cat([history.action, history.action[:, :1]], dim=1)
    _, metrics = model(Batch(history.observation, history.reward, action, known, known, known))
    assert metrics["nll_action"].item() == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    "name", ["random_shooting", "cem", "mppi", "proposal_shooting", "beam_search", "policy"]
)
def test_every_planner_plans_with_it(name):
    model = make_model(3, 2)
    planner = make_planner(name, horizon=2)
    found = planner.plan(
        model,
        model.start(make_history(model, [2, 1]), horizon=2),
        planner.init(model.spec, 2),
        elapsed=torch.zeros(2, dtype=torch.int64),
        generator=torch.Generator().manual_seed(0),
    )
    assert found.sequence.shape == (2, 2, 2)
    assert found.action.dtype == torch.int64
    assert (found.sequence < torch.tensor([3, 2])).all()


def test_it_is_the_same_after_saving_and_loading(tmp_path):
    model = make_model(3, 5, read="mode")
    model.save(tmp_path)
    loaded = TransformerWorldModel.load(tmp_path)
    assert loaded.spec.action_choices == (3, 5)
    history, action = make_history(model, [2]), torch.tensor([[2, 4]])
    _, ours = model.step(model.start(history, horizon=1), action)
    _, theirs = loaded.step(loaded.start(history, horizon=1), action)
    assert torch.equal(ours.observation, theirs.observation)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"action_choices=\(3, 33\); expected 1 to 32 choices.*raise bins"):
        make_model(3, 33)
    with pytest.raises(ValueError, match=r"action_choices=\(3, 2\); expected 1, one per component"):
        Tokenizer(TokenizerConfig(bins=32), N, 1, (3, 2))
    model = make_model(3)
    state = model.start(make_history(model, [1]), horizon=1)
    with pytest.raises(ValueError, match=r"action is torch.float32; expected int64 choices"):
        model.step(state, torch.zeros(1, 1))
    spec = model.spec
    with pytest.raises(ValueError, match="action_choices is empty"):
        TransformerWorldModel(
            type(spec)(spec.observation_space, spec.action_space, N, 1, "discrete"), model.config
        )
