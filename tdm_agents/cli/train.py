"""``tdm train``: a world model from Minari data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
import tyro
from rich.console import Console

from tdm_agents.checkpoint import AgentSettings, settings_of, write_settings
from tdm_agents.cli.checks import output_folder, usable_device
from tdm_agents.data.trajectories import Trajectories
from tdm_agents.data.windows import WindowSampler
from tdm_agents.protocols import ModelSpec
from tdm_agents.registry import make_planner
from tdm_agents.storage import CheckpointError, read_json, write_json
from tdm_agents.training import checkpoint
from tdm_agents.training.config import TrainConfig
from tdm_agents.training.held_out import Learner
from tdm_agents.training.trainer import TrainResult, train
from tdm_agents.world_models.mlp import MLPConfig, MLPWorldModel
from tdm_agents.world_models.spec_json import spec_to_json
from tdm_agents.world_models.transformer.model import TransformerWorldModel
from tdm_agents.world_models.transformer.presets import PRESETS
from tdm_envs.rewards import known_rewards

SCHEMA = 1
RUN_FILE = "run.json"


@dataclass(frozen=True)
class Train:
    """Train a world model. The same command again goes on where it stopped.

    Attributes:
        data: Minari data sets (folders or ids), all with the same spaces.
        out: Folder of the run: checkpoints, TensorBoard events and, at the end, the model.
        model: Kind of world model.
        preset: Size and tokens of a transformer.
        mlp: Size of an MLP.
        action_repeat: Environment steps a decision.
        init_from: Folder of a trained model to start from; same kind, size and spaces.
        held_out_fraction: Episodes kept for evaluation.
        data_seed: Of the held-out choice and of the order of the training windows.
        device: Where to train, for example ``cpu`` or ``cuda``.
        planner: Planner that ``agent.json`` names, so that the folder can be evaluated and loaded at once.
        known_reward: Whether ``agent.json`` names the task's own reward function, where ``tdm_envs`` has it;
            otherwise the agent maximises the predicted reward.
        training: Updates, learning rate, evaluation.
    """

    data: tuple[Path, ...]
    out: Path
    model: Literal["transformer", "mlp"] = "transformer"
    preset: Literal[tuple(PRESETS)] = "small"  # type: ignore[valid-type]
    mlp: MLPConfig = field(default_factory=MLPConfig)
    action_repeat: int = 4
    init_from: Path | None = None
    held_out_fraction: float = 0.05
    data_seed: int = 0
    device: str = "cpu"
    planner: str = "mppi"
    known_reward: bool = True
    training: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def run(args: Train, *, console: Console | None = None) -> TrainResult:
    """Do what ``tdm train`` says.

    Raises:
        DataError: If the data are missing or do not fit together.
        ValueError: If ``args.out`` cannot be written to or holds another run or other files, or a setting
            makes no sense.
        CheckpointError: If ``args.init_from`` is not a model that fits.
        TrainingError: If a loss or gradient is not finite.
        FolderInUseError: If another process writes to ``args.out``.
        SystemExit: On Ctrl-C, with code 130, after saying how to go on.
    """
    console = console if console is not None else Console(stderr=True)
    make_planner(args.planner)  # an unknown name fails now, not after the training
    device = usable_device(args.device)
    output_folder(args.out)
    _check_ours(args.out)
    trajectories = Trajectories.from_minari(list(args.data), action_repeat=args.action_repeat)
    training, held_out = trajectories.split(args.held_out_fraction, args.data_seed)
    model = build_model(args, training)
    if args.init_from is not None:
        start_from(model, args.init_from)
    _claim(args, trajectories, model)
    console.print(
        f"{training.num_decisions:,} decisions in {training.num_episodes} episodes to train on, "
        f"{held_out.num_episodes} held out; {sum(p.numel() for p in model.parameters()):,} parameters"
    )
    sampler = WindowSampler(
        training,
        steps=args.training.window_steps,
        batch_size=args.training.batch_size,
        seed=args.data_seed,
    )
    learner = cast(Learner, model.to(device))
    result = train(learner, sampler, held_out, args.training, args.out, console=console)
    if result.interrupted:
        raise SystemExit(130)  # as shells report Ctrl-C, so that `tdm train && ...` stops too
    write_settings(args.out, agent_settings(args, trajectories.info.env_id))
    console.print(
        f"the agent is in {args.out}: TDMAgent.load({str(args.out)!r}), or "
        f"tdm evaluate --checkpoint {args.out}; curves: tensorboard --logdir {args.out}"
    )
    return result


def agent_settings(args: Train, env_id: str) -> AgentSettings:
    """How to plan with what was trained.

    Raises:
        LookupError: If there is no such planner.
    """
    planner = make_planner(args.planner)
    known = args.known_reward and env_id in known_rewards()
    return settings_of(planner, env_id if known else None, env_id or None)


def spec_of(trajectories: Trajectories) -> ModelSpec:
    """The spec of a model of the environment that the data are from."""
    info = trajectories.info
    return ModelSpec(
        observation_space=info.observation_space,
        action_space=info.action_space,
        observation_dim=trajectories.observation_dim,
        action_dim=trajectories.action_dim,
        action_repeat=info.action_repeat,
        terminates=trajectories.terminates,
    )


def build_model(args: Train, trajectories: Trajectories) -> MLPWorldModel | TransformerWorldModel:
    """A new model of the data's environment, its normaliser or tokenizer fitted to them."""
    spec = spec_of(trajectories)
    if args.model == "mlp":
        mlp = MLPWorldModel(spec, args.mlp, seed=args.training.seed)
        mlp.fit(trajectories)
        return mlp
    # PyTorch's initialisers draw from the global state: seed a copy of it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.training.seed)
        transformer = TransformerWorldModel(spec, PRESETS[args.preset])
    transformer.fit(trajectories)
    return transformer


def start_from(model: MLPWorldModel | TransformerWorldModel, folder: Path) -> None:
    """Give ``model`` the weights, and the normaliser or tokenizer, of the trained model in ``folder``.

    Raises:
        CheckpointError: If there is none, or it differs in kind, size or spaces; the message says in what.
    """
    other = type(model).load(folder)
    differences = _differences(
        {"config": asdict(other.config), "spec": spec_to_json(other.spec)},
        {"config": asdict(model.config), "spec": spec_to_json(model.spec)},
    )
    if differences:
        raise CheckpointError(
            f"--init-from {folder} does not fit: {differences[0]}; fine-tuning needs the same kind and size "
            "of model (--model, --preset, --mlp) and data of an environment with the same spaces"
        )
    model.load_state_dict(other.state_dict())


def _check_ours(folder: Path) -> None:
    """Refuse a folder that holds files but no run; what a killed start of one leaves is no obstacle."""
    if not folder.exists() or (folder / RUN_FILE).exists() or checkpoint.exists(folder):
        return
    leftover = re.compile(rf"\.lock|\.{re.escape(RUN_FILE)}\..*\.partial")
    names = (path.name for path in folder.iterdir() if not leftover.fullmatch(path.name))
    others = sorted(names, key=lambda name: (name.startswith("."), name))
    if others:
        raise ValueError(
            f"--out {folder} holds {others[0]!r} and no run of tdm train; choose another --out, "
            "or empty this folder"
        )


def _claim(args: Train, trajectories: Trajectories, model: MLPWorldModel | TransformerWorldModel) -> None:
    """Write down what the run in ``args.out`` is, or check that it is this one."""
    init_from = None
    if args.init_from is not None:
        init_from = read_json(args.init_from / "model.json", schema=1)["sha256"]
    description = {
        "schema": SCHEMA,
        "data": list(trajectories.info.source),
        "model": args.model,
        "config": asdict(model.config),
        "spec": spec_to_json(model.spec),
        "init_from": init_from,
        "held_out_fraction": args.held_out_fraction,
        "data_seed": args.data_seed,
    }
    path = args.out / RUN_FILE
    if not path.exists():
        write_json(path, description)
        return
    differences = _differences(read_json(path, schema=SCHEMA), description)
    if differences:
        raise ValueError(
            f"{args.out} holds another run: {differences[0]}; go on with its own settings, "
            "or choose another --out"
        )


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], where: str = "") -> list[str]:
    found: list[str] = []
    for name in sorted({*there, *here}):
        a, b = there.get(name), here.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differences(a, b, f"{where}{name}.")
        elif (list(a) if isinstance(a, tuple) else a) != (list(b) if isinstance(b, tuple) else b):
            found.append(f"{where}{name} is {a!r} there and {b!r} here")
    return found
