"""Which spaces an agent plans over, with which planners, and what it says about the others."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FlattenObservation
from gymnasium.wrappers.vector import FlattenObservation as FlattenObservations

from tdm_agents import TDMAgent, make_planner
from tdm_agents.protocols import ModelSpec, Proposal, Step
from tdm_agents.spaces import ObservationCodec
from tdm_agents.spaces.actions import action_codec

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
PLANNERS = ["random_shooting", "cem", "mppi", "proposal_shooting", "beam_search", "policy"]


class Still:
    """A world of given spaces in which nothing moves, and low actions earn most."""

    def __init__(self, observation_space, action_space):
        codec = action_codec(action_space)
        choices = getattr(codec, "choices", ())
        self.spec = ModelSpec(
            observation_space=observation_space,
            action_space=action_space,
            observation_dim=ObservationCodec(observation_space).dim,
            action_dim=codec.dim,
            action_kind="discrete" if choices else "continuous",
            action_choices=choices,
        )
        self.seen = None

    def start(self, history, *, horizon):
        self.seen = history.observation[:, -1].clone()
        return self.seen

    def step(self, state, action, *, generator=None):
        return state, Step(state, -action.float().sum(dim=1), torch.ones(len(state), dtype=torch.bool))

    def take(self, state, rows):
        return state[rows]

    def propose(self, state, count, *, generator=None, deterministic=False):
        kind = torch.int64 if self.spec.action_choices else torch.float32
        return Proposal(torch.zeros(len(state), count, self.spec.action_dim, dtype=kind))


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Discrete(4, start=-2),
        spaces.MultiDiscrete([3, 2], start=[1, -1]),
        spaces.MultiDiscrete([[2, 3], [4, 2]]),
        spaces.Box(np.float32([[0, -4]]), np.float32([[2, 8]])),
        spaces.Box(-3, 5, (2,), np.int64),
    ],
)
def test_every_planner_acts_in_the_space_and_finds_its_best_action(name, space):
    model = Still(BOX, space)
    agent = TDMAgent(model, make_planner(name, horizon=1), seed=0)
    agent.reset()
    action = agent.act(BOX.sample())
    assert action in space
    if isinstance(space, spaces.Discrete):
        assert action == space.start
    elif isinstance(space, spaces.MultiDiscrete) and name != "random_shooting":  # which may not draw it
        np.testing.assert_array_equal(action, space.start)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2, 1, 3)),
        spaces.Discrete(3, start=5),
        spaces.MultiDiscrete([[3, 2]]),
        spaces.MultiBinary((2, 2)),
        spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple([BOX, spaces.MultiBinary(2)])}),
        spaces.Tuple([spaces.Dict({"x": BOX}), spaces.Box(-np.inf, np.inf, (), np.float64)]),
    ],
)
def test_what_the_model_sees_is_gymnasiums_flatten_in_float32(space):
    model = Still(space, BOX)
    agent = TDMAgent(model, make_planner("random_shooting", horizon=1))
    agent.reset()
    space.seed(0)
    obs = space.sample()
    agent.act(obs)
    assert model.seen.dtype == torch.float32
    np.testing.assert_array_equal(model.seen[0], np.float32(spaces.flatten(space, obs)))


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (BOX, spaces.Box(-np.inf, np.inf, (2,)), "infinite bounds.*TransformAction"),
        (BOX, spaces.Tuple([BOX, spaces.Discrete(2)]), "mixed kinds.*merge the parts into one Box"),
        (BOX, spaces.Dict({"a": BOX}), "mixed kinds.*TransformAction"),
        (BOX, spaces.MultiBinary(2), r"use MultiDiscrete\(\[2\] \* n\)"),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), BOX, "looks like images.*environment's state instead"),
        (spaces.Dict({"a": spaces.Box(0, 1, (3, 64, 64))}), BOX, r"\['a'\].*looks like images"),
        (spaces.Sequence(BOX), BOX, "no fixed number of scalars; .*TransformObservation"),
    ],
)
def test_what_cannot_be_planned_over_is_refused_at_construction(observation_space, action_space, message):
    model = Still(BOX, BOX)
    model.spec = ModelSpec(observation_space, action_space, observation_dim=2, action_dim=2)
    with pytest.raises(ValueError, match=message):
        TDMAgent(model, make_planner("cem"))


NESTED = spaces.Dict(
    {
        "speed": spaces.Box(-5.0, 5.0, (2, 2), np.float32),
        "gear": spaces.Discrete(3, start=1),
        "lamps": spaces.Tuple((spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3]))),
    }
)


class Observes(gym.Env):
    """Shows a random observation of its space at every step."""

    def __init__(self, observation_space):
        self.observation_space, self.action_space = observation_space, BOX

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def seen_by(space, env, act):
    """What the model sees in three steps of an environment."""
    model = Still(space, BOX)
    agent = TDMAgent(model, make_planner("random_shooting", horizon=1, num_samples=2), seed=0)
    env, seen = act(agent, env), []
    obs, _ = env.reset(seed=3)
    for _ in range(3):
        action = agent.act(obs)
        seen.append(model.seen.clone())
        obs, *_ = env.step(action)
    return torch.stack(seen)


FLATTENED = [NESTED, NESTED["lamps"], spaces.Box(-5, 5, (2, 3)), spaces.MultiDiscrete([2, 3])]


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("space", FLATTENED, ids=lambda space: type(space).__name__)
def test_a_flattened_observation_is_the_same_observation(space, attached):
    act = (lambda agent, env: agent.attach(env)) if attached else (lambda agent, env: agent.reset() or env)
    plain = seen_by(space, Observes(space), act)
    torch.testing.assert_close(seen_by(space, FlattenObservation(Observes(space)), act), plain)
    assert plain.abs().sum() > 0


@pytest.mark.parametrize("space", [*FLATTENED, spaces.Discrete(3)], ids=lambda space: type(space).__name__)
def test_flattened_observations_of_several_environments_are_the_same(space):
    several = [SyncVectorEnv([lambda: Observes(space)] * 2) for _ in range(2)]
    assert several[0].metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    flat = FlattenObservations(several[1])
    if isinstance(space, spaces.Discrete):
        with pytest.raises(ValueError, match="observation_space of the environment is Box"):
            seen_by(space, flat, lambda agent, env: agent.attach(env))
        return
    plain, flat = (seen_by(space, env, lambda agent, env: agent.attach(env)) for env in (several[0], flat))
    torch.testing.assert_close(flat, plain)
    assert plain.shape[1] == 2


def test_a_vector_of_another_length_is_no_flattened_observation():
    codec = ObservationCodec(NESTED)
    with pytest.raises(ValueError, match="observation is an array; expected a dict"):
        codec.flatten(np.zeros(codec.dim + 1, np.float32))
    with pytest.raises(ValueError, match=r"scalar \S+ is nan"):
        codec.flatten(np.array([0.0, np.nan, *np.zeros(codec.dim - 2)], np.float32))
    with pytest.raises(ValueError, match="observation_space of the environment is"):
        TDMAgent(Still(NESTED, BOX), make_planner("random_shooting")).attach(
            Observes(spaces.Box(-1, 1, (codec.dim,)))
        )
