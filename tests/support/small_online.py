"""Online runs that take seconds."""

from pathlib import Path

from rich.console import Console

from tdm_agents.cli.online import Online, run
from tdm_agents.online.curve import CLOCKS, CURVE_FILE
from tdm_agents.online.online_config import OnlineConfig
from tdm_agents.storage import read_json

TINY = {"width": "16", "latent": "16", "encoder-width": "16"}
FEW = {"num-samples": "16", "num-policy": "4", "num-elites": "8", "iterations": "2"}
CONFIG = {
    "steps": 240,
    "seed_decisions": 40,
    "batch_size": 16,
    "max_steps": 40,
    "evaluate_every": 100,
    "evaluate_episodes": 2,
    "checkpoint_every": 20,
    "log_every": 10,
}


def online(out, env_id="Pendulum-v1", *, model="tdmpc2", console=None, **settings):
    """``tdm online`` with a small model; ``settings`` are of :class:`Online` or :class:`OnlineConfig`."""
    own = {name: settings.pop(name) for name in list(settings) if name in Online.__dataclass_fields__}
    if model in ("tdmpc2", "tdmpc2-multitask"):
        own = {"preset": "1m", "model_settings": TINY, "planner_settings": FEW} | own
    env_ids = (env_id,) if isinstance(env_id, str) else env_id
    arguments = Online(env_ids, Path(out), model, training=OnlineConfig(**CONFIG | settings), **own)
    return run(arguments, console=console or Console(quiet=True))


def words_of(out, *more):
    """The words of a small run on a command line."""
    words = ["online", "--env-id", "Pendulum-v1", "--out", str(out), "--preset", "1m"]
    for option, settings in (("--model-settings", TINY), ("--planner-settings", FEW)):
        words += [option, *(word for pair in settings.items() for word in pair)]
    for name, value in CONFIG.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return [*words, *more]


def rows(out):
    """The curve of a run without its clocks, which differ from run to run."""
    value = read_json(Path(out) / CURVE_FILE, schema=1)
    return {
        name: [{k: v for k, v in row.items() if k not in CLOCKS} for row in value[name]]
        for name in ("episodes", "evaluations")
    }


def result(out):
    """What two runs must have in common to the last bit: the curve, and the weights."""
    return rows(out), (Path(out) / "weights.safetensors").read_bytes()
