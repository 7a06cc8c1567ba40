"""World models that are trained by name."""

import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents.cli.main import main
from tdm_agents.errors import UnknownNameError
from tdm_agents.protocols import ModelSpec
from tdm_agents.training.learners import learner_class, make_learner
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel

SPEC = ModelSpec(spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-1.0, 1.0, (2,)), 3, 2)


def test_a_learner_is_made_by_name_with_its_settings_and_defaults():
    model = make_learner("mlp", SPEC, {"hidden": 8}, seed=1)
    assert isinstance(model, MLPWorldModel)
    assert model.config == MLPConfig(hidden=8) and model.spec.observation_dim == 3


def test_a_setting_that_does_not_exist_lists_those_that_do():
    with pytest.raises(TypeError, match=r"world model 'mlp' has no setting 'width'; it has hidden, layers"):
        make_learner("mlp", SPEC, {"width": 8}, seed=0)


def test_what_cannot_be_trained_is_refused_with_what_it_lacks():
    with pytest.raises(TypeError, match=r"'simulator' cannot be trained .*SimulatorModel has no config_type"):
        learner_class("simulator")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no world model named 'mlpp'; did you mean 'mlp'\?"):
        learner_class("mlpp")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "transfomer"], "did you mean 'transformer'?"),
        (["--model", "simulator"], "'simulator' cannot be trained by name"),
        (["--model", "mlp", "--model-settings", "hidden", "8"], "mlp has --mlp.hidden and --mlp.layers"),
        (["--model-settings", "size", "8"], "transformer has --preset"),
    ],
)
def test_the_command_refuses_before_it_reads_data(options, message, tmp_path, capsys):
    assert main(["train", "--data", "nowhere", "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
