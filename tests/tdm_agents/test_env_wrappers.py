"""Gymnasium's wrappers around an environment that an agent acts in: they work, or the remedy is told."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers

from tdm_agents import TDMAgent, evaluate, make_planner
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

STEPS = 6


class Slider(gym.Env):
    """A point that is pushed, observed without bounds; it earns where it is."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Box(-2.0, 3.0, (1,))

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.actions = self.np_random.uniform(-1, 1, 2).astype(np.float32), []
        return self.at, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.actions.append(action)
        self.at = self.at + np.float32(0.1) * action
        return self.at, float(self.at[0]), False, False, {}

    def render(self):
        return np.full((16, 16, 3), 255, np.uint8)


@pytest.fixture(autouse=True)
def registered():
    gym.register("Slider-v0", Slider, max_episode_steps=STEPS)
    yield
    gym.registry.pop("Slider-v0")


def make(**settings):
    return gym.make("Slider-v0", **settings)


def an_agent(env=None):
    """An agent of an environment, by default of the plain one."""
    env = make() if env is None else env
    model = MLPWorldModel(spec_of(env.observation_space, env.action_space), MLPConfig(hidden=4))
    return TDMAgent(model, make_planner("random_shooting", horizon=2, num_samples=4), seed=0)


def episode(agent, env):
    """Play one episode, and return the actions that the innermost environment was given."""
    obs, _ = env.reset(seed=0)
    over = False
    while not over:
        obs, _, terminated, truncated, _ = env.step(agent.act(obs))
        over = terminated or truncated
    return env.unwrapped.actions


@pytest.fixture
def plain():
    agent = an_agent()
    return episode(agent, agent.attach(make()))


@pytest.mark.parametrize("outside", [False, True], ids=["agent outside", "agent inside"])
def test_record_video(tmp_path, plain, outside):
    pytest.importorskip("moviepy")
    agent, env = an_agent(), make(render_mode="rgb_array")
    record = {"video_folder": str(tmp_path), "episode_trigger": lambda episode: True}
    env = (
        wrappers.RecordVideo(agent.attach(env), **record)
        if outside
        else agent.attach(wrappers.RecordVideo(env, **record))
    )
    assert episode(agent, env) == plain
    env.close()
    assert [file.suffix for file in tmp_path.iterdir()] == [".mp4"]


def test_clipped_actions_change_nothing(plain):
    agent = an_agent()
    clipped = wrappers.ClipAction(make())
    assert not clipped.action_space.is_bounded()
    assert episode(agent, agent.attach(clipped)) == plain
    assert len(evaluate(an_agent(), lambda: wrappers.ClipAction(make()), [0]).scores) == 1


def test_actions_without_bounds_are_not_of_another_shape():
    wide = gym.spaces.Box(-np.inf, np.inf, (2,))
    with pytest.raises(ValueError, match="action_space of the environment is"):
        an_agent().attach(wrappers.TransformAction(make(), lambda action: action[:1], wide))


def test_rescaled_actions_are_refused_unless_the_model_is_of_them():
    agent = an_agent()
    rescaled = wrappers.RescaleAction(make(), -1.0, 1.0)
    with pytest.raises(ValueError, match=r"action_space .*without wrappers that change its spaces, or train"):
        agent.attach(rescaled)
    own = an_agent(rescaled)
    actions = episode(own, own.attach(rescaled))
    assert len(actions) == STEPS, "an action was outside the bounds"


def test_stacked_frames_are_refused_unless_the_model_is_of_them():
    stacked = wrappers.FrameStackObservation(make(), 3)
    with pytest.raises(ValueError, match=r"observation_space .*without wrappers that change its spaces"):
        an_agent().attach(stacked)
    own = an_agent(stacked)
    assert own.model.spec.observation_dim == 6
    assert len(episode(own, own.attach(stacked))) == STEPS


def test_running_statistics_of_observations_are_refused():
    for play in (
        lambda agent: agent.attach(wrappers.NormalizeObservation(make())),
        lambda agent: evaluate(agent, lambda: wrappers.NormalizeObservation(make()), [0]),
    ):
        with pytest.raises(ValueError, match=r"through NormalizeObservation: .*take it off .*or freeze it"):
            play(an_agent())
    frozen = wrappers.NormalizeObservation(make())
    frozen.update_running_mean = False
    agent = an_agent()
    assert len(episode(agent, agent.attach(frozen))) == STEPS
    rewards = wrappers.NormalizeReward(make())
    rewards.update_running_mean = False  # what the agent is told is scaled all the same
    with pytest.raises(ValueError, match="through NormalizeReward"):
        agent.attach(rewards)


REWARDS = {
    "TransformReward": lambda env: wrappers.TransformReward(env, lambda reward: 10 * reward),
    "ClipReward": lambda env: wrappers.ClipReward(env, -0.1, 0.1),
    "NormalizeReward": wrappers.NormalizeReward,
}


@pytest.mark.parametrize(("name", "wrap"), REWARDS.items(), ids=REWARDS)
def test_other_rewards_are_for_others(name, wrap, plain):
    agent = an_agent()
    with pytest.raises(ValueError, match=rf"through {name}: .*{name}\(agent.attach\(env\), \.\.\.\)"):
        agent.attach(wrap(make()))
    assert episode(agent, wrap(agent.attach(make()))) == plain


def test_what_the_id_is_registered_with_is_part_of_the_environment(registered):
    tenfold = wrappers.TransformReward.wrapper_spec(func=lambda reward: 10 * reward)
    gym.register("Tenfold-v0", Slider, max_episode_steps=STEPS, additional_wrappers=(tenfold,))
    try:
        agent, env = an_agent(), gym.make("Tenfold-v0")
        assert isinstance(env, wrappers.TransformReward)
        assert len(episode(agent, agent.attach(env))) == STEPS
    finally:
        gym.registry.pop("Tenfold-v0")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_chains_of_make_vec(mode):
    chain = [wrappers.RecordEpisodeStatistics, wrappers.ClipAction]
    agent = an_agent()
    envs = agent.attach(gym.make_vec("Slider-v0", 2, vectorization_mode=mode, wrappers=chain))
    obs, _ = envs.reset(seed=0)
    for _ in range(2 * STEPS):
        obs, reward, _, truncated, _ = envs.step(agent.act(obs))
        assert reward.shape == truncated.shape == (2,)
    envs.close()


def test_make_vec_with_a_vector_entry_point():
    agent = an_agent(gym.make("CartPole-v1"))
    envs = agent.attach(gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point"))
    obs, _ = envs.reset(seed=0)
    for _ in range(3):
        obs, _, _, _, _ = envs.step(agent.act(obs))
    assert obs.shape == (2, 4)
    envs.close()


VECTOR = {
    "inside": (lambda: gym.make_vec("Slider-v0", 2, wrappers=[wrappers.NormalizeObservation]), "take it off"),
    "outside": (lambda: wrappers.vector.NormalizeObservation(gym.make_vec("Slider-v0", 2)), "take it off"),
    "reward": (
        lambda: wrappers.vector.NormalizeReward(gym.make_vec("Slider-v0", 2)),
        "wrap what attach",
    ),
    "stacked": (
        lambda: gym.make_vec(
            "Slider-v0", 2, wrappers=[lambda env: wrappers.FrameStackObservation(env, 2)]
        ),
        "without wrappers that change its spaces",
    ),
    "rescaled": (
        lambda: wrappers.vector.RescaleAction(gym.make_vec("Slider-v0", 2), -1.0, 1.0),
        "without wrappers that change its spaces",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make_them", "remedy"), VECTOR.values(), ids=VECTOR)
def test_what_cannot_work_in_a_vector_is_refused_with_the_remedy(make_them, remedy):
    with pytest.raises(ValueError, match=remedy):
        an_agent().attach(make_them())
