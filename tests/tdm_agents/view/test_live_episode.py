"""An episode that is meddled with: other players, planners, rewards and pushes, in its middle."""

import sys

import numpy as np
import pytest

from tdm_agents import evaluate
from tdm_agents.actors.enter import enter
from tdm_agents.actors.entries import parse_entry
from tdm_agents.agent import PREDICTED
from tdm_agents.environments import EnvRef
from tdm_agents.errors import WrongTypeError, WrongValueError, is_mistake
from tdm_agents.registry import make_planner
from tdm_agents.view.live_episode import OWN_REWARD, LiveEpisode, Watched

CARTPOLE = EnvRef.parse("dm_control/cartpole-swingup-v0")
SMALL = "planner=cem horizon=3 num_samples=5 num_elites=2 iterations=2"
ENTRIES = (f"simulator {SMALL}", f"cartpole-swingup {SMALL}", "random")


@pytest.fixture
def episode():
    live = LiveEpisode(Watched(CARTPOLE, ENTRIES, env_seed=7, seed=3, shown=4))
    yield live
    live.close()


@pytest.mark.parametrize("index", range(len(ENTRIES)))
def test_watching_changes_nothing(index):
    env_seed, steps = 7, 8
    live = LiveEpisode(Watched(CARTPOLE, ENTRIES, env_seed=env_seed, seed=3, max_steps=100))
    live.choose_entry(index)
    for _ in range(steps):
        live.step()
    alone = evaluate(
        enter(parse_entry(ENTRIES[index]), CARTPOLE).contestant, CARTPOLE, [env_seed], seed=3, max_steps=steps
    )
    assert live.snapshot().score == alone.scores[0]
    live.close()


def test_a_plan_is_seen_with_its_candidates_the_chosen_one_first(episode):
    episode.step()
    plan = episode.snapshot().plan
    assert plan.number == 1 and plan.true and plan.milliseconds > 0
    assert plan.actions.shape == (5, 3, 1) and plan.observation.shape == (5, 3, 5)
    assert [len(values) for values in plan.considered] == [5, 5]
    assert plan.values[0] == plan.values.max()  # it executes the best
    assert (np.diff(plan.values[1:]) <= 0).all() and plan.values[1] == plan.considered[-1].max()
    np.testing.assert_array_equal(plan.observation[0], plan.observation[1])
    assert episode.snapshot(with_plan=False).plan is None
    episode.shown = 0
    episode.step()
    assert episode.snapshot().plan.actions.shape == (1, 3, 1)


def test_players_planners_and_rewards_are_changed_in_the_middle(episode):
    episode.step()
    episode.choose_entry(1)
    setup = episode.setup()
    assert setup.player == "cem on TransformerWorldModel" and setup.action_repeat == 4
    assert setup.rewards == (OWN_REWARD, PREDICTED, "dm_control/cartpole-swingup-v0")
    episode.choose_planner(make_planner("random_shooting", horizon=2, num_samples=6))
    assert episode.setup().player == "random_shooting on TransformerWorldModel"
    episode.step()
    plan = episode.snapshot().plan
    assert plan.actions.shape == (5, 2, 1) and not plan.true
    assert plan.observation.shape == (5, 2, 5)
    episode.choose_reward(PREDICTED)
    assert episode.setup().reward == PREDICTED
    assert type(episode.setup().planner).__name__ == "RandomShooting"  # it stays
    episode.step()
    episode.choose_entry(2)
    assert episode.setup().planner is None and episode.setup().rewards == (OWN_REWARD,)
    episode.step()
    assert episode.snapshot().step == 4 and episode.snapshot().plan is None


def test_a_planner_keeps_the_history_of_the_model(episode):
    episode.choose_entry(1)
    for _ in range(9):
        episode.step()
    before = int(episode._memory.length[0])
    episode.choose_planner(make_planner("cem", horizon=2, num_samples=4, num_elites=2, iterations=1))
    assert before == 3 and int(episode._memory.length[0]) == 3


def test_what_is_refused_changes_nothing(episode):
    for wrong in (
        lambda: episode.choose_reward("no/such-v0"),
        lambda: episode.choose_reward("antigravity:fly"),
        lambda: episode.choose_entry(9),
        lambda: episode.push(0, (1.0, 0.0, 0.0), 1),
        lambda: episode.push(1, (np.nan, 0.0, 0.0), 1),
    ):
        with pytest.raises(Exception) as refused:
            wrong()
        assert is_mistake(refused.value)
    assert "antigravity" not in sys.modules  # a viewer's word imports nothing
    assert episode.setup().player == "cem on the true simulator"
    episode.step()
    episode.choose_entry(2)
    with pytest.raises(WrongTypeError, match="does not plan"):
        episode.choose_planner(make_planner("cem"))
    with pytest.raises(WrongValueError, match="expected one of the player's own"):
        episode.choose_reward(PREDICTED)
    episode.step()
    with pytest.raises(WrongValueError, match="horizon is 1"):
        live = LiveEpisode(Watched(CARTPOLE, (f"simulator {SMALL} replan_every=2",)))
        live.choose_planner(make_planner("cem", horizon=1))


def test_a_push_moves_the_body_for_as_long_as_it_lasts_and_the_simulator_plans_on():
    def velocity(force):
        live = LiveEpisode(Watched(CARTPOLE, ("random",), env_seed=7))
        live.push(1, (force, 0.0, 0.0), 3)
        speeds = []
        for _ in range(5):
            live.step()
            speeds.append(live.physics.data.qvel[0])
            assert not live.physics.data.xfrc_applied.any()  # a planner that looks now foresees no push
        live.close()
        return np.array(speeds)

    gained = velocity(5.0) - velocity(0.0)
    assert (np.diff(gained[:3]) > 0.01).all()
    assert abs(gained[4] - gained[3]) < 0.3 * (gained[2] - gained[1])
    episode = LiveEpisode(Watched(CARTPOLE, ENTRIES))
    episode.push(1, (5.0, 0.0, 0.0), 3)
    for _ in range(4):
        episode.step()
    assert episode.snapshot().plan.number == 4


def test_an_end_begins_the_next_episode_with_the_next_seed():
    live = LiveEpisode(Watched(EnvRef.parse("Hopper-v5"), ("random",), env_seed=5))
    while live.snapshot().episode == 0:
        last = live.snapshot().score
        live.step()
    snapshot = live.snapshot()
    assert (snapshot.seed, snapshot.step, snapshot.score) == (6, 0, 0.0)
    assert snapshot.last_score == pytest.approx(last, abs=2.0)  # the last step's reward is not in it
    live.reset()
    assert live.snapshot().seed == 7
    live.close()


def test_where_there_is_no_body_there_is_a_picture(tmp_path, monkeypatch):
    (tmp_path / "painted.py").write_text(
        "import gymnasium as gym, numpy as np\n"
        "class Painted(gym.Env):\n"
        "    metadata = {'render_modes': ['rgb_array'], 'render_fps': 10}\n"
        "    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)\n"
        "    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)\n"
        "    def __init__(self, render_mode=None):\n"
        "        self.render_mode = render_mode\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        self.x = 0.0\n"
        "        return np.zeros(2, np.float32), {}\n"
        "    def step(self, action):\n"
        "        self.x += float(action[0])\n"
        "        return np.full(2, np.clip(self.x, -1, 1), np.float32), 1.0, False, False, {}\n"
        "    def render(self):\n"
        "        return np.full((600, 1200, 3), 77, np.uint8)\n"
        "gym.register('Painted-v0', entry_point=Painted)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    live = LiveEpisode(Watched(EnvRef.parse("painted:Painted-v0"), ("random",)))
    live.step()
    snapshot = live.snapshot()
    assert snapshot.frame.shape == (200, 400, 3) and (snapshot.frame == 77).all()
    assert snapshot.physics is None and live.body().model is None
    with pytest.raises(WrongTypeError, match="no MuJoCo body"):
        live.push(1, (1.0, 0.0, 0.0), 1)
    live.close()
