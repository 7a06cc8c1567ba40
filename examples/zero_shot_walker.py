"""Zero-shot: one model of several walkers plans in a body that it has never seen.

python examples/zero_shot_walker.py    # some minutes, most of them training

No generalist is shipped, so this script trains a tiny one first, on few episodes of few small bodies. That
shows how it is done, and not how well it can be done. ``tdm study zero-shot`` is the experiment in earnest,
of hours.
"""

from pathlib import Path
from typing import Any

import gymnasium as gym
import tyro

from tdm_agents import TDMAgent, evaluate, make_planner
from tdm_agents.actors.agents import AgentFactory
from tdm_agents.actors.contestant import Contestant
from tdm_agents.actors.functions import UniformActions
from tdm_agents.actors.simulators import true_dynamics
from tdm_agents.cli.main import main as command_line
from tdm_envs.walkers import sample_bodies, write_manifest

REPEAT = 2  # environment steps per decision
FEW = ["--held-out-fraction", "0.2", "--horizons", "1", "5", "--starts", "4", "--evaluate-batches", "1"]


def tdm(*words: object) -> None:
    """Run a command of ``tdm``.

    Raises:
        SystemExit: If it fails; it has said why.
    """
    if status := command_line([str(word) for word in words]):
        raise SystemExit(status)


def main(
    out: Path = Path("runs/zero_shot"),
    bodies: int = 6,
    episodes: int = 8,
    steps: int = 2000,
    length: int = 100,
) -> dict[str, float]:
    """Collect random episodes of some bodies, train on them, and play in another body.

    Args:
        out: Folder of everything that is made.
        bodies: Number of bodies to learn from.
        episodes: Random episodes of each of them.
        steps: Updates of the model.
        length: Environment steps per episode.

    Returns:
        The return of each player in the unseen body.
    """
    seen = sample_bodies("line", bodies, "train", seed=0, dof=(4, 5))
    (unseen,) = sample_bodies("line", 1, "test", seed=0, dof=(4, 5))
    manifest, data, model = out / "bodies.json", out / "data", out / "generalist"
    write_manifest(manifest, seen)
    played = ["--random-episodes", episodes, "--planner-episodes", 0, "--max-steps", length]
    tdm("collect", "--bodies", manifest, *played, "--action-repeat", REPEAT, "--out", data)
    updates = ["--steps", steps, "--batch-size", 6, "--window-steps", 8, "--context-steps", 6]
    # `policy` is what its folder names; the planner of this script is chosen below
    preset = ["--preset", "small-generalist", "--action-repeat", REPEAT, "--planner", "policy"]
    tdm("train", "--data", data, *preset, *updates, *FEW, "--out", model)

    def make() -> gym.Env[Any, Any]:
        return gym.make(unseen.env_id, dof=unseen.dof, body=unseen.body, max_episode_steps=length)

    planner = make_planner("mppi", horizon=6, num_samples=24, iterations=1)
    env = make()
    players: dict[str, Contestant] = {
        "generalist, zero-shot": TDMAgent.load(model, planner, env=env),
        "true dynamics": AgentFactory(true_dynamics(action_repeat=REPEAT), planner),
        "random actions": UniformActions(env.action_space, seed=0),
    }
    print(f"in {unseen}, which is not among the {bodies} that were learned from:")
    returns = {}
    for name, player in players.items():
        (returns[name],) = evaluate(player, make, seeds=[0]).scores
        print(f"  {name:22} return {returns[name]:.1f} of at most {length}")
    return returns


if __name__ == "__main__":
    tyro.cli(main)
