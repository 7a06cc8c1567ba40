import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from latent_dynamics import LatentConfig, LatentModel

from tdm_agents import TDMAgent, evaluate, make_planner
from tdm_agents.actors.functions import UniformActions
from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories, TrajectoryInfo
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import HasProposal, HasValue, History
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.testing import check_world_model
from tdm_agents.training.prediction import prediction_error
from tdm_agents.training.train_config import TrainConfig
from tdm_agents.training.trainer import train

PENDULUM = "Pendulum-v1"
TRAINING = TrainConfig(
    steps=400,
    batch_size=64,
    window_steps=9,
    warmup_steps=50,
    log_every=200,
    checkpoint_every=400,
    evaluate_every=400,
    evaluate_batches=2,
    horizons=(1, 5),
    starts=16,
)


def played(episodes, seed):
    """Random actions in the pendulum."""
    env = gym.make(PENDULUM)
    rng = np.random.default_rng(seed)
    observation, reward, action = [], [], []
    for episode in range(episodes):
        now, arrived = env.reset(seed=1000 * seed + episode)[0], np.nan
        for _ in range(200):
            push = rng.uniform(-1, 1, 1)
            observation.append(now)
            reward.append(arrived)
            action.append(push)
            now, arrived, *_ = env.step(2.0 * push)
    flat = Decisions(
        np.array(observation, np.float32),
        np.array(reward, np.float32),
        np.array(action, np.float32),
        np.ones(200 * episodes, bool),
    )
    info = TrajectoryInfo(PENDULUM, env.observation_space, env.action_space, 1, ())
    return Trajectories.from_arrays(flat, offsets=200 * np.arange(episodes + 1), info=info)


def untrained(seed=0):
    env = gym.make(PENDULUM)
    return LatentModel(spec_of(env.observation_space, env.action_space), LatentConfig(16, 64), seed=seed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The model after a few seconds, and what the training says of it."""
    data, model = played(20, seed=1), untrained()
    sampler = WindowSampler(data, steps=TRAINING.window_steps, batch_size=TRAINING.batch_size, seed=0)
    model.fit({"Pendulum-v1": data})
    result = train(model, sampler, played(4, seed=2), TRAINING, tmp_path_factory.mktemp("run"))
    return model.eval(), result.metrics


def test_it_keeps_the_contract_of_world_models_without_observations(trained):
    model, _ = trained
    assert not model.spec.imagines_observations
    assert isinstance(model, HasValue) and isinstance(model, HasProposal)
    now = torch.tensor([[1.0, 0.0, 0.3], [0.0, 1.0, -2.0], [-1.0, 0.0, 0.0]])
    check_world_model(model, History.of_observation(now, action_dim=1))


def test_it_is_trained_by_the_reward_that_it_imagines(trained):
    _, metrics = trained
    assert {name for name in metrics if name.startswith("prediction/")} == {
        "prediction/reward_rms@1",
        "prediction/reward_rms@5",
    }
    before = prediction_error(untrained(), played(4, seed=2), horizons=(5,), starts=16)["reward_rms@5"]
    assert metrics["prediction/reward_rms@5"] < 0.3 < before


@pytest.mark.parametrize(
    ("planner", "settings"),
    [
        ("random_shooting", {"num_samples": 64}),
        ("cem", {"num_samples": 32, "iterations": 2}),
        ("mppi", {"num_samples": 32}),
        ("proposal_shooting", {"num_samples": 64}),
        ("beam_search", {"beam_width": 8}),
    ],
)
def test_planners_on_it_do_better_than_random_actions(trained, planner, settings):
    model, _ = trained
    agent = TDMAgent(model, make_planner(planner, horizon=12, **settings), env_id=PENDULUM)
    planned = evaluate(agent, PENDULUM, seeds=range(4)).scores
    random = evaluate(UniformActions(model.spec.action_space, 0), PENDULUM, seeds=range(4)).scores
    assert np.mean(planned) > 0.5 * np.mean(random)  # both are negative


def test_its_value_is_the_discounted_reward_to_come(trained):
    model, _ = trained
    data = played(8, seed=3)
    episodes = [data.episode(e) for e in range(8)]
    powers = model.config.discount ** np.arange(100)
    earned = [(powers * e.reward[t + 1 : t + 101]).sum() for e in episodes for t in range(0, 100, 10)]
    now = torch.from_numpy(np.concatenate([e.observation[:100:10] for e in episodes]))
    value = model.value(model.start(History.of_observation(now, action_dim=1), horizon=1))
    assert np.corrcoef(earned, value.numpy())[0, 1] > 0.9


def test_a_saved_model_is_read_back(trained, tmp_path):
    model, _ = trained
    model.save(tmp_path)
    loaded = LatentModel.load(tmp_path)
    assert loaded.spec == model.spec and loaded.config == model.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_seed_is_of_the_weights():
    one, same, other = (untrained(seed).encoder[0].weight for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"discount 1\.0; expected .* discount < 1"):
        LatentConfig(discount=1.0)
    with pytest.raises(ValueError, match="needs continuous"):
        LatentModel(spec_of(spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3)))
