import numpy as np
import pytest
import torch
from gymnasium import spaces
from quadratic_dynamics import QuadraticConfig, QuadraticModel

from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import History, ModelSpec
from tdm_agents.testing import check_world_model

OBSERVATION = spaces.Box(-np.inf, np.inf, (2,), np.float32)
ACTION = spaces.Box(-2.0, 2.0, (1,), np.float32)
SPEC = ModelSpec(OBSERVATION, ACTION, 2, 1)


def trajectories(episodes=8, steps=25):
    """A damped spring that is pushed, a little quadratic; r = -o0^2."""
    rng = np.random.default_rng(0)
    o, action = np.empty((episodes, steps, 2), np.float32), rng.uniform(-1, 1, (episodes, steps, 1))
    o[:, 0] = rng.uniform(-1, 1, (episodes, 2))
    for t in range(steps - 1):
        x, v = o[:, t].T
        o[:, t + 1] = o[:, t] + np.stack(
            [0.1 * v, 0.2 * action[:, t, 0] - 0.2 * x - 0.1 * v + 0.05 * x * v], 1
        )
    reward = np.full((episodes, steps), np.nan, np.float32)
    reward[:, 1:] = -(o[:, :-1, 0] ** 2)
    flat = Decisions(
        o.reshape(-1, 2),
        reward.reshape(-1),
        action.reshape(-1, 1).astype(np.float32),
        np.ones(episodes * steps, bool),
    )
    info = TrajectoryInfo("", OBSERVATION, ACTION, 1, ())
    return Trajectories.from_arrays(flat, offsets=np.arange(episodes + 1) * steps, info=info)


@pytest.fixture
def model():
    fitted = QuadraticModel(SPEC)
    fitted.fit({"any": trajectories()})
    return fitted


def test_it_keeps_the_contract_of_world_models(model):
    now = torch.tensor([[0.3, -0.2], [0.5, 0.1], [-0.4, 0.0]])
    check_world_model(model, History.of_observation(now, action_dim=1))


def test_fitting_recovers_quadratic_dynamics_and_training_does_not_spoil_it(model):
    batch = WindowSampler(trajectories(), steps=8, batch_size=16, seed=0).batch(0)
    loss, metrics = model(batch)
    assert loss < 1e-5 and set(metrics) == {"observation", "reward"}
    loss.backward()
    assert model.weight.grad.abs().max() < 1e-2


def test_a_saved_model_is_read_back(model, tmp_path):
    model.save(tmp_path)
    loaded = QuadraticModel.load(tmp_path)
    assert loaded.spec == model.spec and loaded.config == model.config
    assert torch.equal(loaded.weight, model.weight)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"ridge is -1\.0"):
        QuadraticConfig(ridge=-1.0)
