"""A round of episodes: what is executed, summed and remembered."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents.actors.actor import Move
from tdm_agents.online.rounds import play_round


class Counter(gym.Env):
    """Observes its step, pays its action, and ends by itself after ``ends`` steps."""

    observation_space = spaces.Box(-100, 100, (1,))
    action_space = spaces.Box(0, 8, (1,))

    def __init__(self, ends, *, truncates=False, pays=1.0):
        self.ends, self.truncates, self.pays, self.step_number = ends, truncates, pays, 0

    def reset(self, *, seed=None, options=None):
        self.step_number = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.step_number += 1
        over = self.step_number == self.ends
        observation = np.full(1, self.step_number, np.float32)
        return (
            observation,
            self.pays * float(action[0]),
            over and not self.truncates,
            over and self.truncates,
            {},
        )


class Listening:
    """Acts 2 in the environment's units, and keeps what it was told."""

    action_repeat = None

    def __init__(self):
        self.told = []

    def act(self, observations, rewards, active):
        self.told.append((list(observations), list(rewards), list(active)))
        return Move([np.full(1, 2.0, np.float32) if a else None for a in active], [], 0.0)


def play(envs, *, repeat=2, most=None, decided=lambda decisions, steps: True):
    actor = Listening()
    played = play_round(
        envs, actor, [env.reset()[0] for env in envs], repeat=repeat, most=most, decided=decided
    )
    return actor, played


def test_rewards_are_summed_over_the_steps_of_a_decision():
    actor, (one,) = play([Counter(5)])
    assert one.episode.reward.tolist() == [4.0, 4.0, 2.0] and one.score == 10.0 and one.length == 5
    assert one.episode.observation[:, 0].tolist() == [0.0, 2.0, 4.0, 5.0]
    assert one.episode.action[:, 0].tolist() == [-0.5] * 3  # 2 of 0 to 8, as models see it
    rewards = [rewards[0] for _, rewards, _ in actor.told]
    assert np.isnan(rewards[0]) and rewards[1:] == [4.0, 4.0]


def test_ends_are_told_apart():
    _, played = play([Counter(4), Counter(4, truncates=True), Counter(100)], most=6)
    assert [one.end for one in played] == ["terminated", "truncated", "cut"]
    assert [one.episode.terminated for one in played] == [True, False, False]
    assert [one.length for one in played] == [4, 4, 6]


@pytest.mark.parametrize(("ends", "kept"), [(4, 2), (5, 2), (6, 3), (1, 1)])
def test_half_a_decision_counts_where_the_episode_ends_and_not_where_it_is_cut_off(ends, kept):
    _, (cut, ended) = play([Counter(ends, truncates=True), Counter(ends)])
    assert len(cut.episode.reward) == len(cut.episode.action) == kept
    assert len(cut.episode.observation) == kept + 1
    assert len(ended.episode.reward) == -(-ends // 2)
    assert cut.length == ended.length == ends and cut.score == ended.score == 2.0 * ends


def test_those_that_have_ended_wait_for_the_others():
    counted = []
    actor, played = play(
        [Counter(2), Counter(6)], decided=lambda decisions, steps: counted.append((decisions, steps)) or True
    )
    assert [active for _, _, active in actor.told] == [[True, True], [False, True], [False, True]]
    assert counted == [(2, 4), (1, 2), (1, 2)]
    assert [len(one.episode.reward) for one in played] == [1, 3]


def test_a_round_can_be_given_up():
    _, played = play([Counter(50)], decided=lambda decisions, steps: False)
    assert played is None


def test_a_reward_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="at environment step 0 of an episode: reward is nan"):
        play([Counter(4, pays=float("nan"))])
