"""The recurrent state-space model as a world model: contracts, imagination, what it learns, presets."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tdm_agents.data.decisions import Decisions
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import History, ModelSpec, Step, UpdateSettings
from tdm_agents.registry import make_planner
from tdm_agents.storage import CheckpointError
from tdm_agents.testing import (
    LinearQuadraticModel,
    check_trainable_model,
    check_world_model,
    recorded_episodes,
)
from tdm_agents.training.model_choice import trainable_class, with_settings
from tdm_agents.training.prediction import prediction_error
from tdm_agents.world_models.learned import identity
from tdm_agents.world_models.rssm.rssm_config import DREAMER_V2, RSSMConfig
from tdm_agents.world_models.rssm.rssm_model import RSSMWorldModel

TINY = RSSMConfig(deterministic=8, hidden=8, latents=3, classes=4, units=8, layers=1)
SMALL = RSSMConfig(deterministic=32, hidden=32, latents=8, classes=8, units=32, layers=1)
TRUE = LinearQuadraticModel()
DATA = recorded_episodes(64)


def untrained(config=TINY, spec=None, **changes):
    return RSSMWorldModel(dataclasses.replace(spec or DATA.spec, **changes), config)


def history(rows=3, steps=4, *, discrete=False):
    generator = torch.Generator().manual_seed(5)
    action = torch.rand(rows, steps - 1, 1, generator=generator) * 2 - 1
    return History(
        observation=torch.randn(rows, steps, 2, generator=generator),
        reward=torch.full((rows, steps), torch.nan),
        action=(action > 0).long() if discrete else action,
        length=torch.tensor([steps, 1, steps - 1]),
    )


# -- contracts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"imagination": "mean"},
        {"imagination": "mode"},
        {"imagination": "sample"},
        {"imagines_observations": False},
        {"learning_rate": 1e-2, "grad_clip": 100.0},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_it_keeps_the_contract_of_learned_models(changes):
    check_trainable_model(RSSMWorldModel, config=dataclasses.replace(TINY, **changes))


@pytest.mark.parametrize("terminates", [False, True])
@pytest.mark.parametrize("imagination", ["mean", "mode", "sample"])
@pytest.mark.parametrize("observed", [True, False])
def test_it_keeps_the_contract_of_world_models(terminates, imagination, observed):
    config = dataclasses.replace(TINY, imagination=imagination, imagines_observations=observed)
    model = untrained(config, terminates=terminates)
    assert model.spec.imagines_observations is observed and model.spec.history_steps == 12
    check_world_model(model, history())


def test_it_keeps_the_contract_with_discrete_actions():
    spec = LinearQuadraticModel(choices=3).spec
    check_world_model(untrained(spec=spec), history(discrete=True))
    check_trainable_model(
        RSSMWorldModel, config=TINY, data={"levels": recorded_episodes(model=LinearQuadraticModel(choices=3))}
    )


# -- imagination ---------------------------------------------------------------------------------------------


def test_latents_are_drawn_from_the_prior():
    model = untrained(dataclasses.replace(TINY, imagination="sample"))
    rows, action = torch.zeros(20_000, dtype=torch.int64), torch.full((20_000, 1), 0.5)
    state = model.take(model.start(history(), horizon=1), rows)
    deterministic, latent = state.read()
    with torch.no_grad():
        prior = model.networks.prior(model.networks.recur(deterministic[:1], latent[:1], action[:1]))[0]
    after, _ = model.step(state, action, generator=torch.Generator().manual_seed(0))
    found = after.read()[1].view(-1, 3, 4)
    assert ((found == 0) | (found == 1)).all() and (found.sum(-1) == 1).all()
    torch.testing.assert_close(found.mean(0), prior.softmax(-1), rtol=0, atol=0.02)


@pytest.mark.parametrize("imagination", ["mean", "mode"])
def test_without_samples_nothing_is_drawn(imagination):
    model = untrained(dataclasses.replace(TINY, imagination=imagination))
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    model.step(model.start(history(), horizon=1), torch.zeros(3, 1), generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_the_whole_history_counts_up_to_the_context():
    model = untrained()
    recent = history(steps=4)
    whole = dataclasses.replace(recent, length=torch.full((3,), 4))
    earlier = whole.observation.clone()
    earlier[:, 0] += 1.0
    moved = dataclasses.replace(whole, observation=earlier)
    one, two = (model.start(h, horizon=1).read()[0] for h in (whole, moved))
    assert ((one - two).abs().amax(dim=1) > 1e-4).all()


@pytest.mark.parametrize("imagination", ["mean", "mode", "sample"])
def test_nan_stays_nan(imagination):
    model = untrained(dataclasses.replace(TINY, imagination=imagination))
    broken = history()
    broken.observation[1, -1] = torch.nan
    _, step = model.step(model.start(broken, horizon=1), torch.zeros(3, 1))
    assert step.reward.isnan().tolist() == [False, True, False]


def test_a_consumed_state_is_refused_with_the_remedy():
    model = untrained()
    state = model.start(history(), horizon=2)
    model.step(state, torch.zeros(3, 1))
    with pytest.raises(RuntimeError, match=r"consumed.*take\(\)"):
        model.take(state, torch.tensor([0]))


# -- what it learns ------------------------------------------------------------------------------------------


def trained(config, data=DATA, steps=300):
    model = RSSMWorldModel(data.spec, config)
    model.fit({"any": data})
    settings = UpdateSettings(steps=steps, learning_rate=1e-2, warmup_steps=20)
    optimizers, sampler = model.optimizers(settings), WindowSampler(data, steps=8, batch_size=32, seed=0)
    for index in range(steps):
        generator = torch.Generator().manual_seed(index)
        model.update(sampler.batch(index), optimizers, step=index, settings=settings, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def with_observations():
    return trained(SMALL)


@pytest.fixture(scope="module")
def without_observations():
    return trained(dataclasses.replace(SMALL, imagines_observations=False))


class NothingChanges:
    """Imagines that everything stays as it is."""

    spec = DATA.spec

    def start(self, history, *, horizon):
        return history.observation[:, -1], history.reward[:, -1]

    def step(self, state, action, *, generator=None):
        return state, Step(*state, torch.ones(len(action), dtype=torch.bool))


def errors(model):
    return prediction_error(model, recorded_episodes(32, seed=9), horizons=(1, 5, 10))


def played(planner, model=None, *, decisions=12, batch=8):
    """The mean return in the true system, of a planner on a model or of random actions."""
    generator = torch.Generator().manual_seed(0)
    seen = [torch.rand((batch, 2), generator=torch.Generator().manual_seed(5)) * 2 - 1]
    rewards, actions = [torch.full((batch,), torch.nan)], [torch.zeros(batch, 1)]
    carry = None if model is None else planner.init(model.spec, batch)
    for t in range(decisions):
        if model is None:
            action = torch.rand((batch, 1), generator=generator) * 2 - 1
        else:
            past = History(
                torch.stack(seen, 1),
                torch.stack(rewards, 1),
                torch.stack(actions, 1)[:, 1:],
                torch.full((batch,), t + 1),
            )
            state, elapsed = model.start(past, horizon=planner.horizon), torch.full((batch,), min(t, 1))
            plan = planner.plan(model, state, carry, elapsed=elapsed, generator=generator)
            carry, action = plan.carry, plan.action
        now = TRUE.start(History.of_observation(seen[-1], action_dim=1), horizon=1)
        _, step = TRUE.step(now, action)
        seen.append(step.observation)
        rewards.append(step.reward)
        actions.append(action)
    return float(torch.stack(rewards[1:]).sum(0).mean())


@pytest.mark.parametrize("imagination", ["mean", "sample"])
def test_its_open_loop_error_beats_that_nothing_changes(with_observations, imagination):
    model = RSSMWorldModel(with_observations.spec, dataclasses.replace(SMALL, imagination=imagination))
    model.load_state_dict(with_observations.state_dict())
    found, still = errors(model.eval()), errors(NothingChanges())
    for name in ("rms@1", "rms@5", "rms@10", "reward_rms@5", "reward_rms@10"):
        assert found[name] < 0.8 * still[name], name


def test_the_mean_of_latents_imagines_closer_than_their_modes(with_observations):
    found = {}
    for imagination in ("mean", "mode"):
        model = RSSMWorldModel(with_observations.spec, dataclasses.replace(SMALL, imagination=imagination))
        model.load_state_dict(with_observations.state_dict())
        found[imagination] = errors(model.eval())["rms@10"]
    assert found["mean"] < 0.5 * found["mode"]


def test_a_planner_on_it_beats_random_actions(with_observations):
    planner = make_planner("mppi", horizon=6, num_samples=64)
    assert played(planner, with_observations) > 0.1 * played(None)  # returns are negative


def test_without_a_decoder_it_imagines_rewards_and_a_planner_beats_random_actions(without_observations):
    found = errors(without_observations)
    assert not [name for name in found if not name.startswith("reward")]
    assert found["reward_rms@5"] < 0.8  # 1: the mean of the data
    planner = make_planner("mppi", horizon=6, num_samples=64)
    assert played(planner, without_observations) > 0.5 * played(None)


def ending_episodes(seed=0):
    """Episodes that end where the position leaves [-1, 1]."""
    parts, offsets = [], [0]
    whole = recorded_episodes(128, seed=seed)
    for episode in map(whole.episode, range(whole.num_episodes)):
        outside = np.abs(episode.observation[:, 0]) > 1.0
        steps = int(outside.argmax()) + 1 if outside.any() else len(outside)
        if steps < 2:
            continue
        alive, action = ~outside[:steps], episode.action[:steps].copy()
        action[-1] = 0
        parts.append((episode.observation[:steps], episode.reward[:steps], action, alive))
        offsets.append(offsets[-1] + steps)
    flat = Decisions(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return Trajectories.from_arrays(flat, offsets=np.array(offsets), info=whole.info)


def test_it_learns_where_episodes_end():
    data = ending_episodes()
    assert data.spec.terminates
    model, held_out = trained(SMALL, data), ending_episodes(seed=1)
    right = ended = count = 0
    for episode in map(held_out.episode, range(held_out.num_episodes)):
        if (steps := len(episode.observation)) < 3:
            continue
        now = History(
            torch.from_numpy(episode.observation[None, : steps - 1]),
            torch.from_numpy(episode.reward[None, : steps - 1]),
            torch.from_numpy(episode.action[None, : steps - 2]),
            torch.tensor([steps - 1]),
        )
        action = torch.from_numpy(episode.action[steps - 2 : steps - 1])
        _, step = model.step(model.start(now, horizon=1), action)
        right += bool(step.alive) == bool(episode.alive[-1])
        ended += not episode.alive[-1]
        count += 1
    assert count > 50 and ended > 25
    assert right > 0.85 * count


# -- presets and settings ------------------------------------------------------------------------------------


def test_it_is_trained_by_name():
    assert trainable_class("rssm") is RSSMWorldModel
    assert list(RSSMWorldModel.presets()) == ["default", "dreamer-v2"]
    config = with_settings("rssm", RSSMConfig(), {"latents": 4, "learning_rate": 1e-3})
    assert config == RSSMConfig(latents=4, learning_rate=1e-3)
    assert identity(RSSMConfig(imagination="sample")) == identity(
        RSSMConfig()
    )  # what was learned is the same


def test_the_papers_preset_has_the_papers_sizes():
    spec = ModelSpec(spaces.Box(-1.0, 1.0, (24,)), spaces.Box(-1.0, 1.0, (6,)), 24, 6)
    model = RSSMWorldModel(spec, RSSMWorldModel.presets()["dreamer-v2"].config)

    def perceptron(inputs, outputs):
        return inputs * 400 + 400 + 3 * (400 * 400 + 400) + (400 * outputs + outputs if outputs else 0)

    feature = 200 + 32 * 32
    wanted = (
        perceptron(24, 0)
        + (1024 + 6) * 200
        + 200  # before the recurrent unit
        + 400 * 600
        + 600  # its gates
        + 2 * 600  # their normalisation
        + (200 * 200 + 200 + 200 * 1024 + 1024)  # prior
        + (600 * 200 + 200 + 200 * 1024 + 1024)  # posterior
        + perceptron(feature, 24)
        + perceptron(feature, 1)
        + perceptron(feature, 1)
    )
    assert sum(p.numel() for p in model.parameters()) == wanted == 4_435_274


def one_update(config, settings):
    model, sampler = untrained(config), WindowSampler(DATA, steps=6, batch_size=8, seed=0)
    model.fit({"any": DATA})
    optimizers = model.optimizers(settings)
    generator = torch.Generator().manual_seed(0)
    numbers = model.update(sampler.batch(0), optimizers, step=900, settings=settings, generator=generator)
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    return numbers, optimizers, float(norm)


def test_it_has_an_optimizer_of_its_own_only_where_its_settings_say_so():
    run = UpdateSettings(steps=1000, learning_rate=0.5, grad_clip=1e-3)
    numbers, optimizers, norm = one_update(TINY, run)
    assert list(optimizers) == ["adamw"] and numbers["learning_rate"] == pytest.approx(run.rate(900))
    assert norm == pytest.approx(1e-3, rel=1e-3)
    own = dataclasses.replace(TINY, learning_rate=DREAMER_V2.learning_rate, grad_clip=DREAMER_V2.grad_clip)
    numbers, optimizers, norm = one_update(own, run)
    assert list(optimizers) == ["adam"] and numbers["learning_rate"] == 3e-4
    assert optimizers["adam"].param_groups[0]["weight_decay"] == 0
    assert 1e-3 < norm == pytest.approx(numbers["gradient_norm"], rel=1e-4)
    assert DREAMER_V2.grad_clip == 100


def test_it_is_trained_under_bfloat16_too():
    numbers, _, _ = one_update(TINY, UpdateSettings(bf16=True))
    plain, _, _ = one_update(TINY, UpdateSettings())
    assert numbers["loss"] == pytest.approx(plain["loss"], rel=0.1) and numbers["loss"] != plain["loss"]


def test_data_of_another_size_are_refused():
    with pytest.raises(ValueError, match="observations have 2 scalars; the model expects 4"):
        untrained(spec=LinearQuadraticModel(2).spec).fit({"any": DATA})


def test_a_file_of_another_type_is_refused(tmp_path):
    untrained().save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace('"rssm"', '"mlp"'))
    with pytest.raises(CheckpointError, match="of type 'mlp'; expected 'rssm'"):
        RSSMWorldModel.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"latents": 0}, "latents is 0; expected at least 1"),
        ({"classes": 1}, "classes is 1; expected at least 2"),
        ({"imagination": "dream"}, "imagination is 'dream'; expected 'sample', 'mean' or 'mode'"),
        ({"kl_balance": 1.5}, "kl_balance is 1.5; expected 0 to 1"),
        ({"kl_scale": -1.0}, "kl_scale is -1.0; expected at least 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; expected more than 0, or None"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        RSSMConfig(**settings)
