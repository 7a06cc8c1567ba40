"""Columns of observations by name, in reward functions of one's own."""

import pytest
import torch
from my_drive import LABELS, MyDrive

from tdm_agents import RewardFunction
from tdm_agents.protocols import History
from tdm_agents.protocols.columns import ColumnNames
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

FLAT = torch.arange(14.0).reshape(2, 7)
NESTED = ColumnNames(
    ["arm.tip[0, 0]", "arm.tip[0, 1]", "pole.cos", "hinge3_angle", "odd name[", "gear=-1", "7"]
)


@pytest.mark.parametrize(
    ("index", "columns"),
    [
        ("car", [0, 1, 2]),
        (("car",), [0, 1, 2]),
        (("car", 2), 2),
        ("car[2]", 2),
        (("gear", 1), 4),
        ("gear", [3, 4]),
        ("heading", [5, 6]),
    ],
)
def test_keys_and_indices_lead_to_columns(index, columns):
    assert torch.equal(ColumnNames(LABELS).of(FLAT)[index], FLAT[:, columns])


@pytest.mark.parametrize(
    ("index", "columns"),
    [
        ("arm", [0, 1]),
        (("arm", "tip", 0), [0, 1]),
        (("arm", "tip", 0, 1), 1),
        (("pole", "cos"), 2),
        ("hinge3_angle", 3),
        ("odd name[", 4),
        (("gear", -1), 5),
        ("7", 6),
    ],
)
def test_names_that_an_environment_gives_itself_are_names_too(index, columns):
    assert torch.equal(NESTED.of(FLAT)[index], FLAT[:, columns])


def test_it_is_a_tensor_otherwise_and_gives_plain_ones():
    named = ColumnNames(LABELS).of(FLAT)
    assert isinstance(named, torch.Tensor)
    for index in (0, (slice(None), 2), (slice(None), slice(1, 3)), (..., -1), FLAT[:, 0] > 3):
        assert torch.equal(named[index], FLAT[index]) and type(named[index]) is torch.Tensor
    assert type(named + 1) is type(named["car", 0]) is torch.Tensor
    assert named.data_ptr() == FLAT.data_ptr(), "it was copied"


@pytest.mark.parametrize("index", ["boat", ("car", 3), ("car", "x"), ("gear", 2)])
def test_a_name_that_is_not_there_is_answered_with_those_that_are(index):
    with pytest.raises(LookupError, match=r"no scalar \[.*it has car\[0\], car\[1\]"):
        ColumnNames(LABELS).of(FLAT)[index]


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(LookupError, match=r"no scalar \['heding'\]; did you mean 'heading'\? it has car"):
        ColumnNames(LABELS).of(FLAT)["heding"]


def test_a_reward_function_is_given_names():
    def slow(observation, action, next_observation):
        assert torch.equal(observation["heading"], observation[:, 5:])
        return -next_observation["car", 2].abs() - action[:, 1]

    env = MyDrive()
    model = RewardFunction(
        MLPWorldModel(spec_of(env.observation_space, env.action_space), MLPConfig(hidden=4)), slow
    )
    history = History.of_observation(torch.zeros(3, 7), action_dim=2)
    actions = torch.full((3, 2, 2), -1.0)  # a gas of 0, in the environment's units
    imagined = model.rollout(model.start(history, horizon=2), actions)
    assert torch.allclose(imagined.reward, -imagined.observation[..., 2].abs())
    assert type(imagined.observation) is torch.Tensor


def test_a_function_of_other_arguments_is_refused_when_it_is_given():
    env = MyDrive()
    model = MLPWorldModel(spec_of(env.observation_space, env.action_space), MLPConfig(hidden=4))
    with pytest.raises(TypeError, match=r"few\(observation, action\), which cannot be called with three"):

        def few(observation, action):
            return action[:, 0]

        RewardFunction(model, few)
