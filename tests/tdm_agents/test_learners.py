"""World models that are trained by name."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents.cli.main import main
from tdm_agents.errors import UnknownNameError
from tdm_agents.protocols import ModelSpec
from tdm_agents.training.model_choice import chosen_preset, trainable_class, with_settings
from tdm_agents.world_models.learned import identity
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.transformer.presets import CONFIGS

SPEC = ModelSpec(spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-1.0, 1.0, (2,)), 3, 2)
SMALL = CONFIGS["small"]


def test_a_model_is_built_by_name_with_its_settings_and_defaults():
    kind = trainable_class("mlp")
    config = with_settings("mlp", chosen_preset("mlp", kind, None).config, {"hidden": 8})
    model = kind.build({"any": SPEC}, config, seed=1)
    assert isinstance(model, MLPWorldModel)
    assert model.config == MLPConfig(hidden=8) and model.spec.observation_dim == 3


def test_a_setting_that_does_not_exist_lists_those_that_do():
    with pytest.raises(TypeError, match=r"world model 'mlp' has no setting 'width'; it has hidden, layers"):
        with_settings("world model 'mlp'", MLPConfig(), {"width": 8})


def test_settings_inside_settings_are_reached_by_their_path():
    changed = with_settings("it", SMALL, {"tokenizer.bins": 64, "layers": 2})
    assert changed == replace(SMALL, layers=2, tokenizer=replace(SMALL.tokenizer, bins=64))
    with pytest.raises(TypeError, match=r"'tokenizer' of it has settings of its own: tokenizer.observation"):
        with_settings("it", SMALL, {"tokenizer": 64})
    with pytest.raises(TypeError, match=r"tokenizer of it has no setting 'bin'"):
        with_settings("it", SMALL, {"tokenizer.bin": 64})
    with pytest.raises(TypeError, match=r"layers of it is 'many'; expected a value like 3"):
        with_settings("it", SMALL, {"layers": "many"})


def test_what_cannot_be_trained_is_refused_with_what_it_lacks():
    with pytest.raises(TypeError, match=r"'simulator' cannot be trained .*SimulatorModel has no config_type"):
        trainable_class("simulator")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no world model named 'mlpp'; did you mean 'mlp'\?"):
        trainable_class("mlpp")
    with pytest.raises(UnknownNameError, match=r"no preset 'smal'; did you mean 'small'\? it has small,"):
        chosen_preset("transformer", trainable_class("transformer"), "smal")


def test_how_to_compute_is_no_part_of_what_a_configuration_is():
    @dataclass(frozen=True)
    class Config:
        width: int = 8
        threads: int = field(default=1, metadata={"identity": False})

    assert identity(Config(threads=4)) == {"width": 8}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "transfomer"], "did you mean 'transformer'?"),
        (["--model", "simulator"], "'simulator' cannot be trained by name"),
        (["--model", "mlp", "--model-settings", "width", "8"], "it has hidden, layers"),
        (["--model-settings", "size", "8"], "world model 'transformer' has no setting 'size'"),
        (["--preset", "tiny"], "world model 'transformer' has no preset 'tiny'"),
        (["--model", "mlp", "--preset", "gato-79m"], "'mlp' has no preset 'gato-79m'; it has default"),
    ],
)
def test_the_command_refuses_before_it_reads_data(options, message, tmp_path, capsys):
    assert main(["train", "--data", "nowhere", "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
