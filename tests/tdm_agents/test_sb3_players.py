"""Policies that Stable-Baselines3 saved, evaluated beside agents."""

import json
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tdm_agents import evaluate
from tdm_agents.actors.saved_policies import find_policy, load_policy
from tdm_agents.actors.sb3_policies import Predictor
from tdm_agents.cli.main import main
from tdm_agents.errors import WrongValueError

PENDULUM, CARTPOLE = "Pendulum-v1", "CartPole-v1"
ENV_IDS = dict.fromkeys(("PPO", "A2C", "SAC", "TD3", "DDPG"), PENDULUM) | {"DQN": CARTPOLE}
NET = {"net_arch": [8]}
STEPS = 12


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    """A zip of each algorithm, untrained."""
    folder, paths = tmp_path_factory.mktemp("zips"), {}
    for name, env_id in ENV_IDS.items():
        model = getattr(sb3, name)("MlpPolicy", gym.make(env_id), policy_kwargs=dict(NET), seed=1)
        paths[name] = folder / f"{name.lower()}.zip"
        model.save(paths[name])
    return paths


def short(env_id, **settings):
    return lambda: gym.make(env_id, max_episode_steps=STEPS, **settings)


def tdm(*words):
    return main([str(word) for word in words])


@pytest.mark.parametrize("name", ENV_IDS)
def test_the_algorithm_is_found_and_plays_as_sb3_does(name, zips):
    saved = find_policy(zips[name])
    assert (saved.algorithm, saved.statistics) == (name, None)
    found = evaluate(load_policy(saved), short(ENV_IDS[name]), [0, 1, 2])
    model = getattr(sb3, name).load(zips[name])
    expected = []
    for seed in (0, 1, 2):
        env = Monitor(short(ENV_IDS[name])())
        env.reset(seed=seed)
        vector = DummyVecEnv([lambda env=env: env])
        vector.seed(seed)
        expected.append(evaluate_policy(model, vector, 1)[0])
    assert found.scores == pytest.approx(expected, rel=1e-5)
    assert found.transitions_per_decision == 0
    assert evaluate(model, short(ENV_IDS[name]), [0, 1, 2]).scores == found.scores


def test_all_episodes_are_asked_about_in_one_call_and_give_what_single_ones_do(zips):
    policy = load_policy(find_policy(zips["SAC"]))
    together = evaluate(policy, short(PENDULUM), range(4))
    assert together.plan_calls == STEPS and together.decisions == 4 * STEPS
    assert evaluate(policy, short(PENDULUM), range(4), batch=1).scores == pytest.approx(
        together.scores, rel=1e-4
    )


def test_an_action_is_held_where_the_policy_was_trained_so(zips):
    policy = load_policy(find_policy(zips["PPO"]), action_repeat=4)
    found = evaluate(policy, short(PENDULUM), [0], record_horizon=0)
    assert found.decisions == STEPS / 4
    actions = found.episodes[0].recording.action.reshape(-1, 4)
    assert (actions == actions[:, :1]).all() and len(np.unique(actions)) == STEPS / 4


def test_sampled_actions_follow_the_seed(zips):
    sampled = load_policy(find_policy(zips["PPO"]), deterministic=False)
    scores = [evaluate(sampled, short(PENDULUM), [0, 1], seed=seed).scores for seed in (5, 5, 6)]
    assert scores[0] == scores[1] != scores[2]


def test_statistics_of_vec_normalize_beside_the_zip_are_used(zips, tmp_path):
    vector = VecNormalize(DummyVecEnv([short(PENDULUM)]), norm_reward=False)
    model = sb3.PPO("MlpPolicy", vector, policy_kwargs=dict(NET), n_steps=64, batch_size=32, seed=0).learn(
        128
    )
    model.save(tmp_path / "model.zip")
    vector.save(tmp_path / "vecnormalize.pkl")
    saved = find_policy(tmp_path / "model.zip")
    assert saved.statistics == tmp_path / "vecnormalize.pkl"
    found = evaluate(load_policy(saved), short(PENDULUM), [0])
    env = short(PENDULUM)()
    observation, _ = env.reset(seed=0)
    score, over = 0.0, False
    while not over:
        action, _ = model.predict(vector.normalize_obs(observation), deterministic=True)
        observation, reward, _, over, _ = env.step(action)
        score += float(reward)
    assert found.scores == [pytest.approx(score, rel=1e-5)]
    plain = evaluate(Predictor(model), short(PENDULUM), [0])
    assert plain.scores != found.scores


@pytest.mark.parametrize(
    ("zip_name", "pickle"),
    [
        ("ppo_100_steps", "ppo_vecnormalize_100_steps.pkl"),
        ("a", "a_vecnormalize.pkl"),
        ("b", "vec_normalize.pkl"),
    ],
)
def test_statistics_are_found_under_the_names_that_are_used(zip_name, pickle, zips, tmp_path):
    path = tmp_path / f"{zip_name}.zip"
    path.write_bytes(zips["PPO"].read_bytes())
    (tmp_path / pickle).touch()
    assert find_policy(path).statistics == tmp_path / pickle


def test_a_flat_policy_plays_where_the_environment_observes_a_dict():
    class Dicts(gym.ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            angle, speed = spaces.Box(-1, 1, (2,)), spaces.Box(-8, 8, (1,), np.float64)
            self.observation_space = spaces.Dict({"angle": angle, "speed": speed})

        def observation(self, observation):
            return {"angle": observation[:2], "speed": observation[2:].astype(np.float64)}

    def make():
        return Dicts(short(PENDULUM)())

    model = sb3.SAC("MlpPolicy", gym.wrappers.FlattenObservation(make()), policy_kwargs=dict(NET), seed=0)
    flat = evaluate(model, lambda: gym.wrappers.FlattenObservation(make()), [0, 1])
    assert evaluate(model, make, [0, 1]).scores == pytest.approx(flat.scores, rel=1e-6)
    both = sb3.SAC("MultiInputPolicy", make(), policy_kwargs=dict(NET), seed=0)
    assert len(evaluate(both, make, [0, 1]).scores) == 2


class Counter:
    """A policy with a state of its own, as recurrent ones have."""

    def __init__(self):
        self.starts = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.starts.append(list(episode_start))
        state = np.where(episode_start, 0, 0 if state is None else state) + 1
        return np.minimum(state, 4)[:, None] * 0.5 - 2.0 * deterministic, state


def test_a_state_is_kept_by_episode():
    policy = Counter()
    found = evaluate(policy, short(PENDULUM), [0, 1], record_horizon=0, max_steps=4)
    assert [e.recording.action[:, 0].tolist() for e in found.episodes] == [[-1.5, -1.0, -0.5, 0.0]] * 2
    assert policy.starts == [[True, True], *[[False, False]] * 3]


def test_policies_of_other_spaces_are_refused(zips):
    with pytest.raises(ValueError, match=r"observation_space of .* trained on this environment"):
        evaluate(load_policy(find_policy(zips["PPO"])), short(CARTPOLE), [0])

    def rescaled():
        return gym.wrappers.RescaleAction(short(PENDULUM)(), -1.0, 1.0)

    with pytest.raises(ValueError, match=r"action_space of .* behind wrappers"):
        evaluate(load_policy(find_policy(zips["PPO"])), rescaled, [0])


def test_what_is_no_policy_is_refused_with_the_remedy(zips, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        find_policy(tmp_path / "nothing.zip")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.zip is not a zip of Stable-Baselines3"):
        find_policy(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("data", json.dumps({"policy_class": {"__module__": "sb3_contrib.tqc.policies"}}))
    with pytest.raises(ValueError, match=r"sb3_contrib\.tqc.*pass the model to tdm_agents\.evaluate"):
        find_policy(tmp_path / "other.zip")
    (tmp_path / "odd.pkl").write_bytes(b"\x80\x04N.")  # None, pickled
    with pytest.raises(ValueError, match="holds a NoneType; expected what VecNormalize"):
        load_policy(find_policy(zips["PPO"], tmp_path / "odd.pkl"))


class Reach(gym.Env):
    """A goal to reach, in the spaces that hindsight replay asks for."""

    SPACE = spaces.Box(-1.0, 1.0, (2,), np.float32)
    observation_space = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), SPACE))
    action_space = SPACE

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = np.zeros(2, np.float32), 0
        self.goal = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.observe(), {}

    def step(self, action):
        self.place, self.steps = np.clip(self.place + 0.1 * action, -1, 1).astype(np.float32), self.steps + 1
        reward = float(self.compute_reward(self.place, self.goal, {}))
        return self.observe(), reward, False, self.steps >= 10, {}

    def observe(self):
        place = self.place.copy()
        return {"observation": place, "achieved_goal": place, "desired_goal": self.goal.copy()}

    def compute_reward(self, achieved, desired, _info):
        return -np.linalg.norm(achieved - desired, axis=-1)


@pytest.mark.parametrize(
    ("name", "policy", "make", "settings"),
    [
        (
            "SAC",
            "MultiInputPolicy",
            Reach,
            {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"n_sampled_goal": 2}},
        ),
        (
            "TD3",
            "MlpPolicy",
            short(PENDULUM),
            {
                "optimize_memory_usage": True,
                "replay_buffer_kwargs": {"handle_timeout_termination": False},
                "action_noise": NormalActionNoise(np.zeros(1), np.ones(1)),
            },
        ),
        ("DQN", "MlpPolicy", short(CARTPOLE), {"replay_buffer_class": ReplayBuffer}),
        (
            "PPO",
            "MlpPolicy",
            short(PENDULUM),
            {"rollout_buffer_class": RolloutBuffer, "clip_range_vf": 0.2, "n_steps": 50_000_000},
        ),
    ],
    ids=["hindsight replay", "memory and noise", "a replay buffer", "a large rollout buffer"],
)
def test_what_only_training_needs_does_not_hinder_a_policy(name, policy, make, settings, tmp_path):
    small = {**settings, **({"n_steps": 2, "batch_size": 2} if name == "PPO" else {})}
    model = getattr(sb3, name)(policy, make(), policy_kwargs=dict(NET), seed=0, **small)
    expected = evaluate(model, make, [0, 1]).scores
    vars(model).update({key: value for key, value in settings.items() if key == "n_steps"})
    model.save(tmp_path / "model.zip")
    assert evaluate(load_policy(find_policy(tmp_path / "model.zip")), make, [0, 1]).scores == expected


def test_statistics_of_other_observations_are_refused(zips, tmp_path):
    VecNormalize(DummyVecEnv([short(CARTPOLE)])).save(tmp_path / "other.pkl")
    with pytest.raises(WrongValueError, match=r"other\.pkl normalizes .* 4 scalars, .*ppo\.zip reads 3"):
        load_policy(find_policy(zips["PPO"], tmp_path / "other.pkl"))


def test_evaluate_takes_a_zip_on_the_command_line(zips, tmp_path, capsys):
    out = tmp_path / "report.json"
    words = ("evaluate", "--policy", zips["SAC"], "--env-id", PENDULUM, "--episodes", "2")
    assert tdm(*words, "--action-repeat", "2", "--max-steps", "6", "--out", out) == 0, capsys.readouterr().err
    report = json.loads(out.read_text())
    assert report["contestant"] == "SAC of Stable-Baselines3"
    assert report["settings"]["algorithm"] == "SAC" and report["settings"]["action_repeat"] == 2
    assert report["provenance"]["weights_sha256"] is not None
    assert report["summary"]["decisions"] == 6
    assert tdm("evaluate", "--policy", zips["SAC"], "--random", "--env-id", PENDULUM) == 2
    assert "--random and --policy exclude each other" in capsys.readouterr().err
