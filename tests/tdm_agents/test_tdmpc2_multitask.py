"""TD-MPC2 of several environments: masks, padding, embeddings, and the contracts."""

from dataclasses import replace

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from torch._subclasses.fake_tensor import FakeTensorMode

from tdm_agents import TDMAgent, make_planner
from tdm_agents.agent.agent_files import settings_of, write_settings
from tdm_agents.agent.discounts import undecided
from tdm_agents.protocols import Batch, History, MixedBatch, UpdateSettings
from tdm_agents.spaces.model_spec import spec_of
from tdm_agents.storage import CheckpointError
from tdm_agents.testing import (
    LinearQuadraticModel,
    check_trainable_model,
    check_world_model,
    recorded_episodes,
)
from tdm_agents.world_models.tdmpc2.multitask import MultitaskConfig, MultitaskTDMPC2
from tdm_agents.world_models.tdmpc2.sizes import TDMPC2Config, discount_of
from tdm_agents.world_models.tdmpc2.tdmpc2_model import TDMPC2

TINY = MultitaskConfig(encoder_width=16, width=16, latent=16, members=3, task_size=8)
FEW = {"num_samples": 24, "num_policy": 4, "num_elites": 8, "iterations": 2}


def box(size):
    return spaces.Box(-1.0, 1.0, (size,))


SPECS = {"A-v0": spec_of(box(3), box(2)), "B-v0": spec_of(box(5), box(1), terminates=True)}


def model_of(specs=SPECS, config=TINY, *, seed=0):
    return MultitaskTDMPC2(specs, config, seed=seed)


def stirred(model):
    networks, seeded = model.networks, torch.Generator().manual_seed(3)
    with torch.no_grad():
        for last in (networks.q.weights[-1], networks.target_q.weights[-1], networks.reward[-1].weight):
            last.normal_(std=0.5, generator=seeded)
    return model


def batch_of(spec, rows, *, steps=4, seed=0):
    seeded = torch.Generator().manual_seed(seed)
    yes = torch.ones(rows, steps, dtype=torch.bool)
    acted = yes.clone()
    acted[:, -1] = False
    return Batch(
        observation=torch.randn(rows, steps, spec.observation_dim, generator=seeded),
        reward=torch.randn(rows, steps, generator=seeded),
        action=torch.rand(rows, steps, spec.action_dim, generator=seeded) * 2 - 1,
        alive=yes,
        valid=yes.clone(),
        acted=acted,
    )


def test_the_contract_of_learned_models():
    data = {"one": recorded_episodes(), "two": recorded_episodes(model=LinearQuadraticModel(2), seed=1)}
    check_trainable_model(MultitaskTDMPC2, config=TINY, data=data, updates=60, learning_rate=3e-3)


@pytest.mark.parametrize("name", SPECS)
def test_the_world_of_each_task_keeps_the_contract_of_world_models(name):
    world = stirred(model_of()).environment(name)
    now = torch.randn(3, world.spec.observation_dim, generator=torch.Generator().manual_seed(0))
    check_world_model(world, History.of_observation(now, action_dim=world.spec.action_dim))
    assert world.spec.terminates == (name == "B-v0")


def test_the_papers_multitask_model_of_five_million_has_exactly_so_many_weights(monkeypatch):
    # its appendix counts the parts of the 5M model of 80 tasks, with 39 observation and 6 action scalars
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda weight, **_: weight)
    specs = {f"T{i}-v0": spec_of(box(39), box(6)) for i in range(80)}
    with FakeTensorMode(allow_non_fake_inputs=True):
        networks = model_of(specs, MultitaskConfig()).networks

    def count(part):
        return sum(p.numel() for p in part.parameters())

    parts = (
        networks.encoder,
        networks.dynamics,
        networks.reward,
        networks.policy,
        networks.q,
        networks.tasks,
    )
    assert [count(part) for part in parts] == [167_936, 843_264, 631_397, 582_668, 3_156_985, 7_680]
    assert sum(map(count, parts)) == 5_389_930


def test_actions_that_a_task_has_no_actuator_for_are_zero_and_count_for_nothing():
    model = stirred(model_of())
    networks, task = model.networks, torch.tensor([0, 1, 1])
    told = networks.told(torch.rand(3, 4, 16), task)
    drawn = networks.acting(told, task, generator=torch.Generator().manual_seed(0))
    assert (drawn.action[1:, :, 1] == 0).all() and (drawn.action[0] != 0).all()
    mean, raw = networks.policy.network(told).chunk(2, dim=-1)
    std = (-10.0 + 6.0 * (torch.tanh(raw) + 1.0)).exp()
    theirs = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, std), torch.distributions.TanhTransform(cache_size=1)
    )
    each = theirs.log_prob(drawn.action.clamp(-0.9999, 0.9999))
    torch.testing.assert_close(drawn.log_prob[1:], each[1:, :, 0], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(drawn.entropy[1:], -drawn.log_prob[1:])  # one action scalar, not two
    torch.testing.assert_close(drawn.entropy[0], -2 * drawn.log_prob[0])


@pytest.mark.parametrize("planner", ["mppi", "cem", "policy"])
def test_planners_plan_in_the_actions_of_the_task(planner):
    model = stirred(model_of())
    settings = {"mppi": {**FEW, "horizon": 3}, "cem": {"num_samples": 8, "horizon": 3}, "policy": {}}[planner]
    for name, size in (("A-v0", 2), ("B-v0", 1)):
        agent = TDMAgent(model.environment(name), make_planner(planner, **settings), seed=0)
        agent.reset()
        assert agent.act(SPECS[name].observation_space.sample()).shape == (size,)


def test_the_tasks_are_told_apart_by_their_vectors_alone():
    model = stirred(model_of({"A-v0": SPECS["A-v0"], "C-v0": SPECS["A-v0"]}))
    observation = torch.rand(4, 3)
    history = History.of_observation(observation, action_dim=2)

    def latents():
        worlds = (model.environment(name) for name in ("A-v0", "C-v0"))
        return [world.start(history, horizon=1).latent for world in worlds]

    one, other = latents()
    assert not torch.allclose(one, other)
    with torch.no_grad():
        model.networks.tasks.vectors[1] = model.networks.tasks.vectors[0]
    torch.testing.assert_close(*latents())


def test_a_mixed_batch_is_the_mean_over_its_windows():
    model = stirred(model_of())
    parts = {"A-v0": batch_of(SPECS["A-v0"], 6), "B-v0": batch_of(SPECS["B-v0"], 2, seed=1)}
    parts["B-v0"].alive[0, 2:] = False
    both, _ = model(MixedBatch(parts))
    each = [model(MixedBatch({name: part}))[0] for name, part in parts.items()]
    torch.testing.assert_close(both, (6 * each[0] + 2 * each[1]) / 8)
    torch.testing.assert_close(each[1], model.environment("B-v0")(parts["B-v0"])[0])


def test_each_task_has_the_discount_of_its_own_episodes():
    model = model_of()
    model.environment("A-v0").expect(500)
    model.environment("B-v0").expect(50)
    assert model.discount.tolist() == pytest.approx([discount_of(500), discount_of(50)])
    assert model.environment("B-v0").discount == pytest.approx(discount_of(50))


def test_vectors_stay_within_a_norm_of_one():
    model = model_of()
    with torch.no_grad():
        model.networks.tasks.vectors[0] *= 1000
    settings = UpdateSettings(steps=1)
    model.update(
        MixedBatch({"A-v0": batch_of(SPECS["A-v0"], 4)}),
        model.optimizers(settings),
        step=0,
        settings=settings,
        generator=torch.Generator().manual_seed(0),
    )
    assert model.networks.tasks.vectors.norm(dim=1).max() <= 1.0 + 1e-6


def test_an_agent_is_bound_to_its_environment(tmp_path):
    specs = {}
    for name in ("Pendulum-v1", "MountainCarContinuous-v0"):
        env = gym.make(name)
        specs[name] = spec_of(env.observation_space, env.action_space)
    model = model_of(specs)
    agent = TDMAgent(model.environment("Pendulum-v1"), make_planner("mppi", horizon=3, **FEW))
    model.save(tmp_path)
    from tdm_agents.agent.agent_files import settings_of, write_settings

    write_settings(tmp_path, settings_of(agent.planner, None, None))
    env = gym.make("MountainCarContinuous-v0")
    for bound in ({"env_id": "MountainCarContinuous-v0"}, {"env": env}):
        agent = TDMAgent.load(tmp_path, **bound)
        agent.reset()
        assert env.action_space.contains(agent.act(env.reset(seed=0)[0]))
    with pytest.raises(LookupError, match=r"env_id is None; expected one of .* Pendulum-v1, MountainCar"):
        TDMAgent.load(tmp_path)
    with pytest.raises(LookupError, match="env_id is 'InvertedPendulum-v5'; expected one of"):
        TDMAgent.load(tmp_path, env=gym.make("InvertedPendulum-v5"))


def test_a_model_goes_on_in_other_environments():
    source = model_of(seed=1)
    source.environment("B-v0").expect(50)
    other = {"B-v0": SPECS["B-v0"], "C-v0": spec_of(box(4), box(2), terminates=True)}
    model = MultitaskTDMPC2.build(other, TINY, seed=0, source=source)
    for name, weight in model.networks.named_parameters():
        if "tasks" not in name:
            assert torch.equal(weight, source.networks.get_parameter(name))
    vectors = model.networks.tasks.vectors
    assert torch.equal(vectors[0], source.networks.tasks.vectors[1])
    assert model.discount[0] == source.discount[1]
    with pytest.raises(ValueError, match="C-v0 has 6 observation scalars, the model room for 5"):
        MultitaskTDMPC2.build({"C-v0": spec_of(box(6), box(2))}, TINY, seed=0, source=source)
    with pytest.raises(CheckpointError, match="does not fit: it is a TDMPC2, not a MultitaskTDMPC2"):
        MultitaskTDMPC2.build(SPECS, TINY, seed=0, source=TDMPC2(SPECS["A-v0"]))


def test_what_one_model_cannot_learn_is_refused():
    choices = spec_of(box(3), spaces.Discrete(3))
    with pytest.raises(ValueError, match=r"C-v0 has discrete \(3,\) actions and A-v0 continuous"):
        model_of({**SPECS, "C-v0": choices})
    with pytest.raises(ValueError, match="max_action is 4, but choices have no room for more"):
        model_of({"C-v0": choices}, replace(TINY, max_action=4))
    same = model_of({"C-v0": choices, "D-v0": spec_of(box(2), spaces.Discrete(3))})
    agent = TDMAgent(same.environment("D-v0"), make_planner("mppi", horizon=3, **FEW))
    agent.reset()
    assert agent.act(box(2).sample()) in (0, 1, 2)
    with pytest.raises(ValueError, match=r"models several \(--model tdmpc2-multitask\)"):
        TDMPC2.build(SPECS, TDMPC2Config(), seed=0)
    with pytest.raises(ValueError, match="task_size is 0; expected at least 1"):
        MultitaskConfig(task_size=0)


def test_an_agent_of_several_environments_discounts_as_the_model_does_in_each(tmp_path):
    model = model_of()
    model.discount.copy_(torch.tensor([0.95, 0.99]))
    model.save(tmp_path)
    settings = settings_of(make_planner("mppi", horizon=3, discount=0.97), None, None)
    write_settings(tmp_path, settings)
    assert TDMAgent.load(tmp_path, env_id="A-v0").planner.discount == 0.97
    write_settings(tmp_path, undecided(settings))
    for name, known in {"A-v0": 0.95, "B-v0": 0.99}.items():
        assert TDMAgent.load(tmp_path, env_id=name).planner.discount == pytest.approx(known)
        assert TDMAgent.load(tmp_path, env_id=name, discount=0.5).planner.discount == 0.5
        for planner in ("mppi", "cem"):
            agent = TDMAgent.load(tmp_path, planner, env_id=name)
            assert agent.planner.discount == pytest.approx(known)
