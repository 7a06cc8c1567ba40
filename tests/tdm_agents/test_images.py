"""Images among observations: where they lie, in what layout, and who may read them."""

import numpy as np
import pytest
from gymnasium import spaces

from tdm_agents import TDMAgent, make_planner
from tdm_agents.protocols import reads_images
from tdm_agents.spaces import ObservationCodec
from tdm_agents.spaces.images import image_columns, images_of
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.spaces.spec_json import spec_from_json, spec_to_json
from tdm_agents.testing import LinearQuadraticModel
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config
from tdm_agents.world_models.tdmpc2.tdmpc2_model import TDMPC2
from tdm_agents.wrappers import WithValue

BOX = spaces.Box(-1, 1, (2,))


def pictures(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "size", "channels"),
    [
        ((84, 84), (84, 84), 1),
        ((64, 48, 3), (64, 48), 3),
        ((3, 64, 48), (64, 48), 3),
        ((4, 84, 84), (84, 84), 4),  # stacked grey frames
        ((64, 64, 9), (64, 64), 9),
        ((3, 64, 48, 3), (64, 48), 9),  # Gymnasium's FrameStackObservation
        ((3, 3, 64, 48), (64, 48), 9),
    ],
)
def test_the_layout_is_read_from_the_shape(shape, size, channels):
    (image,) = images_of(pictures(*shape))
    assert (image.height, image.width) == size and image.channels == channels
    assert image.scalars == np.prod(shape)


def test_images_are_found_inside_other_spaces():
    space = spaces.Dict({"a": BOX, "b": spaces.Tuple([pictures(50, 40, 3), spaces.Discrete(3)])})
    (image,) = images_of(space)
    columns = image_columns(space, 2 + 6000 + 3)
    assert image.first == 2 and columns.sum() == 6000 and columns[2:6002].all()
    assert not images_of(spaces.Box(0, 255, (128,), np.uint8))  # bytes, but no picture


def test_a_picture_stays_bytes():
    codec = ObservationCodec(pictures(40, 40), images=True)
    seen = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    assert codec.dtype == np.uint8
    np.testing.assert_array_equal(codec.flatten(seen), seen.ravel().astype(np.float32))
    np.testing.assert_array_equal(codec.flatten_batch(seen[None], 1)[0], codec.flatten(seen))
    beside = ObservationCodec(spaces.Dict({"a": BOX, "b": pictures(40, 40)}), images=True)
    assert beside.dtype == np.float32
    flat = beside.flatten({"a": np.array([0.5, -0.25]), "b": seen})
    assert flat[:2].tolist() == [0.5, -0.25] and (flat[2:] == seen.ravel()).all()


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (spaces.Box(0, 1, (64, 64, 3)), r"read as bytes with 2 to 4 axes; expected uint8 .*TransformObs"),
        (pictures(2, 2, 3, 64, 64), "read as bytes with 2 to 4 axes"),
        (pictures(1200, 1200), "1,440,000 numbers; expected at most 1,048,576: .*ResizeObservation"),
    ],
)
def test_what_no_model_reads_is_refused_with_the_remedy(space, sentence):
    with pytest.raises(ValueError, match=sentence):
        ObservationCodec(space, images=True)


def test_who_reads_images_says_so():
    assert reads_images(TDMPC2) and not reads_images(LinearQuadraticModel())
    spec = spec_of(pictures(64, 64, 3), BOX, images=True)
    assert spec_from_json(spec_to_json(spec)).observation_space == spec.observation_space
    model = TDMPC2(spec, TDMPC2Config(width=16, latent=16, encoder_width=16))
    agent = TDMAgent(model, make_planner("mppi", horizon=2, num_samples=8), seed=0)
    agent.reset()
    assert BOX.contains(agent.act(pictures(64, 64, 3).sample()))
    assert reads_images(WithValue(model, lambda observation: observation[:, 0]))
    with pytest.raises(
        ValueError, match=r"looks like images.*give the agent the environment's state instead"
    ):
        spec_of(pictures(64, 64, 3), BOX)
