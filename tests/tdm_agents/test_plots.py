import imageio.v2 as imageio
import numpy as np
import pytest

from tdm_agents.evaluation.plots import Moment, plot_episode
from tdm_agents.evaluation.records import Recording

REPEAT = 4


def a_recording(steps=80, n=3):
    time = np.linspace(0.0, 6.0, steps + 1, dtype=np.float32)
    return Recording(
        observation=np.stack([np.sin(time + i) for i in range(n)], axis=1),
        action=np.zeros((steps, 1), np.float32),
        reward=np.ones(steps, np.float32),
        planned_at=np.arange(0, steps, REPEAT),
        imagined=np.zeros((steps // REPEAT, 0, n), np.float32),
        value=np.zeros(steps // REPEAT, np.float32),
    )


def moment_at(step, horizon=5, taken=5, n=3):
    return Moment(step, np.zeros((horizon, n), np.float32), np.ones((taken, n), np.float32))


def draw(path, recording, moments, scalars, **rewards):
    rewards = rewards or {"agent": recording.reward}
    plot_episode(
        path, recording, moments, rewards, scalars=scalars, seconds_per_step=0.01, action_repeat=REPEAT
    )
    return imageio.imread(path)[..., :3]


def test_draws_a_picture_with_every_colour_it_promises(tmp_path):
    picture = draw(
        tmp_path / "new" / "plot.png", a_recording(), [moment_at(0), moment_at(40)], {"x": 0, "y": 2}
    )
    assert picture.shape[1] == 1440
    for colour in ((0xE4, 0x57, 0x2E), (0x2E, 0x86, 0xAB)):  # the prediction and the plan
        assert (np.abs(picture.astype(int) - colour).sum(axis=-1) < 12).any()


def test_what_was_imagined_changes_the_picture(tmp_path):
    recording, path = a_recording(), tmp_path / "plot.png"
    one = draw(path, recording, [moment_at(20)], {"x": 0})
    other = Moment(20, np.full((5, 3), 0.7, np.float32), np.ones((5, 3), np.float32))
    assert (one != draw(path, recording, [other], {"x": 0})).any()


def test_without_moments_the_episode_is_drawn_with_the_reason(tmp_path):
    recording = a_recording()
    settings = {"scalars": {"x": 0}, "seconds_per_step": 0.01, "action_repeat": REPEAT}
    pictures = []
    for reason in ("the model imagines no observations", "nobody asked"):
        path = tmp_path / f"{len(reason)}.png"
        plot_episode(path, recording, [], {"agent": recording.reward}, unseen=reason, **settings)
        pictures.append(imageio.imread(path)[..., :3])
    one, other = pictures
    assert one.shape == other.shape and (one != other).any()
    assert one.shape[0] < draw(tmp_path / "with.png", recording, [moment_at(0)], {"x": 0}).shape[0]


def test_every_scalar_adds_a_row(tmp_path):
    recording, path = a_recording(), tmp_path / "plot.png"
    assert (
        draw(path, recording, [moment_at(0)], {"x": 0}).shape
        < draw(path, recording, [moment_at(0)], {"x": 0, "y": 1}).shape
    )


def test_a_plan_may_reach_beyond_the_end_of_the_episode(tmp_path):
    draw(tmp_path / "plot.png", a_recording(), [moment_at(76, horizon=25, taken=1)], {"x": 0})


def test_players_may_have_episodes_of_different_lengths(tmp_path):
    recording = a_recording()
    draw(
        tmp_path / "plot.png",
        recording,
        [moment_at(0)],
        {"x": 0},
        agent=recording.reward,
        fallen=recording.reward[:7],
    )


@pytest.mark.parametrize(
    ("moments", "scalars"), [([], {"x": 0}), ([moment_at(0)], {}), ([moment_at(0)], {"x": 3})]
)
def test_refuses_what_cannot_be_drawn(tmp_path, moments, scalars):
    with pytest.raises(ValueError, match="expected"):
        draw(tmp_path / "plot.png", a_recording(), moments, scalars)
    assert not list(tmp_path.iterdir())
