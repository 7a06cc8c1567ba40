"""A study of seconds: two collections, an MLP and a fine-tuned one, and three contestants on a cartpole."""

from dataclasses import replace

from tdm_agents.actors.behaviour import RandomPolicy
from tdm_agents.collection.dataset_spec import DatasetSpec
from tdm_agents.environments import EnvRef
from tdm_agents.studies.stages import Collect, Evaluate, Figure, Plan, Protocol, Recipe, Study, Train
from tdm_agents.training.train_config import TrainConfig

ENV = EnvRef.parse("dm_control/cartpole-swingup-v0")
TRAINING = TrainConfig(
    steps=40,
    batch_size=4,
    window_steps=4,
    checkpoint_every=10,
    evaluate_every=20,
    evaluate_batches=1,
    horizons=(1,),
    starts=2,
    context_steps=1,
)
RECIPE = Recipe(
    model="mlp", settings={"hidden": 8}, action_repeat=4, training=TRAINING, held_out_fraction=0.3
)
PLANNER = "planner=random_shooting horizon=2 num_samples=4"
PROTOCOL = Protocol(episodes=4, batch=2, max_steps=12)


def episodes(seed):
    return DatasetSpec(env=ENV, mix=((RandomPolicy(), 4),), action_repeat=4, seed=seed, max_steps=40)


def plan(*, recipe=RECIPE, planner=PLANNER, protocol=PROTOCOL, seed=0):
    everywhere = {"envs": (ENV,), "protocol": protocol}
    return Plan(
        stages=(
            Collect(name="data", datasets=(episodes(seed),)),
            Collect(name="more", datasets=(episodes(seed + 1),)),
            Train(name="first", data=("data",), recipe=recipe),
            Train(name="second", data=("more",), recipe=replace(recipe, data_seed=1), init_from="first"),
            Evaluate(name="random", label="random", line="random", role="random", **everywhere),
            Evaluate(
                name="simulator",
                label="true dynamics",
                line=f"simulator action_repeat=4 {planner}",
                role="simulator",
                reference="simulator",
                **everywhere,
            ),
            Evaluate(
                name="planned", label="MLP", line=f"{{second}} {planner}", reference="simulator", **everywhere
            ),
        ),
        figure=Figure(title="Tiny"),
    )


def study(**changes):
    return Study(name="tiny", paper="none", question="Does it run?", plan=lambda _size: plan(**changes))
