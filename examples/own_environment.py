"""An environment of your own, from its file (``drive.py``, beside this one) to an agent that is compared.

python examples/own_environment.py    # a few minutes; the second time it goes on, or has nothing to do

Every call of ``tdm`` below is the same on the command line, in the folder of ``drive.py``:
``tdm collect --env-id "drive:Drive-v0 wind=0.5" ...``.
"""

from pathlib import Path

import tyro

from tdm_agents.cli.main import main as command_line

ENV_ID = "drive:Drive-v0 wind=0.5"  # module:ID, and the arguments that gymnasium.make takes
ALONE = ["--planner-episodes", 0, "--action-repeat", 1]  # there is no simulator to plan with
FEW = ["--held-out-fraction", "0.2", "--horizons", "1", "5", "--starts", "16", "--context-steps", "1"]


def tdm(*words: object) -> None:
    """Run a command of ``tdm``.

    Raises:
        SystemExit: If it fails; it has said why.
    """
    if status := command_line([str(word) for word in words]):
        raise SystemExit(status)


def main(out: Path = Path("runs/drive"), episodes: int = 100, steps: int = 2000, play: int = 5) -> None:
    """Collect random episodes, train a small model of them, and compare its agent with random actions.

    Args:
        out: Folder of everything that is made.
        episodes: Random episodes to learn from.
        steps: Updates of the model.
        play: Episodes of each contestant.
    """
    data, model = out / "data", out / "model"
    tdm("collect", "--env-id", ENV_ID, "--random-episodes", episodes, *ALONE, "--out", data)
    tdm(
        "train",
        "--data",
        data,
        "--model",
        "mlp",
        "--action-repeat",
        1,
        "--steps",
        steps,
        *FEW,
        "--out",
        model,
    )
    agent = f"{model} planner=cem horizon=15 num_samples=64 label=agent"
    against = ["--entry", "random", "--env-id", ENV_ID]
    tdm("compare", "--entry", agent, *against, "--episodes", play, "--out", out / "compared")


if __name__ == "__main__":
    tyro.cli(main)
