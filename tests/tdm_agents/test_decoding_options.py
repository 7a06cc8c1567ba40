"""Decoding options are set and changed by name, and read from files old and new."""

import copy
import json
import pickle
from dataclasses import asdict, fields, replace

import pytest
import torch
from small_transformer import make_history, make_model

from tdm_agents.agent.agent_files import load_model, resolve
from tdm_agents.world_models.transformer.config import TransformerConfig
from tdm_agents.world_models.transformer.decoding.options import DecodingOptions

OTHER = DecodingOptions(
    read="sample",
    mean_window=3,
    reward_window=2,
    action_window=5,
    parallel=True,
    capture="eager",
    attention="products",
    bf16=False,
)
"""No option as it is by default."""
OLD = replace(OTHER, bf16=DecodingOptions().bf16, reward_window=OTHER.mean_window, action_window=0)
"""As far as an old file can say it: rewards were read as observations are, actions by the likeliest token."""
OLD_DEFAULT = DecodingOptions(reward_window=DecodingOptions().mean_window, action_window=0)


def test_every_option_is_another_than_by_default():
    assert all(getattr(OTHER, f.name) != getattr(DecodingOptions(), f.name) for f in fields(DecodingOptions))


def flat(config):
    """The JSON of settings as it was before options had a place of their own."""
    settings = asdict(config)
    options = settings.pop("decoding")
    del options["bf16"], options["reward_window"], options["action_window"]  # came later
    return settings | {"decoding": options.pop("read")} | options


@pytest.mark.parametrize(
    ("write", "options"),
    [(asdict, DecodingOptions()), (asdict, OTHER), (flat, OLD_DEFAULT), (flat, OLD)],
)
def test_settings_are_read_from_old_and_new_files(write, options):
    config = TransformerConfig(layers=2, context=77, decoding=options, max_action=4)
    assert TransformerConfig.from_json(json.loads(json.dumps(write(config)))) == config


@pytest.mark.parametrize("name", ["decoding", "parallel", "capture", "attention", "mean_window"])
def test_an_old_file_may_lack_an_option(name):
    settings = flat(TransformerConfig(decoding=OLD))
    del settings[name]
    found = asdict(TransformerConfig.from_json(settings).decoding)
    option = "read" if name == "decoding" else name
    expected = asdict(OLD) | {option: getattr(DecodingOptions(), option)}
    assert found == expected | {"reward_window": expected["mean_window"]}


def test_a_setting_of_another_name_is_refused():
    nested = asdict(TransformerConfig())
    with pytest.raises(TypeError, match="parallel"):
        TransformerConfig.from_json(nested | {"parallel": True})
    with pytest.raises(TypeError, match="colour"):
        TransformerConfig.from_json(nested | {"decoding": {"colour": 1}})


def test_the_bundled_checkpoint_is_read_as_it_was_written():
    folder = resolve("cartpole-swingup")
    written = json.loads((folder / "model.json").read_text())["config"]
    assert (written["decoding"], written["mean_window"]) == ("mean", 16)  # of an old file
    model = load_model(folder)
    assert model.config.decoding == DecodingOptions(
        read="mean", mean_window=16, reward_window=16, action_window=0
    )


def test_options_are_no_part_of_what_a_model_is():
    marked = {f.name for f in fields(TransformerConfig) if not f.metadata.get("identity", True)}
    assert marked == {"decoding"}


def test_options_are_changed_by_name_and_can_be_changed_back():
    model = make_model(parallel=True, bf16=None)
    other = model.with_decoding(read="sample", capture="eager")
    assert other.config.decoding == DecodingOptions(read="sample", parallel=True, capture="eager")
    assert model.config.decoding == DecodingOptions(parallel=True)
    automatic = other.with_decoding(parallel=None)
    assert automatic.config.decoding == DecodingOptions(read="sample", capture="eager")
    with pytest.raises(TypeError, match="colour"):
        model.with_decoding(colour=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"read": "meen"}, "read is 'meen'; expected one of sample, mode, mean"),
        ({"mean_window": -1}, "mean_window is -1; expected at least 0"),
        ({"capture": "graph"}, "capture is 'graph'; expected one of no, eager, compiled"),
        ({"attention": "flash"}, "attention is 'flash'; expected one of fused, products"),
    ],
)
def test_options_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make_model().with_decoding(**change)


def imagined(model):
    history = make_history(model, [3])
    state = model.take(model.start(history, horizon=3), torch.zeros(4, dtype=torch.int64))
    return model.rollout(state, torch.linspace(-1, 1, 12).view(4, 3, 1)).observation


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_decodes_with_its_own_weights(copied):
    model = make_model(read="mean")
    before, other = imagined(model), copied(model)
    assert list(other.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        other.network.head.weight.neg_()
    assert torch.equal(imagined(model), before)
    assert not torch.equal(imagined(other), before)


def test_a_decoder_is_of_the_parts_that_a_model_has_now():
    model, trained = make_model(seed=0), make_model(seed=1)
    other = model.with_decoding(parallel=True)
    model.load_state_dict(trained.state_dict())
    assert torch.equal(imagined(model), imagined(trained))
    assert torch.equal(imagined(other), imagined(trained.with_decoding(parallel=True)))
    model.network.double()
    assert model.start(make_history(model, [2]), horizon=1).history.layers[0].dtype == torch.float64


def test_a_reward_is_the_expected_one_unless_a_window_is_asked_for():
    """Where 0 is most likely, a window around it would not see that more is likely, too."""
    model = make_model()
    bins = model.config.tokenizer.bins
    centres = torch.linspace(0.0, 1.0, bins)
    probability = torch.full((bins,), 1e-9)
    probability[0], probability[-1] = 0.6, 0.4
    network = copy.deepcopy(model.network).requires_grad_(False)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[:, 0] = probability.log()
    hidden = torch.zeros((1, model.network.config.width))
    hidden[0, 0] = 1.0
    decoder = replace(model.decoder, network=network, weights=None)
    for window, expected in ((bins, 0.4), (1, 0.0)):
        found = decoder.read(hidden, centres, None, window=window)
        assert float(found) == pytest.approx(expected, abs=1e-6)
    history, actions = make_history(model, [3, 2]), torch.zeros((2, 1, model.spec.action_dim))
    rewards = []
    for asked in (None, bins, 1):
        other = model.with_decoding(reward_window=asked)
        rewards.append(other.rollout(other.start(history, horizon=1), actions).reward)
    assert torch.equal(rewards[0], rewards[1]) and not torch.equal(rewards[0], rewards[2])
