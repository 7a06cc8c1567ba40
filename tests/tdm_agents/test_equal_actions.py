"""An agent acts the same in every loop: `evaluate_policy`, plain loops, vector loops in each mode.

Every loop plays the same episodes of cartpole-swingup, cut short: the same agent seed, the same first states.
What the environments executed is compared, bit by bit, with the first loop of the same number of environments
that tells the agent the same (`predict` and `evaluate_policy` tell it no rewards, which the TDM reads and the
simulator does not).
"""

import numpy as np
import pytest
from every_loop import ENV_ID, Course, loops

from tdm_agents import SimulatorModel, TDMAgent
from tdm_agents.agent.agent_files import load_model, resolve
from tdm_envs.suite import batched_task
from tdm_planners.mppi import MPPI

ACTION_REPEAT = 4
EPISODES = 2
PLANNER = {"iterations": 2, "noise_beta": 2.0, "initial_std": 0.5}
SHORT = {"steps": 6, "horizon": 2, "num_samples": 4}
LONG = {"steps": 24, "horizon": 4, "num_samples": 8}

# the long ones take up to 15 seconds each
sizes = pytest.mark.parametrize(
    ("batch", "size"),
    [(1, SHORT), (2, SHORT), *(pytest.param(batch, LONG, marks=pytest.mark.slow) for batch in (1, 2, 3))],
    ids=["1 short", "2 short", "1 long", "2 long", "3 long"],
)


class CommonMPPI(MPPI):
    """MPPI whose noise is the same in every environment, however many there are."""

    def noise(self, shape, generator, dtype):
        return super().noise((1, *shape[1:]), generator, dtype).expand(tuple(shape))


class Arena:
    """Where all loops play: courses and a model, made once."""

    def __init__(self, model, batch, size, planner=MPPI):
        self.steps = size["steps"]
        self.courses = [Course(row, self.steps) for row in range(batch)]
        self.planner = planner(horizon=size["horizon"], num_samples=size["num_samples"], **PLANNER)
        self.tdm = load_model(resolve("cartpole-swingup"), "cpu") if model == "tdm" else None

    def play(self, loop, courses=None):
        """What the courses execute when an agent of the same seed acts in this loop: a list per episode."""
        courses = self.courses if courses is None else courses
        for course in courses:
            course.restart()
        imagining = self.tdm
        if imagining is None:
            imagining = SimulatorModel(list(courses), ACTION_REPEAT, fast=batched_task(ENV_ID))
        agent = TDMAgent(imagining, self.planner, seed=0, reward_function=ENV_ID)
        loop.play(agent, courses, EPISODES)
        return [course.episodes[: course.whole] for course in courses]


def assert_equal(found, reference):
    """Compares every episode that both played, bit by bit, and returns how many actions that were."""
    pairs = [
        (action, expected)
        for own, others in zip(found, reference, strict=True)
        for episode, other in zip(own, others, strict=False)  # ``evaluate`` plays one episode
        for action, expected in zip(episode, other, strict=True)
    ]
    np.testing.assert_array_equal(*zip(*pairs, strict=True))
    return len(pairs)


@sizes
@pytest.mark.parametrize("model", ["simulator", "tdm"])
def test_a_sampling_planner_acts_the_same_in_every_loop_of_a_batch_size(model, batch, size):
    arena = Arena(model, batch, size)
    references, played = {}, set()
    for loop in loops():
        if loop.single and batch > 1:
            continue
        found = arena.play(loop)
        told = loop.rewards and model == "tdm"  # the simulator reads none
        episodes = 1 if loop.name == "evaluate" else EPISODES
        count = assert_equal(found, references.setdefault(told, found))
        assert count == batch * episodes * arena.steps, loop
        played.add((loop.name, loop.mode, loop.rewards))
    assert len(played) == (15 if batch == 1 else 12)


@pytest.mark.parametrize(
    ("batch", "size"),
    [(2, SHORT), pytest.param(3, LONG, marks=pytest.mark.slow)],
    ids=["2 short", "3 long"],
)
def test_with_the_simulator_an_environment_is_acted_in_as_if_alone(batch, size):
    """In a learned model rounding differs with the number of rows, so that near ties may fall differently."""
    arena = Arena("simulator", batch, size, planner=CommonMPPI)
    wanted = [loop for loop in loops() if not (loop.single or loop.rewards)]
    assert len(wanted) == 5
    for loop in wanted:
        alone = [arena.play(loop, [course])[0] for course in arena.courses]
        for count in range(2, batch + 1):
            found = arena.play(loop, arena.courses[:count])
            assert assert_equal(found, alone[:count]) == count * EPISODES * arena.steps


def test_other_news_are_seen():
    """That equal actions say something: what differs is found."""
    arena = Arena("tdm", 1, SHORT)
    plain = [loop for loop in loops() if loop.name == "act, plain loop"]
    assert [loop.rewards for loop in plain] == [False, True]
    untold, told = map(arena.play, plain)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_equal(told, untold)
