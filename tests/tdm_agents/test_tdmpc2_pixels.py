"""TD-MPC2 from pictures: convolutions, random shift, sizes, and that it learns."""

import dots
import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_online import online, rows
from torch.nn import functional as F

from tdm_agents.protocols import History
from tdm_agents.spaces.images import images_of
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.testing import check_world_model
from tdm_agents.world_models.tdmpc2.activations import sim_norm
from tdm_agents.world_models.tdmpc2.pixel_encoder import as_images
from tdm_agents.world_models.tdmpc2.random_shift import shifted
from tdm_agents.world_models.tdmpc2.sizes import SIZES, TDMPC2Config
from tdm_agents.world_models.tdmpc2.tdmpc2_model import TDMPC2

TINY = TDMPC2Config(encoder_width=16, width=16, latent=16, members=2)
PICTURES = spaces.Box(0, 255, (3, 64, 64, 3), np.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(space=PICTURES, config=TINY, **of_spec):
    return TDMPC2(spec_of(space, spaces.Box(-1, 1, (2,)), images=True, **of_spec), config)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=seeded(seed), dtype=torch.uint8)


def test_the_encoder_of_the_paper_is_four_convolutions_and_sim_norm():
    model = model_of(config=SIZES["5m"])
    encoder = model.networks.encoder
    counts = [9 * 32 * 49 + 32, 32 * 32 * 25 + 32, 32 * 32 * 9 + 32, 32 * 32 * 9 + 32]
    assert [sum(p.numel() for p in c.parameters()) for c in encoder.convolutions[0][::2]] == counts
    assert sum(p.numel() for p in encoder.parameters()) == sum(counts) == 58_272
    seen = pixels(2, 36_864)
    x = seen.view(2, 3, 64, 64, 3).permute(0, 1, 4, 2, 3).reshape(2, 9, 64, 64).float() / 255 - 0.5
    for layer in encoder.convolutions[0][::2]:
        x = F.conv2d(
            F.relu(x) if layer is not encoder.convolutions[0][0] else x,
            layer.weight,
            layer.bias,
            layer.stride,
        )
    expected = sim_norm(x.flatten(1), 8)
    assert expected.shape == (2, 512)
    torch.testing.assert_close(model.networks.encoded(seen, None), expected)
    torch.testing.assert_close(model.networks.encoded(seen.float(), None), expected)


def test_pictures_of_other_sizes_and_a_vector_beside_them_are_read_too():
    space = spaces.Dict(
        {"camera": spaces.Box(0, 255, (3, 50, 70), np.uint8), "state": spaces.Box(-1, 1, (4,))}
    )
    model = model_of(space)
    encoder, images = model.networks.encoder, images_of(space)
    assert encoder.rest.tolist() == [10_500, 10_501, 10_502, 10_503] and images[0].first == 0
    observation = torch.cat([pixels(5, 10_500).float(), torch.rand(5, 4)], dim=1)
    latent = model.networks.encoded(observation, None)
    torch.testing.assert_close(latent.view(5, 2, 8).sum(dim=-1), torch.ones(5, 2))
    for column in (0, 10_502):  # both count
        other = observation.clone()
        other[:, column] += 200
        assert not torch.allclose(model.networks.encoded(other, None), latent)


def test_a_picture_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r"images of 32 x 40 pixels; expected at least 39 x 39: .*ResizeObs"):
        model_of(spaces.Box(0, 255, (32, 40, 3), np.uint8))
    model_of(spaces.Box(0, 255, (39, 39), np.uint8))


@pytest.mark.parametrize("shape", [(64, 48), (64, 48, 3), (3, 64, 48), (2, 64, 48, 3), (2, 3, 64, 48)])
def test_pictures_are_laid_out_by_their_axes(shape):
    (image,) = images_of(spaces.Box(0, 255, shape, np.uint8))
    flat = pixels(5, image.scalars)
    found = as_images(flat, image)  # [R, F, H, W, C]
    assert found.shape[2:4] == (64, 48)
    order = [axis + 1 for axis in image.axes if axis is not None]
    expected = flat.view(5, *shape).permute(0, *order)
    assert torch.equal(found.reshape(expected.shape), expected)


def test_each_picture_is_shifted_by_itself_and_its_edges_are_repeated():
    images = pixels(60, 2, 12, 10, 3)
    plain = shifted(images, None)
    assert torch.equal(plain, images.permute(0, 1, 4, 2, 3).reshape(60, 6, 12, 10))
    moved = shifted(images, seeded())
    assert torch.equal(moved, shifted(images, seeded())) and not torch.equal(
        moved, shifted(images, seeded(1))
    )
    padded = F.pad(plain.float(), (3, 3, 3, 3), mode="replicate").to(torch.uint8)
    found = set()
    for before, after in zip(padded, moved, strict=True):
        places = [
            (i, j)
            for i in range(7)
            for j in range(7)
            if torch.equal(before[:, i : i + 12, j : j + 10], after)
        ]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) > 25  # of 49


def test_the_contract_of_world_models():
    model = model_of(terminates=True)
    history = History.of_observation(pixels(3, 36_864).float(), action_dim=2)
    check_world_model(model, history)


def test_only_learning_shifts():
    model = model_of()
    observation = pixels(4, 2, 36_864)
    one, other = (model.networks.encoded(observation, None, generator=seeded(s)) for s in (0, 1))
    assert not torch.allclose(one, other)
    history = History.of_observation(observation[:, 0].float(), action_dim=2)
    starts = [model.start(history, horizon=1).latent for _ in range(2)]
    assert torch.equal(*starts)


@pytest.mark.parametrize("arguments", ["", " beside=true axes=chw"])
def test_any_environment_that_observes_pictures_can_be_learned(arguments, tmp_path):
    done = online(tmp_path, f"dots:dots/Dot-v0{arguments}", steps=40, seed_decisions=20, action_repeat=1)
    assert done.counts.updates == 40 and len(done.scores) == 2
    kept = np.load(tmp_path / "replay" / "image.npy", mmap_mode="r")
    assert kept.dtype == np.uint8 and kept.shape[1] == dots.SIDE**2 * (3 if arguments else 1)
    assert (tmp_path / "replay" / "observation.npy").exists() == bool(arguments)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_learns_from_pictures(tmp_path):
    settings = {"steps": 1200, "seed_decisions": 200, "action_repeat": 1, "max_steps": 20, "batch_size": 32}
    model = {"width": "64", "latent": "64", "encoder-width": "64"}
    done = online(tmp_path, "dots:dots/Dot-v0", model_settings=model, evaluate_every=10_000, **settings)
    untrained = [row["return"] for row in rows(tmp_path)["episodes"] if row["random"]]
    assert np.mean(done.scores) > np.mean(untrained) + 4, (done.scores, untrained)
