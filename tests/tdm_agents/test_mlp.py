"""The MLP delta model: the protocol, learning, files."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from gymnasium import spaces
from installed_versions import TYPED_DISCRETE

from tdm_agents.data.decisions import Decisions
from tdm_agents.data.moments import moments
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import History, ModelSpec
from tdm_agents.spaces.spec_json import spec_from_json, spec_to_json
from tdm_agents.storage import CheckpointError
from tdm_agents.testing import check_world_model
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

N, M = 3, 2
OBSERVATION = spaces.Box(-np.inf, np.inf, (N,), np.float64)
ACTION = spaces.Box(-2.0, 2.0, (M,), np.float32)
SMALL = MLPConfig(hidden=16, layers=2)


def spec(**settings):
    return ModelSpec(OBSERVATION, ACTION, N, M, **settings)


def linear_system(episodes=20, steps=30, seed=0):
    """o' = o + 0.1 (A o + B a) + far from 0; reward = first scalar of o'; terminates beyond a bound."""
    rng = np.random.default_rng(seed)
    a, b = np.diag([-1.0, -0.5, -2.0]), rng.normal(size=(N, M))
    parts, offsets = [], [0]
    for _ in range(episodes):
        o, action = np.empty((steps, N)), rng.uniform(-1, 1, (steps, M))
        o[0] = rng.normal(size=N)
        for t in range(steps - 1):
            o[t + 1] = o[t] + 0.1 * (a @ o[t] + b @ action[t])
        reward, alive = 7 * o[:, 0].copy(), np.ones(steps, bool)
        reward[0] = np.nan
        action[-1] = 0
        parts.append((100 + 10 * o, reward, action, alive))
        offsets.append(offsets[-1] + steps)
    arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
    steps_ = Decisions(*(x.astype(np.float32) for x in arrays[:3]), arrays[3])
    info = TrajectoryInfo("", OBSERVATION, ACTION, 1, ())
    return Trajectories.from_arrays(steps_, offsets=np.array(offsets), info=info)


def batch(trajectories, index=0):
    return WindowSampler(trajectories, steps=8, batch_size=16, seed=0).batch(index)


def history(rows=3, steps=4):
    generator = torch.Generator().manual_seed(5)
    return History(
        observation=torch.randn(rows, steps, N, generator=generator),
        reward=torch.zeros(rows, steps),
        action=torch.rand(rows, steps - 1, M, generator=generator) * 2 - 1,
        length=torch.full((rows,), steps),
    )


@pytest.mark.parametrize("terminates", [False, True])
def test_it_keeps_the_contract_of_world_models(terminates):
    model = MLPWorldModel(spec(terminates=terminates), SMALL)
    check_world_model(model, history(), reads_history=False)


def test_a_consumed_state_is_refused_with_the_remedy():
    model = MLPWorldModel(spec(), SMALL)
    state = model.start(history(), horizon=2)
    model.step(state, torch.zeros(3, M))
    with pytest.raises(RuntimeError, match=r"consumed.*take\(\)"):
        model.take(state, torch.tensor([0]))


def test_it_learns_a_linear_system_in_its_own_units():
    torch.set_num_threads(1)
    data = linear_system()
    model = MLPWorldModel(spec(), MLPConfig(hidden=32, layers=2))
    model.fit({"any": data})
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for index in range(300):
        loss, _ = model(batch(data, index))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    episode = linear_system(episodes=1, seed=0).episode(0)
    state = model.start(
        History.of_observation(torch.from_numpy(episode.observation[:-1]), action_dim=M), horizon=1
    )
    _, step = model.step(state, torch.from_numpy(episode.action[:-1]))
    change = np.diff(episode.observation, axis=0)
    error = step.observation.numpy() - episode.observation[1:]
    assert np.abs(error).mean() < 0.1 * np.abs(change).mean()
    assert np.abs(step.reward.numpy() - episode.reward[1:]).mean() < 0.1 * np.nanstd(episode.reward)


def test_fitting_normalises_observations_changes_and_rewards():
    data = linear_system()
    model = MLPWorldModel(spec(), SMALL)
    model.fit({"any": data})
    observation = np.concatenate([data.episode(e).observation for e in range(data.num_episodes)])
    change = np.concatenate([np.diff(data.episode(e).observation, axis=0) for e in range(data.num_episodes)])
    reward = np.concatenate([data.episode(e).reward[1:] for e in range(data.num_episodes)])
    np.testing.assert_allclose(model.observation_mean, observation.mean(0), rtol=1e-4)
    np.testing.assert_allclose(model.output_scale[:-1], change.std(0), rtol=1e-4)
    np.testing.assert_allclose(model.output_scale[-1], reward.std(), rtol=1e-4)


def test_a_scalar_that_never_changes_stays_finite():
    data = linear_system()
    data.parts[0].observation[:, 1] = 3.0
    model = MLPWorldModel(spec(), SMALL)
    model.fit({"any": data})
    loss, _ = model(batch(data))
    assert loss.isfinite()


def test_unknown_rewards_reach_neither_loss_nor_gradient():
    model = MLPWorldModel(spec(), SMALL)
    windows = batch(linear_system())
    unknown = dataclasses.replace(windows, reward=torch.full_like(windows.reward, float("nan")))
    loss, metrics = model(unknown)
    loss.backward()
    assert metrics["reward"] == 0
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_padding_does_not_matter():
    model = MLPWorldModel(spec(terminates=True), SMALL)
    windows = batch(linear_system(steps=5))
    assert not windows.valid.all()
    other = dataclasses.replace(
        windows,
        observation=torch.where(windows.valid[..., None], windows.observation, 9.0),
        action=torch.where(windows.acted[..., None], windows.action, 9.0),
    )
    assert model(windows)[0] == model(other)[0]


def test_alive_is_learned_only_from_data_that_end():
    windows = batch(linear_system())
    assert "alive" not in MLPWorldModel(spec(), SMALL)(windows)[1]
    assert "alive" in MLPWorldModel(spec(terminates=True), SMALL)(windows)[1]


def test_discrete_actions_are_told_apart():
    space = spaces.MultiDiscrete([3, 2])
    model = MLPWorldModel(
        ModelSpec(OBSERVATION, space, N, 2, action_kind="discrete", action_choices=(3, 2)), SMALL
    )
    state = model.start(History.of_observation(torch.zeros(3, N), action_dim=2, discrete=True), horizon=1)
    _, step = model.step(state, torch.tensor([[0, 1], [2, 1], [2, 0]]))
    assert len({tuple(row.tolist()) for row in step.observation}) == 3


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    first, second, other = (MLPWorldModel(spec(), SMALL, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.fixture
def saved(tmp_path):
    model = MLPWorldModel(spec(action_repeat=4, terminates=True), SMALL, seed=3)
    model.fit({"any": linear_system()})
    model.save(tmp_path)
    return model, tmp_path


def test_a_loaded_model_is_the_saved_one(saved):
    model, folder = saved
    loaded = MLPWorldModel.load(folder)
    assert loaded.spec == model.spec
    assert loaded.config == model.config
    for (name, mine), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_model_json_is_strict_json_despite_infinite_bounds(saved):
    _, folder = saved

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((folder / "model.json").read_text(), parse_constant=refuse)


def test_truncated_altered_and_foreign_files_are_refused(saved):
    _, folder = saved
    weights, text = folder / "weights.safetensors", (folder / "model.json").read_text()
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(CheckpointError, match="truncated or was altered"):
        MLPWorldModel.load(folder)
    weights.write_bytes(whole)
    (folder / "model.json").write_text(text.replace('"mlp"', '"transformer"'))
    with pytest.raises(CheckpointError, match="'transformer'; expected 'mlp'"):
        MLPWorldModel.load(folder)
    (folder / "model.json").write_text(text.replace('"hidden": 16', '"hidden": 17'))
    with pytest.raises(CheckpointError, match=r"model\.json does not agree .* altered"):
        MLPWorldModel.load(folder)
    (folder / "model.json").write_text(text.replace('"action_dim": 2,', ""))
    with pytest.raises(CheckpointError, match=r"model\.json does not agree .* altered"):
        MLPWorldModel.load(folder)


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match=r"MLPConfig\.hidden is 0"):
        MLPConfig(hidden=0)


def test_data_of_another_size_are_refused():
    model = MLPWorldModel(dataclasses.replace(spec(), observation_dim=5), SMALL)
    with pytest.raises(ValueError, match="have 3 scalars; the model expects 5"):
        model.fit({"any": linear_system()})


NESTED = spaces.Dict(
    OrderedDict(
        z=spaces.Box(-np.inf, 1.5, (2,), np.float64),
        a=spaces.Tuple([spaces.Box(0.1, 0.7, (), np.float32), spaces.Box(-1, 1, (1, 2), np.float32)]),
    )
)


@pytest.mark.parametrize(
    ("action", "kind", "choices"),
    [
        (ACTION, "continuous", ()),
        (spaces.Discrete(3, start=1), "discrete", (3,)),
        *([(spaces.Discrete(3, start=-1, dtype=np.int32), "discrete", (3,))] if TYPED_DISCRETE else []),
        (spaces.MultiDiscrete([2, 5]), "discrete", (2, 5)),
        (spaces.MultiDiscrete([2, 5], dtype=np.uint8), "discrete", (2, 5)),
    ],
)
def test_a_spec_survives_json_with_the_order_of_its_keys(action, kind, choices):
    dim = len(choices) or ACTION.shape[0]
    before = ModelSpec(NESTED, action, 5, dim, kind, choices, 4, 7, True)
    after = spec_from_json(json.loads(json.dumps(spec_to_json(before))))
    assert after == before
    assert list(after.observation_space.spaces) == ["z", "a"]


def test_a_space_without_json_is_refused():
    with pytest.raises(ValueError, match="expected Box"):
        spec_to_json(ModelSpec(spaces.Sequence(OBSERVATION), ACTION, N, M))


def test_moments_of_chunks_are_those_of_the_whole():
    data = np.random.default_rng(0).normal(1e4, 1e-2, (100, 3))
    mean, std = moments([data[:1], data[1:1], data[1:40], data[40:]])
    np.testing.assert_allclose(mean, data.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, data.std(0), rtol=1e-9)
    with pytest.raises(ValueError, match="empty"):
        moments([data[:0]])
