"""The small model that imagines and proposes: contracts, and that it learns what it is shown."""

import dataclasses

import pytest
import torch
from gymnasium import spaces

from tdm_agents import TDMAgent, make_planner
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import Batch, HasProposal, History, UpdateSettings
from tdm_agents.registry import WORLD_MODELS, load
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.testing import (
    LinearQuadraticModel,
    check_trainable_model,
    check_world_model,
    recorded_episodes,
)
from tdm_agents.world_models.mlp_policy import MLPPolicyConfig, MLPWithPolicy

TINY = MLPPolicyConfig(hidden=8, layers=1, policy_hidden=32, policy_layers=1)
OBSERVATION = spaces.Box(-1.0, 1.0, (3,))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def spec(action=None):
    return spec_of(OBSERVATION, spaces.Box(-1.0, 1.0, (2,)) if action is None else action)


def shown(action_of, *, rows=64, seed=0, example=None):
    """Windows of one step whose actions are examples of ``action_of``, and no transition."""
    observation = torch.rand(rows, 2, 3, generator=seeded(seed)) * 2 - 1
    first = torch.tensor([True, False]).expand(rows, 2)
    action = action_of(observation)
    return Batch(
        observation=observation,
        reward=torch.full((rows, 2), torch.nan),
        action=action,
        alive=first,
        valid=first,
        acted=first,
        example=example,
    )


def learned(model, batches, steps=300):
    settings = UpdateSettings(steps=steps, learning_rate=1e-2, warmup_steps=0, weight_decay=0.0)
    optimizers = model.optimizers(settings)
    for step in range(steps):
        metrics = model.update(
            batches[step % len(batches)], optimizers, step=step, settings=settings, generator=seeded()
        )
    return metrics


@pytest.mark.parametrize("choices", [None, 3])
def test_it_keeps_both_contracts(choices):
    check_trainable_model(
        MLPWithPolicy,
        config=TINY,
        data={"one": recorded_episodes(model=LinearQuadraticModel(choices=choices))},
    )
    model = MLPWithPolicy(spec(None if choices is None else spaces.MultiDiscrete([3, 2])), TINY)
    now = torch.randn(4, 3, generator=seeded())
    check_world_model(model, History.of_observation(now, action_dim=2, discrete=choices is not None))
    assert isinstance(model, HasProposal) and load(WORLD_MODELS, "mlp_policy") is MLPWithPolicy


def test_it_imitates_what_it_is_shown_and_knows_the_spread():
    noise = 0.2 * torch.randn(4096, 2, 2, generator=seeded(5))

    def action_of(observation):
        return 0.5 * torch.tanh(observation[..., :2]) + torch.tensor([1.0, 0.0]) * noise[: len(observation)]

    model = MLPWithPolicy(spec(), TINY)
    metrics = learned(model, [shown(action_of, rows=4096)], steps=400)
    assert metrics["policy"] == pytest.approx(0.5 * 0.2**2, rel=0.1)  # the noise of one scalar of two
    now = torch.rand(500, 3, generator=seeded(7)) * 2 - 1
    state = model.start(History.of_observation(now, action_dim=2), horizon=1)
    likeliest = model.propose(state, 1, deterministic=True).actions[:, 0]
    torch.testing.assert_close(likeliest, 0.5 * torch.tanh(now[:, :2]), atol=0.06, rtol=0.0)
    drawn = model.propose(state, 50, generator=seeded()).actions
    spread = (drawn - likeliest[:, None]).std(dim=(0, 1))
    assert spread[0].item() == pytest.approx(0.2, rel=0.2) and spread[1].item() < 0.05
    assert drawn.abs().max() <= 1.0


def test_choices_are_imitated_one_by_one():
    def action_of(observation):
        return torch.stack([(observation[..., 0] > 0).long() * 2, (observation[..., 1] > 0).long()], dim=-1)

    model = MLPWithPolicy(spec(spaces.MultiDiscrete([3, 2])), TINY)
    learned(model, [shown(action_of, rows=512)])
    now = torch.rand(500, 3, generator=seeded(7)) * 2 - 1
    state = model.start(History.of_observation(now, action_dim=2, discrete=True), horizon=1)
    right = model.propose(state, 1, deterministic=True).actions[:, 0] == action_of(now)
    assert right.float().mean() > 0.95


def test_only_examples_are_imitated_and_dynamics_learn_from_the_rest():
    data = recorded_episodes()
    batch = WindowSampler(data, steps=4, batch_size=8, seed=0).batch(0)
    model = MLPWithPolicy(spec_of(data.info.observation_space, data.info.action_space), TINY)
    model.fit({"one": data})
    _, both = model(batch)
    _, alone = model(dataclasses.replace(batch, example=torch.zeros_like(batch.valid)))
    assert set(both) - set(alone) == {"policy"}
    assert both["observation"] == alone["observation"]
    first = torch.zeros_like(batch.valid)
    first[:, 0] = True
    _, of_first = model(dataclasses.replace(batch, example=first))
    _, of_one = model(dataclasses.replace(batch, example=None, valid=first, acted=first, alive=first))
    assert of_first["policy"] == of_one["policy"] and set(of_one) == {"policy"}


def test_nothing_to_learn_from_is_refused():
    model = MLPWithPolicy(spec(), TINY)
    batch = shown(lambda o: o[..., :2], example=torch.zeros(64, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="no transition"):
        model(batch)


def test_an_agent_of_it_acts_by_the_policy_imagines_and_is_saved(tmp_path):
    model = MLPWithPolicy(spec(), TINY)
    now = torch.tensor([0.1, -0.2, 0.3])
    agent = TDMAgent(model, make_planner("policy"))
    agent.save(tmp_path)
    action = TDMAgent.load(tmp_path)
    for one in (agent, action):
        one.reset()
    assert (agent.act(now.numpy()) == action.act(now.numpy())).all()
    guided = TDMAgent.load(tmp_path, planner="mppi", horizon=3, num_samples=16, num_policy=4)
    guided.reset()
    assert guided.action_codec.dim == 2 and guided.act(now.numpy()).shape == (2,)


@pytest.mark.parametrize(
    "settings", [{"policy_hidden": 0}, {"policy_layers": 0}, {"policy_weight": -1.0}, {"layers": 0}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match="expected at least"):
        MLPPolicyConfig(**settings)
